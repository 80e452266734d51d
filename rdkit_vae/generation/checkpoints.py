"""From checkpoint files to rows about their samples and priors, stored in the sweep around them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdkit_vae.config.trial import import_code
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput
from rdkit_vae.evaluation.checkpoints import Measuring, images_of, named_if_not_finite
from rdkit_vae.evaluation.pictures import last_checkpoints
from rdkit_vae.generation.features import Features, features_of
from rdkit_vae.generation.ladder import Report, silent
from rdkit_vae.generation.measure import Comparison, Model
from rdkit_vae.scoring.fidelity import FEWEST
from rdkit_vae.scoring.priors import PRIORS, STANDARD
from rdkit_vae.store.checkpoints import load_checkpoint
from rdkit_vae.store.generation import (
    GENERATION_FILES,
    PRIOR_FILES,
    Kind,
    Row,
    add_rows,
    rows_frame,
    stored_rows,
)
from rdkit_vae.store.mirror import local
from rdkit_vae.store.paths import Sweep, sweep_around
from rdkit_vae.system.devices import choose_device
from rdkit_vae.text import one_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What to measure of each model.

    Attributes:
        features: `classifier`, `inception:FILE`, `pixels` or `package.module:factory`.
        priors: of `PRIORS`, to sample from.
        n_samples: of each prior.
        split: the reference: `test` or `train`.
        seed: of priors and samples.

    Raises:
        BadInput: a value cannot be used.
    """

    features: str = "classifier"
    priors: tuple[str, ...] = (STANDARD,)
    n_samples: int = 10_000
    split: str = "test"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.priors:
            one_of(name, PRIORS, "prior")
        one_of(self.split, ("test", "train"), "split")
        if not FEWEST <= self.n_samples <= 10**6:
            raise BadInput(f"n_samples must be in {FEWEST}..1,000,000, got {self.n_samples}")

    @property
    def sources(self) -> list[tuple[str, str]]:
        """The pairs of source and prior that are compared with the reference."""
        return [("images", ""), ("reconstruction", ""), *(("prior", p) for p in self.priors)]


@dataclass(kw_only=True)
class Measurer:
    """Measures one model after the other; those of one dataset share its reference.

    Attributes:
        asked: what to measure.
        data_dir: folder with the files of the dataset, also of its labels.
        device: where the models run, not `auto`.
        report: called with what is done now.
        prefix: of what is reported, such as the number of the model.
    """

    asked: Asked
    data_dir: str | None = None
    device: str = "cpu"
    report: Report = silent
    prefix: str = ""
    _comparisons: dict[str, Comparison] = field(default_factory=dict, init=False)

    def comparison(self, images: Images) -> Comparison:
        """The reference and the features for a dataset.

        Raises:
            BadInput, BadData: the features cannot be made for these images.
        """
        asked = self.asked
        if images.sha256 not in self._comparisons:
            self.tell(f"features {asked.features} of {images.name}")
            features: Features = features_of(
                asked.features, images, data_dir=self.data_dir, device=self.device
            )
            self._comparisons[images.sha256] = Comparison(
                images=images,
                features=features,
                split=asked.split,
                n_samples=asked.n_samples,
                seed=asked.seed,
            )
        return self._comparisons[images.sha256]

    def generation(self, model: Model, sweep: Sweep | None) -> tuple[list[Row], int]:
        """The rows of generation of a model; those stored in a sweep are not made again.

        Every row is stored as soon as it is made, so an interrupted run continues there. The rates
        under the fitted priors that are sampled from are stored too.

        Args:
            model: the model.
            sweep: where the rows are stored; None: nowhere.

        Returns:
            The rows, and how many of them were stored before.
        """
        comparison, path = self.comparison(model.images), _place(model, sweep, GENERATION_FILES)
        stored = _stored(path, GENERATION_FILES, model.sha256)
        rows, before = [], 0
        for source, prior in self.asked.sources:
            known = [row for row in stored if self._is_same(row, comparison, source, prior)]
            before += len(known)
            if not known:
                known = model.generation_rows(comparison, source, prior, report=self.tell)
                if path is not None:
                    add_rows(path, GENERATION_FILES, known)
            rows += known
        if self.asked.priors != (STANDARD,):  # the fits are there, so the rates cost little
            self.prior_rates(model, sweep, list(dict.fromkeys([STANDARD, *self.asked.priors])))
        return rows, before

    def _is_same(self, row: Row, comparison: Comparison, source: str, prior: str) -> bool:
        """Whether a stored row is the one that would be made."""
        same: dict[str, Any] = {
            "source": source,
            "prior": prior,
            "features": comparison.features.name,
            "features_sha256": comparison.features.sha256,
            "split": comparison.split,
            "sample_seed": comparison.seed,
        }
        if source == "prior":
            same["n_samples"] = comparison.n_samples
        elif source == "images":  # there may be fewer than samples
            other = (
                comparison.images.train if comparison.split == "test" else comparison.images.test
            )
            same["n_samples"] = min(comparison.n_samples, len(other))
        return all(row[name] == value for name, value in same.items())

    def prior_rates(
        self, model: Model, sweep: Sweep | None, names: Sequence[str], folds: int = 0
    ) -> list[Row]:
        """The rows of priors of a model; those stored in a sweep are not made again.

        Args:
            model: the model.
            sweep: where the rows are stored; None: nowhere.
            names: of `PRIORS`.
            folds: k of a cross-validation; 0: none.
        """
        path = _place(model, sweep, PRIOR_FILES)
        stored = {
            row["prior"]: row
            for row in _stored(path, PRIOR_FILES, model.sha256)
            if (row["fit_seed"], row["folds"]) == (model.seed, folds)
        }
        missing = [name for name in names if name not in stored]
        if missing:
            made = model.prior_rows(missing, folds=folds, report=self.tell)
            stored |= {row["prior"]: row for row in made}
            if path is not None:
                add_rows(path, PRIOR_FILES, made)
        return [stored[name] for name in names]

    @property
    def note(self) -> str:
        """What to know about the features."""
        notes = [note for each in self._comparisons.values() for note in each.features.notes]
        return "; ".join(dict.fromkeys(notes))

    def tell(self, what: str) -> None:
        """Reports what is done now, after the name of the model."""
        self.report(f"{self.prefix}{what}")


def _place(model: Model, sweep: Sweep | None, kind: Kind) -> Path | None:
    """The file for the rows of a model."""
    if sweep is None:
        return None
    return sweep.measured(kind.folder, model.subject.run_id, model.epoch)


def _stored(path: Path | None, kind: Kind, sha256: str) -> list[Row]:
    return [] if path is None else stored_rows(path, kind, sha256)


def model_of(path: Path, measuring: Measuring, seed: int = 0) -> Model:
    """The model of a checkpoint.

    Args:
        path: of the checkpoint.
        measuring: where its images are, and the device (not `auto`).
        seed: of priors and samples.

    Raises:
        BadData: the checkpoint or its images are missing or damaged.
    """
    checkpoint = load_checkpoint(path)
    return Model(
        network=checkpoint.model().to(measuring.device),
        images=images_of(path, checkpoint, measuring),
        subject=checkpoint.trial,
        epoch=checkpoint.epoch,
        step=checkpoint.step,
        sha256=checkpoint.sha256,
        seed=seed,
        device=measuring.device,
    )


def score_generation(
    path: str | Path | Sequence[str | Path],
    features: str = "classifier",
    priors: Sequence[str] = (STANDARD,),
    images: Images | None = None,
    *,
    n_samples: int = 10_000,
    split: str = "test",
    seed: int = 0,
    data_dir: str | None = None,
    device: str = "auto",
    architecture: str | None = None,
    objective: str | None = None,
    report: Report = silent,
) -> "pd.DataFrame":
    """Measures how good the samples and reconstructions of checkpoints are.

    Rows of a checkpoint in a sweep are stored there, and not made again. Fitted priors also give
    rows of `score_priors`.

    Args:
        path: of a checkpoint, or of several; or a folder, of which the last checkpoint of each run
            is measured. Each may be a URL of an object store.
        features: what distances are measured in; see `generation.names.FEATURES`.
        priors: names of `scoring.priors.PRIORS`, to sample from.
        images: the dataset they were trained on; None: the dataset that they name is loaded.
        n_samples: of each prior.
        split: the images that they are compared with, `test` or `train`.
        seed: of priors and samples.
        data_dir: folder of the dataset's files, if they have moved since the sweep.
        device: `auto`, `cpu` or `cuda`.
        architecture, objective: your own network and loss as `package.module:name`, if the
            checkpoints name them. Once named, code is trusted until the process ends.
        report: called with what is done now.

    Returns:
        Rows with the columns of `store.schema.GENERATION`.

    Raises:
        BadInput: an argument cannot be used.
        BadData: a checkpoint or its images are missing or damaged, or a model has diverged.
    """
    import_code(architecture, objective)
    asked = Asked(
        features=features, priors=tuple(priors), n_samples=n_samples, split=split, seed=seed
    )
    measuring = Measuring(images=images, data_dir=data_dir, device=choose_device(device))
    measurer = Measurer(asked=asked, data_dir=data_dir, device=measuring.device, report=report)
    rows: list[Row] = []
    for each in _checkpoints(path, PRIOR_FILES.folder, GENERATION_FILES.folder):
        rows += measure(each, measurer, measuring)[0]
    frame: pd.DataFrame = rows_frame(rows, GENERATION_FILES)
    return frame


def measure(path: Path, measurer: Measurer, measuring: Measuring) -> tuple[list[Row], int]:
    """The rows of generation of one checkpoint, and how many of them were stored before.

    Raises:
        BadData: the checkpoint or its images are missing or damaged, or the model has diverged.
    """
    with named_if_not_finite(path):
        model = model_of(path, measuring, measurer.asked.seed)
        return measurer.generation(model, sweep_around(path))


def score_priors(
    path: str | Path | Sequence[str | Path],
    priors: Sequence[str] = tuple(PRIORS),
    images: Images | None = None,
    *,
    folds: int = 0,
    seed: int = 0,
    data_dir: str | None = None,
    device: str = "auto",
    architecture: str | None = None,
    objective: str | None = None,
    report: Report = silent,
) -> "pd.DataFrame":
    """What the latents of checkpoints cost under priors that fit their posteriors better.

    Args:
        path, images, seed, data_dir, device: as for `score_generation`.
        architecture, objective, report: as for `score_generation`.
        priors: names of `scoring.priors.PRIORS`.
        folds: also fit to the train posteriors without each of so many parts, and score that part;
            0: do not.

    Returns:
        Rows with the columns of `store.schema.PRIOR_RATES`.

    Raises:
        BadInput: an argument cannot be used.
        BadData: as for `score_generation`.
    """
    import_code(architecture, objective)
    if folds == 1 or not 0 <= folds <= 100:
        raise BadInput(f"folds must be 0, or in 2..100, got {folds}")
    measuring = Measuring(images=images, data_dir=data_dir, device=choose_device(device))
    measurer = Measurer(asked=Asked(priors=tuple(priors), seed=seed), report=report)
    rows: list[Row] = []
    for each in _checkpoints(path, PRIOR_FILES.folder):
        with named_if_not_finite(each):
            model = model_of(each, measuring, seed)
            rows += measurer.prior_rates(model, sweep_around(each), priors, folds)
    frame: pd.DataFrame = rows_frame(rows, PRIOR_FILES)
    return frame


def _checkpoints(path: str | Path | Sequence[str | Path], *folders: str) -> Iterator[Path]:
    given = [path] if isinstance(path, str | Path) else path
    for one in given:
        yield from last_checkpoints(local(str(one), ("results", "checkpoints", *folders)))
