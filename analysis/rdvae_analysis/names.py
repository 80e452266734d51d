"""The names of datasets, objectives and interpretations in figures, tables and reports."""

import math
import re
from collections.abc import Iterable
from pathlib import Path

from rdkit_vae.config.trial import DEFAULT_SIGMA2

OBJECTIVE_NAMES = {
    "constant": "constant variance",
    "optimal": "BS-VAE",
    "optimal-batch": "one variance per batch",
    "learned": "learned variance",
    "learned-image": "learned variance of z",
    "student": "Student t",
}
_INTERPRETATION_NAMES = {
    "half": r"$\sigma^2=1/2$",
    "beta-half": r"$\sigma^2=\beta/2$",
    "optimal": "optimal (no density)",
}
# Begins what stands for the objective of a model from elsewhere; no objective has a space.
_MODEL = "model "
ELSEWHERE = "elsewhere"  # stands for the setup of all models from elsewhere


def dataset_name(dataset: str) -> str:
    """A dataset as it is written in a title; for `npz:PATH`, the name of the file."""
    return Path(dataset).name


def file_part(text: str) -> str:
    """A text made safe as part of a file name: letters, digits, `_`, `=`, `-` and inner `.`."""
    return re.sub(r"[^\w=.]+", "-", text).strip("-.")[-60:] or "unnamed"


def plain(name: str) -> str:
    """A name from a results file for use in a figure; `?` replaces what may start a formula."""
    return re.sub(r"[^\w .,:;+=()@/'-]", "?", name)


def objective_of_model(name: str) -> str:
    """What stands for the objective of a model from elsewhere, which is not known: its name."""
    return _MODEL + name


def is_model(objective: str) -> bool:
    """Whether an objective is the name of a model from elsewhere."""
    return objective.startswith(_MODEL)


def in_order(objectives: Iterable[str]) -> list[str]:
    """Each objective once, in the order of every figure: constant variance, BS-VAE, ...

    Models from elsewhere come last.
    """
    rank = {name: place for place, name in enumerate(OBJECTIVE_NAMES)}
    return sorted(
        dict.fromkeys(objectives),
        key=lambda name: (rank.get(name, len(rank)), is_model(name), name),
    )


def objective_name(objective: str) -> str:
    """A training objective, or a model from elsewhere, as it is written in a legend.

    The user's own objectives keep their full name.
    """
    return OBJECTIVE_NAMES.get(objective) or plain(objective.removeprefix(_MODEL))


def model_name(objective: str, c: float | None) -> str:
    """An objective in words, with its constant variance c (squared pixels) unless that is 1/2.

    A model from elsewhere is its name alone.
    """
    named = not is_model(objective) and _constant(c) != DEFAULT_SIGMA2
    return objective_name(objective) + (f", C={c:g}" if named else "")


def models_in_order(objectives: Iterable[str], constants: Iterable[float | None]) -> list[str]:
    """The name of each model once, ordered by objective, then by constant variance."""
    models = {(name, _constant(c)) for name, c in zip(objectives, constants, strict=True)}
    order = in_order(name for name, _ in models)
    ranked = sorted(models, key=lambda model: (order.index(model[0]), model[1]))
    return [model_name(*model) for model in ranked]


def _constant(c: float | None) -> float:
    return DEFAULT_SIGMA2 if c is None or math.isnan(c) else c


def interpretation_name(sigma: str, *, c: float = DEFAULT_SIGMA2) -> str:
    """An interpretation as it is written in a legend, for models with constant variance c."""
    if sigma == "beta-half" and c != DEFAULT_SIGMA2:
        return r"$\sigma^2=\beta C$"
    return _INTERPRETATION_NAMES.get(sigma) or plain(sigma)


def short(value: float) -> str:
    """A number to two digits, with an exponent only if it is very small or large."""
    return f"{float(f'{value:.2g}'):g}"
