"""What things are called in figures, tables and reports."""

import math
import re
from collections.abc import Iterable
from pathlib import Path

from rdkit_vae.config.trial import DEFAULT_SIGMA2

OBJECTIVE_NAMES = {
    "constant": "constant variance",
    "optimal": "BS-VAE",
    "optimal-batch": "one variance a batch",
    "learned": "learned variance",
    "learned-image": "learned variance of z",
}
_READING_NAMES = {
    "half": r"$\sigma^2=1/2$",
    "beta-half": r"$\sigma^2=\beta/2$",
    "optimal": "optimal (no density)",  # wherever it stands beside those that are
}


def dataset_name(dataset: str) -> str:
    """A dataset as it is written in a title: of `npz:PATH` the file."""
    return Path(dataset).name


def file_part(text: str) -> str:
    """A text as a part of a file's name: letters, digits, `_`, `=`, `.` within, and `-`."""
    return re.sub(r"[^\w=.]+", "-", text).strip("-.")[-60:] or "unnamed"


def in_order(objectives: Iterable[str]) -> list[str]:
    """Objectives, each once, as every figure orders them: constant variance, then BS-VAE."""
    rank = {name: place for place, name in enumerate(OBJECTIVE_NAMES)}
    return sorted(dict.fromkeys(objectives), key=lambda name: (rank.get(name, len(rank)), name))


def objective_name(objective: str) -> str:
    """A training objective as it is written in a legend."""
    return OBJECTIVE_NAMES.get(objective, objective)


def model_name(objective: str, c: float | None) -> str:
    """An objective and its constant variance c, where that is not 1/2, in words."""
    return objective_name(objective) + (f", C={c:g}" if _constant(c) != DEFAULT_SIGMA2 else "")


def models_in_order(objectives: Iterable[str], constants: Iterable[float | None]) -> list[str]:
    """The names of models, each once: by objective, then by constant variance."""
    models = {(name, _constant(c)) for name, c in zip(objectives, constants, strict=True)}
    order = in_order(name for name, _ in models)
    ranked = sorted(models, key=lambda model: (order.index(model[0]), model[1]))
    return [model_name(*model) for model in ranked]


def _constant(c: float | None) -> float:
    return DEFAULT_SIGMA2 if c is None or math.isnan(c) else c


def reading_name(sigma: str, *, c: float = DEFAULT_SIGMA2) -> str:
    """An interpretation as it is written in a legend, for models of the constant variance c."""
    if sigma == "beta-half" and c != DEFAULT_SIGMA2:
        return r"$\sigma^2=\beta C$"
    return _READING_NAMES.get(sigma, sigma)


def short(value: float) -> str:
    """A number to two digits, without an exponent while it is readable without."""
    return f"{float(f'{value:.2g}'):g}"
