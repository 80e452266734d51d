"""From checkpoint files to their evaluations, which are stored beside them or made now."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdkit_vae.config.foreign import ForeignModel
from rdkit_vae.config.trial import MOST_DRAWS, Trial, bind, import_code
from rdkit_vae.datasets import load_dataset, request_for, source_of
from rdkit_vae.errors import BadData, NotFinite, RdvaeError
from rdkit_vae.scoring.interpretations import SIGMAS
from rdkit_vae.scoring.scores import interpret
from rdkit_vae.store.evaluations import Evaluation, read_evaluation
from rdkit_vae.store.mirror import local
from rdkit_vae.store.models import models_below
from rdkit_vae.store.paths import statistics_beside, sweep_around
from rdkit_vae.store.results import results_frame
from rdkit_vae.system.devices import choose_device
from rdkit_vae.system.files import sha256_of

if TYPE_CHECKING:
    import pandas as pd

    from rdkit_vae.datasets.images import Images
    from rdkit_vae.store.checkpoints import Checkpoint

_EXAMPLE = "give a checkpoint, such as runs/NAME/checkpoints/RUN/epoch=00025.pt"


class NoImages(BadData):
    """The images of a checkpoint are missing, or are not those it was trained on."""


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How to evaluate a checkpoint, if that is necessary.

    Attributes:
        images: those it was trained on; None: the dataset that it names is loaded.
        data_dir, dataset: where to load them from, if they have moved since the sweep.
        device: `auto`, `cpu` or `cuda`.
        draws: posterior samples per image; None: the number that its trial sets.
        again: evaluate even if an evaluation of the checkpoint is stored.
    """

    images: "Images | None" = None
    data_dir: str | None = None
    dataset: str | None = None
    device: str = "auto"
    draws: int | None = None
    again: bool = False


def rescore(
    path: str | Path | Sequence[str | Path],
    sigma: str | Sequence[str] = SIGMAS,
    images: "Images | None" = None,
    *,
    data_dir: str | None = None,
    device: str = "auto",
    draws: int | None = None,
    architecture: str | None = None,
    objective: str | None = None,
) -> "pd.DataFrame":
    """Scores checkpoints under any interpretation of the decoder variance.

    The stored evaluation is used, without torch, if it was made from this exact file. Otherwise
    the checkpoint is evaluated now.

    Args:
        path: of a checkpoint, or of several; or a folder of models from elsewhere. Each may be a
            URL of an object store.
        sigma: names of interpretations.
        images: the dataset it was trained on; None: the dataset that it names is loaded.
        data_dir: folder of the dataset's files, if they have moved since the sweep.
        device: `auto`, `cpu` or `cuda`, if the model has to run.
        draws: evaluate now, with this many posterior samples per image.
        architecture, objective: your own network and loss as `package.module:name`, if the
            checkpoints name them. Once named, code is trusted until the process ends.

    Returns:
        The rows of results, with the columns of `store.schema.COLUMNS`.

    Raises:
        BadInput: an interpretation is unknown, or code was not named.
        BadData: a checkpoint or its images are missing or damaged.
    """
    import_code(architecture, objective)
    measuring = Measuring(images=images, data_dir=data_dir, device=device, draws=draws)
    given = [path] if isinstance(path, str | Path) else path
    paths = [each for one in given for each in models_below(local(str(one)))]
    sigmas = [sigma] if isinstance(sigma, str) else sigma
    rows = [row for each in paths for row in evaluation_of(each, measuring).rows(sigmas)]
    frame: pd.DataFrame = results_frame(rows)
    return frame


def evaluation_of(path: Path, measuring: Measuring) -> Evaluation:
    """The stored evaluation of a checkpoint if it was made from this exact file, else a new one.

    Raises:
        BadData: the checkpoint or its images are missing, the file has changed since its
            statistics were stored, or a statistic is not finite.
    """
    if path.suffix == ".parquet":
        return _stored(path, measuring)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "not a file" if path.exists() else "no such file"
        raise BadData(_foreign_folder(path) or f"{path}: {what}; {_EXAMPLE}")
    beside, reason = statistics_beside(path), ""
    if beside.exists() and not measuring.again and measuring.draws is None:
        try:
            stored = read_evaluation(beside)
        except BadData as error:
            reason = f" instead of {error}"
        else:
            _check_stored(path, beside, stored)
            return replace(stored, source="stored statistics")
    return replace(_measured(path, measuring), source=f"evaluated now{reason}")


def _stored(path: Path, measuring: Measuring) -> Evaluation:
    """The evaluation in a file of statistics, such as that of a model from elsewhere.

    Raises:
        BadData: the file cannot be read, or the model was to be evaluated.
    """
    if measuring.again or measuring.draws is not None:
        raise BadData(f"{path} holds statistics, not a model that could be evaluated now")
    stored = read_evaluation(path)
    _check_finite(path, stored)
    return replace(stored, source="stored statistics")


def _foreign_folder(path: Path) -> str | None:
    if not path.is_dir():
        return None
    from rdkit_vae.store.weights.kinds import foreign_message  # which needs torch

    return foreign_message(path, _EXAMPLE)


def _check_stored(path: Path, beside: Path, stored: Evaluation) -> None:
    """Checks that a stored evaluation was made from this checkpoint and is finite."""
    if stored.checkpoint_sha256 != sha256_of(path):
        from rdkit_vae.store.checkpoints import load_checkpoint

        load_checkpoint(path)  # a damaged file is reported as such
        raise BadData(
            f"{path} has changed since {beside} was written (its SHA-256 differs); evaluate it "
            "now with --evaluate"
        )
    _check_finite(path, stored)


def _check_finite(path: Path, stored: Evaluation) -> None:
    with named_if_not_finite(path):
        for split, measured in stored.statistics.items():
            measured.check_finite(split)


def _measured(path: Path, measuring: Measuring) -> Evaluation:
    from rdkit_vae.store.checkpoints import load_checkpoint

    checkpoint = load_checkpoint(path)
    draws = measuring.draws or checkpoint.trial.draws
    if draws > MOST_DRAWS:
        raise BadData(
            f"{path}: asks for {draws} posterior samples per image; set --draws to 1..{MOST_DRAWS}"
        )
    images = images_of(path, checkpoint, measuring)
    return evaluate_checkpoint(
        path, checkpoint, images, device=choose_device(measuring.device), draws=draws
    )


def evaluate_checkpoint(
    path: Path,
    checkpoint: "Checkpoint",
    images: "Images",
    *,
    device: str = "cpu",
    draws: int | None = None,
) -> Evaluation:
    """Evaluates a checkpoint that was loaded from a path.

    Raises:
        BadData: the model has diverged.
    """
    from rdkit_vae.evaluation.evaluate import environment, evaluate

    trial = checkpoint.trial
    with named_if_not_finite(path):
        statistics = evaluate(
            checkpoint.model().to(device),
            images,
            replace(trial, draws=draws or trial.draws),
            device=device,
        )
    return Evaluation(
        trial=trial,
        epoch=checkpoint.epoch,
        step=checkpoint.step,
        checkpoint_sha256=checkpoint.sha256,
        statistics=statistics,
        environment=environment(device),
    )


def discretized_masses(
    path: Path,
    evaluation: Evaluation,
    sigmas: Sequence[str],
    measuring: Measuring,
) -> Mapping[str, Mapping[str, Any]]:
    """-log of the mass of the grey levels, by split and interpretation with a single variance.

    Passes over the images again, with the posterior samples of the evaluation.

    Raises:
        BadData: as `evaluation_of`; or the number of grey levels is unknown.
    """
    from rdkit_vae.evaluation.evaluate import evaluate_discretized
    from rdkit_vae.store.checkpoints import load_checkpoint

    if isinstance(evaluation.trial, ForeignModel):
        raise BadData(
            f"{path}: the mass of grey levels needs the model, which is not in the folder; "
            "score it again with --adapter"
        )
    if any(measured.levels is None for measured in evaluation.statistics.values()):
        raise BadData(
            f"{path}: its statistics were written by an older rdvae, without the number of grey "
            "levels; evaluate it now with --evaluate"
        )
    sigma2 = variances_of(evaluation, sigmas)
    checkpoint, device = load_checkpoint(path), choose_device(measuring.device)
    images, model = images_of(path, checkpoint, measuring), checkpoint.model().to(device)
    trial = replace(evaluation.trial, draws=evaluation.draws)
    with named_if_not_finite(path):
        return evaluate_discretized(model, images, trial, sigma2, device=device)


def variances_of(evaluation: Evaluation, sigmas: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The variances of the interpretations that have a single one, by split and interpretation."""
    sigma2: dict[str, dict[str, Any]] = {split: {} for split in evaluation.statistics}
    for each in interpret(evaluation.statistics, evaluation.trial, sigmas):
        if each.is_gaussian:
            sigma2[each.split][each.sigma] = each.sigma2
    return sigma2


@contextmanager
def named_if_not_finite(path: Path) -> Iterator[None]:
    """Adds the path of the checkpoint to the error about a number that is not finite.

    Raises:
        BadData: in the place of `NotFinite`.
    """
    try:
        yield
    except NotFinite as error:
        raise BadData(f"{path}: {error}; the model has diverged") from error


def images_of(path: Path, checkpoint: "Checkpoint", measuring: Measuring) -> "Images":
    """The images that the checkpoint loaded from `path` was trained on.

    Raises:
        NoImages: they are missing, or have changed.
        BadData: their shape or grey levels are not those in the checkpoint.
    """
    trial = checkpoint.trial
    try:
        images = measuring.images or _load(
            measuring.dataset or trial.dataset,
            measuring.data_dir or _remembered(path, trial, measuring),
            trial.image_size,
        )
        bind(trial, images.sha256)
    except RdvaeError as error:
        advice = "give another place with --dataset"
        raise NoImages(f"{path} needs its images: {error}; {advice}") from error
    if (images.shape, images.levels) != (checkpoint.shape, checkpoint.levels):
        raise BadData(
            f"{path}: damaged checkpoint (its images have the shape {checkpoint.shape} and "
            f"{checkpoint.levels} levels, {trial.dataset} has {images.shape} and {images.levels}); "
            "train it again with the same sweep command"
        )
    return images


def _remembered(path: Path, trial: Trial, measuring: Measuring) -> str | None:
    """The folder that the sweep around a checkpoint read its images from, if it is needed."""
    if measuring.dataset is not None:
        return None
    request = request_for(trial.dataset, image_size=trial.image_size)  # with RDVAE_DATA
    if source_of(trial.dataset).find(request) is not None:
        return None
    sweep = sweep_around(path)
    folder = sweep.data_dir() if sweep else None
    return None if folder is None else str(folder)


@functools.lru_cache(maxsize=1)  # checkpoints of one sweep share their dataset
def _load(name: str, data_dir: str | None, image_size: int | None) -> "Images":
    return load_dataset(name, data_dir=data_dir, image_size=image_size)
