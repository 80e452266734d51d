"""Evaluations of checkpoints: the record, its rows of results, and its file.

Never imports torch, so that stored evaluations are scored quickly.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rdkit_vae.config.foreign import ForeignModel, Subject, described, subject_of
from rdkit_vae.config.trial import Trial
from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.scoring.bounds import score_bounds
from rdkit_vae.scoring.implied import ImpliedWeight
from rdkit_vae.scoring.interpretations import SIGMAS
from rdkit_vae.scoring.scores import interpret, score
from rdkit_vae.scoring.statistics import Array, RateTerms, Statistics
from rdkit_vae.store.paths import code_version, utc_now
from rdkit_vae.store.schema import Status
from rdkit_vae.store.tables import about_of, file_metadata, read_table, write_table

STATISTICS_KIND = b"rdvae-statistics"
Row = dict[str, Any]
_IMPLIED = ("tau", "beta", "standard_error", "per_latent", "per_latent_se", "chi2", "scatter")
_RATE_COLUMNS = ("mutual_information", "mutual_information_se", "marginal_kl", "active_units")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The evaluation of one checkpoint.

    Attributes:
        trial: the configuration, or the record of a model from elsewhere.
        epoch, step: epochs and optimiser steps of training.
        checkpoint_sha256: hash of the checkpoint file, or of the weights.
        statistics: by split.
        implied: the weight of the KL read back from the weights; None if that was not measured.
        environment: device and versions of the evaluation.
        source: where the statistics come from, in words; may be "".
    """

    trial: Subject
    epoch: int
    step: int
    checkpoint_sha256: str
    statistics: Mapping[str, Statistics]
    implied: ImpliedWeight | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def draws(self) -> int:
        """K, the number of posterior samples per image."""
        return int(next(iter(self.statistics.values())).sse.shape[1])

    def rows(self, sigmas: Sequence[str] = tuple(SIGMAS)) -> list[Row]:
        """Returns the rows of results, one per split and applicable interpretation.

        Raises:
            BadInput: an interpretation is unknown.
            NotFinite: a number of the statistics is not finite.
        """
        base = self._identity() | self._implied_columns() | {"reason": ""}
        rate_terms = {
            split: {} if terms is None else {name: getattr(terms, name) for name in _RATE_COLUMNS}
            for split, terms in (
                (s, measured.rate_terms) for s, measured in self.statistics.items()
            )
        }
        scores = score(self.statistics, self.trial, sigmas=sigmas)
        return [base | asdict(each) | rate_terms[each.split] for each in scores]

    def bound_rows(
        self,
        sigmas: Sequence[str],
        ks: Sequence[int] | None,
        masses: Mapping[str, Mapping[str, Array]],
    ) -> list[Row]:
        """Returns the rows of bounds, with the columns of `store.schema.BOUNDS`.

        Args:
            sigmas: interpretations that are densities.
            ks, masses: as for `score_bounds`.

        Raises:
            BadInput: as for `score_bounds`.
        """
        interpreted = interpret(self.statistics, self.trial, sigmas=sigmas)
        base = self._identity()
        return [base | asdict(bound) for bound in score_bounds(interpreted, ks, masses)]

    def _identity(self) -> Row:
        identity = identity_of(self.trial, self.epoch, self.step, Status.OK)
        return identity | {"checkpoint_sha256": self.checkpoint_sha256}

    def _implied_columns(self) -> Row:
        """Returns the columns about the implied weight; what is not known stays null."""
        implied = self.implied
        if implied is None or math.isnan(implied.tau):
            return {}
        trial = self.trial
        has_scale = not isinstance(trial, ForeignModel) or trial.reconstruction == "sse"
        known: Row = {"implied_tau": implied.tau} if has_scale else {}
        if not math.isnan(implied.beta):
            known |= {"implied_beta": implied.beta, "implied_beta_se": implied.beta_se}
        return known | ({"implied_scatter": implied.scatter} if implied.degrees else {})


def failed_rows(trial: Trial, *, epoch: int, step: int, status: Status, reason: str) -> list[Row]:
    """Returns the rows of a trial that diverged or crashed: the reason, but no numbers."""
    base = identity_of(trial, epoch, step, status) | {"reason": reason}
    return [base | {"split": split, "sigma": s} for split in ("train", "test") for s in SIGMAS]


def identity_of(trial: Subject, epoch: int, step: int, status: Status) -> Row:
    """Returns the columns that describe the trial and checkpoint."""
    return {
        "run_id": trial.run_id,
        "curve": trial.curve,
        "setup": trial.setup,
        "dataset": trial.dataset,
        "model": trial.name if isinstance(trial, ForeignModel) else "",
        "adapter": trial.adapter if isinstance(trial, ForeignModel) else "",
        "architecture": trial.architecture,
        "options": ", ".join(f"{name}={value}" for name, value in trial.options),
        "latents": trial.latents,
        "objective": trial.objective,
        "beta": trial.beta,
        "train_sigma2": trial.train_sigma2,
        "seed": trial.seed,
        "protocol": trial.protocol,
        "epoch": epoch,
        "epochs": trial.epochs,
        "step": step,
        "status": status.value,
        "code_version": code_version(),
        "created_at": utc_now(),
    }


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Writes an evaluation atomically."""
    about = described(evaluation.trial) | {
        "environment": dict(evaluation.environment),
        "epoch": evaluation.epoch,
        "step": evaluation.step,
        "checkpoint_sha256": evaluation.checkpoint_sha256,
        "code_version": code_version(),
    }
    if evaluation.implied is not None:
        about["implied"] = _implied_facts(evaluation.implied)
    write_statistics(path, evaluation.statistics, about)


def read_evaluation(path: Path) -> Evaluation:
    """Reads an evaluation that `write_evaluation` wrote.

    Raises:
        BadData: the file is missing, damaged, not from rdvae, or of a newer schema.
    """
    statistics, about = read_statistics(path)
    try:
        return Evaluation(
            trial=subject_of(about),
            epoch=_count(about["epoch"]),
            step=_count(about["step"]),
            checkpoint_sha256=str(about.get("checkpoint_sha256", "")),
            statistics=statistics,
            implied=_implied_of(about["implied"]) if "implied" in about else None,
            environment=about.get("environment") or {},
        )
    except (KeyError, TypeError, AttributeError, ValueError, BadInput) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise BadData(f"{path}: damaged ({reason})") from error


def _implied_facts(implied: ImpliedWeight) -> dict[str, Any]:
    """Returns plain values for JSON, with null for NaN."""
    values = {name: np.asarray(value).tolist() for name, value in asdict(implied).items()}
    return {name: _null_for_nan(value) for name, value in values.items()}


def _null_for_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_null_for_nan(item) for item in value]
    return None if value != value else value


def _implied_of(facts: Mapping[str, Any]) -> ImpliedWeight:
    values: dict[str, Any] = {name: np.array(facts[name], np.float64) for name in _IMPLIED}
    if any(value.ndim != name.startswith("per_latent") for name, value in values.items()):
        raise ValueError("the implied weight is damaged")
    numbers: dict[str, Any] = {n: v if v.ndim else float(v) for n, v in values.items()}
    return ImpliedWeight(**numbers, degrees=_count(facts["degrees"]))


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"a count is {str(value)[:40]!r}")
    return value


def write_statistics(
    path: Path, statistics: Mapping[str, Statistics], about: Mapping[str, Any]
) -> None:
    """Writes statistics: a row per split, image and draw, and `about` (JSON) as metadata."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {
        name: [] for name in ("split", "image", "draw", "kl", "sse", "log_ratio")
    }
    for split, measured in statistics.items():
        n, k = measured.sse.shape
        columns["split"].append(np.full(n * k, split))
        columns["image"].append(np.repeat(measured.image, k))
        columns["draw"].append(np.tile(np.arange(k), n))
        columns["kl"].append(np.repeat(measured.kl, k))
        columns["sse"].append(measured.sse.ravel())
        columns["log_ratio"].append(measured.log_ratio.ravel())
        if any(isinstance(each.own_sigma2, np.ndarray) for each in statistics.values()):
            own = np.broadcast_to(np.asarray(measured.own_sigma2), (n, k))
            columns.setdefault("own_sigma2", []).append(own.ravel())
        if measured.own_nll is not None:
            columns.setdefault("own_nll", []).append(measured.own_nll.ravel())
    facts = {split: _facts_of(measured) for split, measured in statistics.items()}
    arrays = {name: np.concatenate(parts) for name, parts in columns.items()}
    metadata = file_metadata(STATISTICS_KIND, {**about, "splits": facts})
    write_table(path, pa.table(arrays).replace_schema_metadata(metadata))


def read_statistics(path: Path) -> tuple[dict[str, Statistics], dict[str, Any]]:
    """Reads the statistics by split, and `about`, that `write_statistics` wrote.

    Raises:
        BadData: the file is missing, damaged, not from rdvae, or of a newer schema.
    """
    table = read_table(path, STATISTICS_KIND)
    about = about_of(table)
    try:
        columns = {name: table[name].to_numpy() for name in table.column_names}
        splits = about.get("splits") or _splits_of_schema_1(about)
        if not {"test"} <= splits.keys() <= {"train", "test"}:
            raise ValueError(f"its splits are {', '.join(splits)}"[:60])
        statistics = {
            split: _statistics_of(columns, split, facts) for split, facts in splits.items()
        }
    except Exception as error:  # damaged columns cause all kinds of errors
        raise BadData(f"{path}: damaged ({' '.join(str(error).split())[:120]})") from error
    return statistics, about


def _facts_of(measured: Statistics) -> dict[str, Any]:
    """Returns the values that are not numbers per image and draw."""
    terms, own = measured.rate_terms, measured.own_sigma2
    return {
        "dims": measured.dims,
        "levels": measured.levels,
        "own_sigma2": None if isinstance(own, np.ndarray) else own,
        "own_nu": measured.own_nu,
        # The name in the first files, kept so that all files can be read alike.
        "split_of_rate": terms and {k: np.asarray(v).tolist() for k, v in asdict(terms).items()},
    }


def _splits_of_schema_1(about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    unknown = {"levels": None, "split_of_rate": None}
    return {
        split: {"dims": dims, "own_sigma2": about["own_sigma2"][split], **unknown}
        for split, dims in about["dims"].items()
    }


def _statistics_of(columns: Mapping[str, Any], split: str, facts: dict[str, Any]) -> Statistics:
    rows = np.flatnonzero(columns["split"] == split)
    draws = int(columns["draw"][rows].max()) + 1
    shape = (len(rows) // draws, draws)
    dims, levels = facts["dims"], facts["levels"]
    terms, own = facts["split_of_rate"], facts["own_sigma2"]
    if type(dims) is not int or not 0 < dims < 2**40:
        raise ValueError(f"dims is {dims!r}"[:60])
    if levels is not None and (type(levels) is not int or levels < 2):
        raise ValueError(f"levels is {levels!r}"[:60])
    if own is not None and (not isinstance(own, int | float) or not 0 < own < math.inf):
        raise ValueError(f"own_sigma2 is {own!r}"[:60])

    if (columns["sse"][rows] < 0).any():
        raise ValueError("a squared error is negative")

    def per_draw(name: str) -> Any:
        return np.asarray(columns[name][rows], np.float64).reshape(shape)

    return Statistics(
        image=np.asarray(columns["image"][rows], np.int64).reshape(shape)[:, 0],
        kl=per_draw("kl")[:, 0],
        sse=per_draw("sse"),
        log_ratio=per_draw("log_ratio"),
        dims=dims,
        levels=levels,
        own_sigma2=per_draw("own_sigma2") if "own_sigma2" in columns else own,
        own_nu=facts.get("own_nu"),
        own_nll=per_draw("own_nll") if "own_nll" in columns else None,
        rate_terms=None if terms is None else _rate_terms_of(terms),
    )


def _rate_terms_of(facts: dict[str, Any]) -> RateTerms:
    variance, rate = (np.array(facts[name], np.float64) for name in ("unit_variance", "unit_rate"))
    if variance.ndim != 1 or variance.shape != rate.shape:
        raise ValueError("the rates of its units are damaged")
    return RateTerms(
        unit_variance=variance,
        unit_rate=rate,
        mutual_information=float(facts["mutual_information"]),
        mutual_information_se=float(facts["mutual_information_se"]),
    )
