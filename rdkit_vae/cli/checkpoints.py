"""What the commands on checkpoints share: their statistics, stored or measured now."""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.cli import terminal
from rdkit_vae.cli.options import data_dir_option
from rdkit_vae.config.trial import Trial, bind
from rdkit_vae.errors import BadData, BadInput, NotFinite, RdvaeError

if TYPE_CHECKING:
    from rdkit_vae.datasets.images import Images
    from rdkit_vae.scoring.statistics import Statistics
    from rdkit_vae.store.checkpoints import Checkpoint

MOST_DRAWS = 127
_NAME_ONE = "name a checkpoint, such as runs/NAME/checkpoints/RUN/epoch=00025.pt"


class NoImages(BadData):
    """The images of a checkpoint are not there, or are others."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a model runs, and on which images.

    Attributes:
        data_dir, dataset: where the images are now, if not where the sweep found them.
        device: for the model, where it is needed.
    """

    data_dir: str | None
    dataset: str | None
    device: str


@dataclass(frozen=True, kw_only=True)
class Wanted(Place):
    """How the user wants a checkpoint's statistics.

    Attributes:
        anew: measure even where stored statistics are.
        draws: posterior draws per image; None: as in the trial.
    """

    anew: bool
    draws: int | None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A checkpoint's statistics by split, and what is known of it.

    Attributes:
        path, sha256: the checkpoint.
        trial: its configuration.
        epoch, step: how far it was trained.
        source: where the statistics come from, in words.
    """

    path: Path
    sha256: str
    trial: Trial
    epoch: int
    step: int
    statistics: "dict[str, Statistics]"
    source: str

    @property
    def images(self) -> str:
        """How many were evaluated, in words."""
        counts = [len(found.kl) for found in self.statistics.values()]
        words = (f"{n} {split}" for n, split in zip(counts, self.statistics, strict=True))
        return f"{' and '.join(words)} {'image' if counts[-1] == 1 else 'images'}"


_PLACE_OPTIONS = (
    data_dir_option,
    click.option(
        "--dataset",
        metavar="NAME",
        help="Where the images are now, if not where the sweep found them.",
    ),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto"),
)
_MEASURING_OPTIONS = (
    click.option(
        "--evaluate", "anew", is_flag=True, help="Measure now, even if statistics are stored."
    ),
    click.option(
        "--draws",
        type=click.IntRange(1, MOST_DRAWS),
        help="Measure now, with so many posterior draws per image.",
    ),
)


def with_place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that make a `Place`."""
    for option in reversed(_PLACE_OPTIONS):
        command = option(command)
    return command


def with_measuring_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that make a `Wanted`."""
    for option in reversed(_MEASURING_OPTIONS):
        command = option(command)
    return with_place_options(command)


def measured(path: Path, wanted: Wanted) -> Measured:
    """The stored statistics of a checkpoint, or else those of an evaluation now.

    Raises:
        BadData: no checkpoint; its images are not there; it has changed since its statistics were
            measured; or they are not finite.
    """
    from rdkit_vae.store.paths import statistics_beside
    from rdkit_vae.system.files import sha256_of

    if not path.is_file():
        what = "a folder" if path.is_dir() else "not a file" if path.exists() else "no such file"
        raise BadData(f"{path}: {what}; {_NAME_ONE}")
    sha256 = sha256_of(path)
    anew = wanted.anew or wanted.draws is not None
    stored = None if anew else _stored(path, sha256)
    statistics, about = stored or _evaluated(path, wanted)
    with refused_if_not_finite(path):
        for split, found in statistics.items():
            found.check_finite(split)
    missing = [name for name in ("trial", "epoch", "step") if name not in about]
    if missing:
        raise BadData(f"{statistics_beside(path)}: damaged (no {', '.join(missing)})")
    try:
        trial = Trial.from_dict(about["trial"])
    except BadInput as error:
        raise BadData(f"{statistics_beside(path)}: damaged ({error})") from error
    return Measured(
        path=path,
        sha256=sha256,
        trial=trial,
        epoch=about["epoch"],
        step=about["step"],
        statistics=statistics,
        source="stored statistics" if stored else "evaluated now",
    )


def discretized(of: Measured, sigma2: Any, wanted: Wanted) -> Any:
    """The pass over pixels that `evaluate_discretized` describes.

    Raises:
        BadData: as `measured`.
    """
    from rdkit_vae.evaluation.evaluate import evaluate_discretized
    from rdkit_vae.store.checkpoints import load_checkpoint
    from rdkit_vae.sweep.run import choose_device

    checkpoint, device = load_checkpoint(of.path), choose_device(wanted.device)
    images, model = images_of(of.path, checkpoint, wanted), checkpoint.model().to(device)
    trial = replace(of.trial, draws=of.statistics["test"].sse.shape[1])  # the very same draws
    with _busy(f"weighing the pixels of {of.path}"), refused_if_not_finite(of.path):
        return evaluate_discretized(model, images, trial, sigma2, device=device)


@contextmanager
def refused_if_not_finite(path: Path) -> Iterator[None]:
    """Says of which checkpoint it is that a number is not finite.

    Raises:
        BadData: one is not.
    """
    try:
        yield
    except NotFinite as error:
        raise BadData(f"{path}: {error}; the model has diverged") from error


def _busy(what: str) -> AbstractContextManager[object]:
    """Shows on a terminal that something long is under way."""
    console = terminal.console(stderr=True)
    return console.status(what) if console.is_terminal else nullcontext()


def images_of(path: Path, checkpoint: "Checkpoint", place: Place) -> "Images":
    """The images that the checkpoint read from `path` was trained on, wherever they are now.

    Raises:
        NoImages: they are not there, or others.
        BadData: the checkpoint says of them what is not so.
    """
    trial = checkpoint.trial
    try:
        data_dir = place.data_dir or _remembered(path, trial, place)
        images = _load(place.dataset or trial.dataset, data_dir, trial.image_size)
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


def _remembered(path: Path, trial: Trial, place: Place) -> str | None:
    """Where the sweep around a checkpoint read its images, unless the user says where they are."""
    from rdkit_vae.datasets import request_for, source_of
    from rdkit_vae.store.paths import sweep_around

    if place.dataset is not None:
        return None
    request = request_for(trial.dataset, image_size=trial.image_size)  # with RDVAE_DATA
    if source_of(trial.dataset).find(request) is not None:
        return None
    sweep = sweep_around(path)
    folder = sweep.data_dir() if sweep else None
    return None if folder is None else str(folder)


@functools.lru_cache(maxsize=1)  # many checkpoints in a row are of one dataset
def _load(name: str, data_dir: str | None, image_size: int | None) -> "Images":
    from rdkit_vae.datasets import load_dataset

    return load_dataset(name, data_dir=data_dir, image_size=image_size)


def _stored(path: Path, sha256: str) -> "tuple[dict[str, Statistics], dict[str, Any]] | None":
    """The statistics beside a checkpoint, if there are any that can be read.

    Raises:
        BadData: they were measured on another file.
    """
    from rdkit_vae.store.paths import statistics_beside
    from rdkit_vae.store.results import read_statistics

    beside = statistics_beside(path)
    if not beside.exists():
        return None
    try:
        statistics, about = read_statistics(beside)
    except BadData as error:
        click.echo(f"rdvae: {error}; evaluating the checkpoint instead", err=True)
        return None
    if about.get("checkpoint_sha256") != sha256:
        from rdkit_vae.store.checkpoints import load_checkpoint

        load_checkpoint(path)  # if it is damaged, that is what to say
        raise BadData(
            f"{path} has changed since {beside} was measured on it (another SHA-256); "
            "--evaluate measures it now"
        )
    return statistics, about


def _evaluated(path: Path, wanted: Wanted) -> "tuple[dict[str, Statistics], dict[str, Any]]":
    from rdkit_vae.evaluation.evaluate import evaluate
    from rdkit_vae.store.checkpoints import load_checkpoint
    from rdkit_vae.sweep.run import choose_device

    checkpoint = load_checkpoint(path)
    trial = checkpoint.trial
    draws = wanted.draws or trial.draws
    if draws > MOST_DRAWS:
        raise BadData(f"{path}: asks for {draws} draws per image; give --draws, 1 to {MOST_DRAWS}")
    images, device = images_of(path, checkpoint, wanted), choose_device(wanted.device)
    taken = replace(trial, draws=draws)
    with _busy(f"evaluating {path}"), refused_if_not_finite(path):
        statistics = evaluate(checkpoint.model().to(device), images, taken, device=device)
    at = {"epoch": checkpoint.epoch, "step": checkpoint.step}
    return statistics, {"trial": trial.to_dict(), **at}
