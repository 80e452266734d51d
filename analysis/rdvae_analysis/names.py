"""What things are called in figures, tables and reports."""

from collections.abc import Iterable
from pathlib import Path

from rdkit_vae.trial import DEFAULT_SIGMA2

OBJECTIVE_NAMES = {
    "constant": "constant variance",
    "optimal": "BS-VAE",
    "optimal-batch": "one variance a batch",
    "learned": "learned variance",
    "learned-image": "learned variance of z",
}
_READING_NAMES = {"half": r"$\sigma^2=1/2$", "beta-half": r"$\sigma^2=\beta/2$"}


def dataset_name(dataset: str) -> str:
    """A dataset as it is written in a title: the file of `npz:PATH`, and nothing to typeset."""
    return Path(dataset).name.replace("$", r"\$")


def in_order(objectives: Iterable[str]) -> list[str]:
    """Objectives, each once, as every figure orders them: constant variance, then BS-VAE."""
    rank = {name: place for place, name in enumerate(OBJECTIVE_NAMES)}
    return sorted(dict.fromkeys(objectives), key=lambda name: (rank.get(name, len(rank)), name))


def objective_name(objective: str) -> str:
    """A training objective as it is written in a legend."""
    return OBJECTIVE_NAMES.get(objective, objective)


def reading_name(sigma: str, *, c: float = DEFAULT_SIGMA2) -> str:
    """An interpretation as it is written in a legend, for models of the constant variance c."""
    if sigma == "beta-half" and c != DEFAULT_SIGMA2:
        return r"$\sigma^2=\beta C$"
    return _READING_NAMES.get(sigma, sigma)


def short(value: float) -> str:
    """A number to two digits, without an exponent while it is readable without."""
    return f"{float(f'{value:.2g}'):g}"
