"""From checkpoint files to their evaluations: what is stored beside them, or measured now."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdkit_vae.config.trial import MOST_DRAWS, Trial, bind
from rdkit_vae.datasets import load_dataset, request_for, source_of
from rdkit_vae.errors import BadData, NotFinite, RdvaeError
from rdkit_vae.models import import_architecture
from rdkit_vae.objectives.losses import import_objective
from rdkit_vae.scoring.interpretations import SIGMAS
from rdkit_vae.store.evaluations import Evaluation, read_evaluation
from rdkit_vae.store.paths import statistics_beside, sweep_around
from rdkit_vae.store.results import results_frame
from rdkit_vae.system.devices import choose_device
from rdkit_vae.system.files import sha256_of

if TYPE_CHECKING:
    import pandas as pd

    from rdkit_vae.datasets.images import Images
    from rdkit_vae.scoring.scores import Interpreted
    from rdkit_vae.store.checkpoints import Checkpoint

_EXAMPLE = "name a checkpoint, such as runs/NAME/checkpoints/RUN/epoch=00025.pt"


class NoImages(BadData):
    """The images of a checkpoint are missing, or are others."""


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How to measure a checkpoint where that is needed.

    Attributes:
        images: those it was trained on; None: they are loaded by the name that it holds.
        data_dir, dataset: where to load them from, if not where the sweep found them.
        device: `auto`, `cpu` or `cuda`.
        draws: posterior samples per image; None: as many as its trial says.
        again: measure even where an evaluation of the checkpoint is stored.
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

    A stored evaluation is used if it is of the very file, without torch; else the checkpoint is
    evaluated now.

    Args:
        path: of a checkpoint, or of several.
        sigma: names of interpretations.
        images: the dataset it was trained on; None: it is found by its name.
        data_dir: folder of the dataset's files, if they are not where the sweep found them.
        device: `auto`, `cpu` or `cuda`, where the model is needed.
        draws: evaluate now, with so many posterior samples per image.
        architecture, objective: a network and a loss of your own, `package.module:name`, that the
            checkpoint may name; files never choose which code runs.

    Returns:
        The rows of results, with the columns of `store.schema.COLUMNS`.

    Raises:
        BadInput: an unknown interpretation.
        BadData: no checkpoint, a damaged one, or one whose images are missing.
    """
    import_code(architecture, objective)
    measuring = Measuring(images=images, data_dir=data_dir, device=device, draws=draws)
    paths = [path] if isinstance(path, str | Path) else path
    sigmas = [sigma] if isinstance(sigma, str) else sigma
    rows = [row for each in paths for row in evaluation_of(Path(each), measuring).rows(sigmas)]
    frame: pd.DataFrame = results_frame(rows)
    return frame


def import_code(architecture: str | None, objective: str | None) -> None:
    """Imports a network and a loss that the user names, so that checkpoints may name them.

    Raises:
        BadInput: one of them cannot be imported.
    """
    if architecture:
        import_architecture(architecture)
    if objective:
        import_objective(objective)


def evaluation_of(path: Path, measuring: Measuring) -> Evaluation:
    """The stored evaluation of a checkpoint if it is of this very file, or else one made now.

    Raises:
        BadData: no checkpoint; its images are missing; it has changed since its statistics were
            measured; or they are not finite.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "not a file" if path.exists() else "no such file"
        raise BadData(f"{path}: {what}; {_EXAMPLE}")
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


def _check_stored(path: Path, beside: Path, stored: Evaluation) -> None:
    """Refuses a stored evaluation that is of another file, or of no use.

    Raises:
        BadData: the checkpoint is damaged or has changed, or a number is not finite.
    """
    if stored.checkpoint_sha256 != sha256_of(path):
        from rdkit_vae.store.checkpoints import load_checkpoint

        load_checkpoint(path)  # if it is damaged, that is what to say
        raise BadData(
            f"{path} has changed since {beside} was measured on it (another SHA-256); "
            "--evaluate measures it now"
        )
    with named_if_not_finite(path):
        for split, measured in stored.statistics.items():
            measured.check_finite(split)


def _measured(path: Path, measuring: Measuring) -> Evaluation:
    from rdkit_vae.store.checkpoints import load_checkpoint

    checkpoint = load_checkpoint(path)
    draws = measuring.draws or checkpoint.trial.draws
    if draws > MOST_DRAWS:
        raise BadData(
            f"{path}: asks for {draws} posterior samples per image; give --draws, 1 to {MOST_DRAWS}"
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
    """Evaluates a checkpoint that was read from a path.

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
    interpreted: "Sequence[Interpreted]",
    measuring: Measuring,
) -> Mapping[str, Mapping[str, Any]]:
    """-log of the mass of the grey levels, by split and interpretation of a single variance.

    Passes over the pixels once more, with the posterior samples of the evaluation.

    Raises:
        BadData: as `evaluation_of`; or the number of grey levels is not known.
    """
    from rdkit_vae.evaluation.evaluate import evaluate_discretized
    from rdkit_vae.store.checkpoints import load_checkpoint

    if any(measured.levels is None for measured in evaluation.statistics.values()):
        raise BadData(
            f"{path}: its statistics are of an older rdvae that did not store the grey levels; "
            "--evaluate measures them now"
        )
    sigma2: dict[str, dict[str, Any]] = {split: {} for split in evaluation.statistics}
    for each in interpreted:
        if not each.interpretation.scales:
            sigma2[each.split][each.sigma] = each.sigma2
    checkpoint, device = load_checkpoint(path), choose_device(measuring.device)
    images, model = images_of(path, checkpoint, measuring), checkpoint.model().to(device)
    trial = replace(evaluation.trial, draws=evaluation.draws)
    with named_if_not_finite(path):
        return evaluate_discretized(model, images, trial, sigma2, device=device)


@contextmanager
def named_if_not_finite(path: Path) -> Iterator[None]:
    """Says which checkpoint it is where a number is not finite.

    Raises:
        BadData: one is not.
    """
    try:
        yield
    except NotFinite as error:
        raise BadData(f"{path}: {error}; the model has diverged") from error


def images_of(path: Path, checkpoint: "Checkpoint", measuring: Measuring) -> "Images":
    """The images that the checkpoint read from `path` was trained on, wherever they are now.

    Raises:
        NoImages: they are missing, or are others.
        BadData: the checkpoint says something of them that is not true.
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
        advice = "--dataset names another place"
        raise NoImages(f"{path} needs its images: {error}; {advice}") from error
    if (images.shape, images.levels) != (checkpoint.shape, checkpoint.levels):
        raise BadData(
            f"{path}: damaged checkpoint (of images of shape {checkpoint.shape} and "
            f"{checkpoint.levels} levels, {trial.dataset} has {images.shape} and {images.levels}); "
            "train it again with the same sweep command"
        )
    return images


def _remembered(path: Path, trial: Trial, measuring: Measuring) -> str | None:
    """Where the sweep around a checkpoint read its images, unless the user says where they are."""
    if measuring.dataset is not None:
        return None
    request = request_for(trial.dataset, image_size=trial.image_size)  # with RDVAE_DATA
    if source_of(trial.dataset).find(request) is not None:
        return None
    sweep = sweep_around(path)
    folder = sweep.data_dir() if sweep else None
    return None if folder is None else str(folder)


@functools.lru_cache(maxsize=1)  # many checkpoints in a row are of one dataset
def _load(name: str, data_dir: str | None, image_size: int | None) -> "Images":
    return load_dataset(name, data_dir=data_dir, image_size=image_size)
