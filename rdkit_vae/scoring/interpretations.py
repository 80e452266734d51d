"""The registry of interpretations: the decoder variances with which a checkpoint is scored.

Does not import NumPy, so that help texts and usage errors appear at once.
D is the number of values in an image, K that of posterior samples.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rdkit_vae.errors import BadInput
from rdkit_vae.text import one_of, positive, shown

if TYPE_CHECKING:
    from rdkit_vae.scoring.statistics import Array, Statistics

MIXTURE_S = (1e-3, 1.0)  # s_min and s_max unless given, in pixels
CONSTANT, MIXTURE = "constant:", "mixture:"  # begin the names of families
ON_ITSELF = "optimistic: fitted on the images it scores"


class Trained(Protocol):
    """The part of a `Trial` that interpretations use.

    Attributes:
        beta: weight of the rate; None if unknown.
        beta_half: the variance of the interpretation `beta-half`, squared pixels: beta x C, where C
            is the constant variance of training, or 1/2 if there was none; None if unknown.
        sigma2_floor: least value of a fitted variance, squared pixels.
    """

    @property
    def beta(self) -> float | None: ...
    @property
    def beta_half(self) -> float | None: ...
    @property
    def sigma2_floor(self) -> float: ...


Sigma2 = Callable[["Statistics", Trained, "Statistics | None"], "Array | float | None"]


@dataclass(frozen=True, kw_only=True)
class Interpretation:
    """A registry entry.

    Attributes:
        about: the variance as a formula, for the user.
        sigma2: returns the variance, one number or (n, K), squared pixels, from the statistics of a
            split, the training, and the statistics of the train split (or None). It returns None if
            the interpretation does not apply to the model, NaN if there is no single variance.
        fitted: the variance is fitted to images, so the floor applies.
        caveat: what a reader must know before comparing scores.
        is_density: whether p(x|z) is normalised.
        nll: returns (n, K) -log p(x|z), nats, where it is not that of a Gaussian with one variance
            per image and sample; None where it is.
        scales: s_min and s_max of a mixture over scales, pixels, instead of a variance.
        needs: what a model must have for the interpretation to apply.
        on_request: scored only if named by the user.
    """

    about: str
    sigma2: Sigma2
    fitted: bool = False
    caveat: str = ""
    is_density: bool = True
    nll: Callable[["Statistics"], "Array | None"] = lambda statistics: None
    scales: tuple[float, float] | None = None
    needs: str = ""
    on_request: bool = False


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of interpretations with numbers in their names, such as `constant:0.01`.

    Attributes:
        form: how such a name is written.
        about: the variance, for the user.
        numbers: reads the numbers, from the text after the colon and the whole name.
        make: returns the interpretation for these numbers.
    """

    form: str
    about: str
    numbers: Callable[[str, str], tuple[float, ...]]
    make: Callable[..., Interpretation]


def _shared(statistics: "Statistics", trained: Trained, train: "Statistics | None") -> float:
    if train is None:
        raise BadInput("sigma shared is fitted on the train split, whose statistics are missing")
    return float(train.sse.mean()) / train.dims


def _mixture(low: float, high: float) -> Interpretation:
    def nll(statistics: "Statistics") -> "Array":
        from rdkit_vae.scoring.mixture import mixture_nll

        return mixture_nll(statistics.sse, statistics.dims, (low, high))

    return Interpretation(
        about=f"log-uniform mixture over s in [{low:g}, {high:g}]; its closest single variance is "
        "sse/D",
        sigma2=lambda *_: math.nan,
        nll=nll,
        scales=(low, high),
    )


def _constant(value: float) -> Interpretation:
    return Interpretation(about=f"{value:g}", sigma2=lambda *_: value)


INTERPRETATIONS: Mapping[str, Interpretation] = {
    "half": Interpretation(about="1/2", sigma2=lambda *_: 0.5),
    "beta-half": Interpretation(
        about="beta/2 (or beta x C if the model was trained with a constant variance C)",
        sigma2=lambda statistics, trained, train: trained.beta_half,
        needs="a known beta and variance of training",
    ),
    "optimal": Interpretation(
        about="sse/D of each image and posterior sample; it looks at x, so it is no density",
        sigma2=lambda statistics, *_: statistics.sse / statistics.dims,
        fitted=True,
        is_density=False,
        caveat="not a density: it looks at x",
    ),
    "shared": Interpretation(
        about="mean sse/D of the train split, frozen", sigma2=_shared, fitted=True
    ),
    "own": Interpretation(
        about="the variance that the model was trained with, if it has one",
        sigma2=lambda statistics, *_: statistics.own_sigma2,
        nll=lambda statistics: statistics.own_nll,
        needs="a known variance of its own",
    ),
    "mixture": _mixture(*MIXTURE_S),
    "shared-oracle": Interpretation(
        about="mean sse/D of the scored split itself; optimistic",
        sigma2=lambda statistics, *_: float(statistics.sse.mean()) / statistics.dims,
        fitted=True,
        caveat=ON_ITSELF,
        on_request=True,
    ),
}
SIGMAS = tuple(name for name, entry in INTERPRETATIONS.items() if not entry.on_request)


def _constant_numbers(text: str, name: str) -> tuple[float]:
    return (_number(text, name, 1e-200, 1e200),)


def _mixture_numbers(text: str, name: str) -> tuple[float, float]:
    first, dots, last = text.partition("..")
    if not dots:
        raise BadInput(f"{name}: must be mixture:A..B, such as mixture:1e-3..1")
    low, high = (_number(part, name, 1e-100, 1e100) for part in (first, last))
    if low >= high:
        raise BadInput(f"{name}: the range must run from the smaller to the larger number")
    return low, high


FAMILIES: Mapping[str, Family] = {
    "mixture": Family(
        form="mixture:A..B",
        about="the mixture over s in [A, B]",
        numbers=_mixture_numbers,
        make=_mixture,
    ),
    "constant": Family(
        form="constant:V",
        about="any V > 0, in squared pixels",
        numbers=_constant_numbers,
        make=_constant,
    ),
}


def described() -> dict[str, str]:
    """Returns all interpretations and families with their variance in words."""
    families = {family.form: family.about for family in FAMILIES.values()}
    return {name: entry.about for name, entry in INTERPRETATIONS.items()} | families


def parse_sigma(text: str) -> str:
    """Checks the name of an interpretation and returns it in canonical form.

    Raises:
        BadInput: the name is unknown, or a number in it is not positive, out of order, or would
            make a likelihood overflow.
    """
    name = text.strip()
    family, colon, numbers = name.partition(":")
    if colon and family in FAMILIES:
        return f"{family}:{'..'.join(map(repr, FAMILIES[family].numbers(numbers, name)))}"
    return one_of(name, described(), "sigma")


def interpretation(sigma: str) -> Interpretation:
    """Returns the entry for a name, including names of families.

    Raises:
        BadInput: as for `parse_sigma`.
    """
    name = parse_sigma(sigma)
    family, colon, numbers = name.partition(":")
    if colon:
        return FAMILIES[family].make(*FAMILIES[family].numbers(numbers, name))
    return INTERPRETATIONS[name]


def _number(text: str, what: str, least: float, most: float) -> float:
    value = positive(text, what)
    if not least <= value <= most:
        raise BadInput(f"{what}: must be between {least:g} and {most:g}, got {shown(text)}")
    return value
