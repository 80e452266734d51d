"""The registry of interpretations: the decoder variances with which a checkpoint is scored.

Does not import NumPy, so that help texts and usage errors appear at once.
D is the number of values in an image, K that of posterior samples.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from rdkit_vae.errors import BadInput
from rdkit_vae.text import one_of, positive, shown

if TYPE_CHECKING:
    from rdkit_vae.scoring.statistics import Array, Statistics

MIXTURE_S = (1e-3, 1.0)  # s_min and s_max unless given, in pixels
CONSTANT, MIXTURE = "constant:", "mixture:"  # begin the names of families
ON_ITSELF = "optimistic: fitted on the images it scores"
UNBOUNDED = "nu is unbounded: a Gaussian with the shared variance, since sse varies as under one"


class Trained(Protocol):
    """The part of a `Trial` that interpretations use.

    Attributes:
        beta: weight of the rate; None if unknown.
        beta_half: the variance of the interpretation `beta-half`, squared pixels: beta x C, where C
            is the constant training variance, or 1/2 if there was none; None if unknown.
        sigma2_floor: least value of a fitted variance, squared pixels.
    """

    @property
    def beta(self) -> float | None: ...
    @property
    def beta_half(self) -> float | None: ...
    @property
    def sigma2_floor(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """The decoder density of a split under one interpretation.

    Attributes:
        sigma2: the variance, or the scale s2 of a Student t, squared pixels: one number or (n, K),
            raised to the floor if it is fitted; NaN if there is no single one.
        nll: (n, K) -log p(x|z), nats; None: that of a Gaussian with the variance `sigma2`.
        nu: degrees of freedom of a Student t; None if it is not one, or has become a Gaussian.
        floored: share of (image, sample) pairs whose sse/D was raised to the floor; for `student`
            of the train split, to which it is fitted.
        caveat: what a reader must know before comparing scores, beyond that of the interpretation.
    """

    sigma2: "Array | float"
    nll: "Array | None" = None
    nu: float | None = None
    floored: float = 0.0
    caveat: str = ""


@dataclass(frozen=True, kw_only=True)
class Interpretation:
    """A registry entry.

    Attributes:
        about: the variance as a formula, for the user.
        decoder: returns the density, from the statistics of a split, the training, and what `fit`
            returned (or None); None if it does not apply to the model.
        fit: returns what is fitted to the train split, once for all splits, from its statistics and
            the training; None if nothing is.
        fitted: it is fitted to images, so the floor applies.
        caveat: what a reader must know before comparing scores.
        is_density: whether p(x|z) is normalised.
        scales: s_min and s_max of a mixture over scales, pixels, instead of a variance.
        needs: what a model must have for the interpretation to apply.
        on_request: scored only if named by the user.
    """

    about: str
    decoder: Callable[["Statistics", Trained, Any], Decoder | None]
    fit: Callable[["Statistics", Trained], Any] | None = None
    fitted: bool = False
    caveat: str = ""
    is_density: bool = True
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


def _mixture(low: float, high: float) -> Interpretation:
    def decoder(statistics: "Statistics", *_: object) -> Decoder:
        from rdkit_vae.scoring.mixture import mixture_nll

        nll = mixture_nll(statistics.sse, statistics.dims, (low, high))
        return Decoder(sigma2=math.nan, nll=nll)

    return Interpretation(
        about=f"log-uniform mixture over s in [{low:g}, {high:g}]; its closest single variance is "
        "sse/D",
        decoder=decoder,
        scales=(low, high),
    )


def _constant(value: float) -> Interpretation:
    return Interpretation(about=f"{value:g}", decoder=lambda *_: Decoder(sigma2=value))


def _beta_half(statistics: "Statistics", trained: Trained, fit: None) -> Decoder | None:
    return None if trained.beta_half is None else Decoder(sigma2=trained.beta_half)


def _optimal(statistics: "Statistics", trained: Trained, fit: None) -> Decoder:
    return _fitted(statistics.sse / statistics.dims, trained)


def _shared(statistics: "Statistics", trained: Trained) -> Decoder:
    return _fitted(float(statistics.sse.mean()) / statistics.dims, trained)


def _student_fit(train: "Statistics", trained: Trained) -> Decoder:
    from rdkit_vae.scoring.student import fit_student

    floor = trained.sigma2_floor
    nu, sigma2 = fit_student(train.sse, train.dims, floor)
    floored = float((train.sse < train.dims * floor).mean())
    if math.isinf(nu):
        return Decoder(sigma2=sigma2, floored=floored, caveat=UNBOUNDED)
    return Decoder(sigma2=sigma2, nu=nu, floored=floored)


def _student(statistics: "Statistics", trained: Trained, fit: Decoder) -> Decoder:
    return _with_student_nll(fit, statistics)


def _own(statistics: "Statistics", trained: Trained, fit: None) -> Decoder | None:
    sigma2, nu = statistics.own_sigma2, statistics.own_nu
    if sigma2 is None:
        return None
    return _with_student_nll(Decoder(sigma2=sigma2, nu=nu, nll=statistics.own_nll), statistics)


def _with_student_nll(decoder: Decoder, statistics: "Statistics") -> Decoder:
    """The density with its likelihoods of a split if it is a Student t."""
    if decoder.nu is None:
        return decoder
    from rdkit_vae.scoring.student import student_nll

    nll = student_nll(statistics.sse, statistics.dims, decoder.nu, decoder.sigma2)
    return replace(decoder, nll=nll)


def _fitted(sigma2: "Array | float", trained: Trained) -> Decoder:
    """A Gaussian whose variance was fitted, and is raised to the floor."""
    import numpy as np

    floor = trained.sigma2_floor
    return Decoder(
        sigma2=np.maximum(sigma2, floor), floored=float(np.mean(np.asarray(sigma2) < floor))
    )


INTERPRETATIONS: Mapping[str, Interpretation] = {
    "half": Interpretation(about="1/2", decoder=lambda *_: Decoder(sigma2=0.5)),
    "beta-half": Interpretation(
        about="beta/2 (or beta x C if the model was trained with a constant variance C)",
        decoder=_beta_half,
        needs="a known beta and training variance",
    ),
    "optimal": Interpretation(
        about="sse/D of each image and posterior sample; it looks at x, so it is no density",
        decoder=_optimal,
        fitted=True,
        is_density=False,
        caveat="not a density: it looks at x",
    ),
    "shared": Interpretation(
        about="mean sse/D of the train split, frozen",
        decoder=lambda statistics, trained, fit: fit,
        fit=_shared,
        fitted=True,
    ),
    "own": Interpretation(
        about="the variance that the model was trained with, if it has one",
        decoder=_own,
        needs="a known variance of its own",
    ),
    "mixture": _mixture(*MIXTURE_S),
    "student": Interpretation(
        about="Student t with a scale and degrees of freedom fitted to the train split, frozen",
        decoder=_student,
        fit=_student_fit,
        fitted=True,
    ),
    "shared-oracle": Interpretation(
        about="mean sse/D of the scored split itself; optimistic",
        decoder=lambda statistics, trained, fit: _shared(statistics, trained),
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
