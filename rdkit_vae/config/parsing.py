"""What a user types: betas, seeds, sigmas, checkpoints. Nothing heavy is imported."""

import itertools
import math
from collections.abc import Iterable
from decimal import Decimal
from typing import TypeVar

from rdkit_vae.errors import BadInput
from rdkit_vae.text import one_of, positive, shown, whole

T = TypeVar("T")

# The interpretations by name, with their variance; `scoring.interpretations` holds their code.
SIGMAS = {
    "half": "1/2",
    "beta-half": "beta/2 (beta x C where the model was trained with a constant variance C)",
    "optimal": "sse/D per image and draw; looks at x, so not a density",
    "shared": "mean sse/D of the train split, frozen",
    "own": "the variance the model was trained with, where it has one",
    "mixture": "log-uniform mixture over s in [1e-3, 1]; its closest single variance is sse/D",
}
# And those that are computed only where they are named.
ON_REQUEST = {
    "shared-oracle": "mean sse/D of the split that is scored; optimistic",
    "mixture:A..B": "the mixture over s in [A, B]",
    "constant:V": "any V > 0, in squared pixels",
}
CONSTANT, MIXTURE = "constant:", "mixture:"


def parse_betas(text: str) -> tuple[float, ...]:
    """Reads `A..B` (a point a decade), `A..B:N` (N log-spaced points) or `a,b,c`; repeats are kept.

    Raises:
        BadInput: a part is empty, not a number, not positive and finite, or a range runs backwards.
    """
    return tuple(beta for part in text.split(",") for beta in _betas_of_part(part.strip()))


def _betas_of_part(part: str) -> list[float]:
    bounds, colon, count = part.partition(":")
    first, dots, last = bounds.partition("..")
    if not dots:
        return [positive(part, "betas")]
    low, high = positive(first, "betas"), positive(last, "betas")
    if low >= high:
        raise BadInput(f"betas: the range {part!r} must run from the smaller to the larger number")
    if colon:
        return _spaced(low, high, whole(count, "betas: the number of points", least=2))
    decades = _decades(Decimal(first.strip()), high)
    return [*decades, high] if decades[-1] < high else decades


def _decades(first: Decimal, high: float) -> list[float]:
    # Decimal shifts keep 1e-4, 1e-3, ... the very numbers that a user would type.
    values = (float(first.scaleb(step)) for step in itertools.count())
    return list(itertools.takewhile(lambda value: value <= high, values))


def _spaced(low: float, high: float, count: int) -> list[float]:
    start, span = math.log10(low), math.log10(high) - math.log10(low)
    inner = [float(f"{10 ** (start + span * i / (count - 1)):.12g}") for i in range(1, count - 1)]
    return [low, *inner, high]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Reads `5` (the five seeds 0 to 4) or a list `0,3,7` (`7,` is the seed 7 alone).

    Raises:
        BadInput: not whole numbers in 0..2^32-1, or no seed at all.
    """
    if "," not in text:
        return tuple(range(whole(text, "seeds: the number of seeds", least=1)))
    parts = text.removesuffix(",").split(",")
    return tuple(whole(part, "seeds", least=0, most=2**32 - 1) for part in parts)


def parse_sigma(text: str) -> str:
    """Checks the name of an interpretation and returns it in canonical form.

    Raises:
        BadInput: the name is unknown, or a number in it is not positive, out of order, or so large
            or small that a likelihood would overflow.
    """
    name = text.strip()
    if name.startswith(CONSTANT):
        return f"{CONSTANT}{_within(name.removeprefix(CONSTANT), name, 1e-200, 1e200)!r}"
    if name.startswith(MIXTURE):
        low, high = mixture_range(name)
        return f"{MIXTURE}{low!r}..{high!r}"
    return one_of(name, [*SIGMAS, *ON_REQUEST], "sigma")


def mixture_range(name: str) -> tuple[float, float]:
    """The A and B of `mixture:A..B`.

    Raises:
        BadInput: not two positive numbers, the smaller first.
    """
    first, dots, last = name.removeprefix(MIXTURE).partition("..")
    if not dots:
        raise BadInput(f"{name}: must be mixture:A..B, such as mixture:1e-3..1")
    low, high = (_within(part, name, 1e-100, 1e100) for part in (first, last))
    if low >= high:
        raise BadInput(f"{name}: the range must run from the smaller to the larger number")
    return low, high


def _within(text: str, what: str, least: float, most: float) -> float:
    value = positive(text, what)
    if not least <= value <= most:
        raise BadInput(f"{what}: must be within {least:g} and {most:g}, got {shown(text)}")
    return value


def parse_checkpoints(text: str, epochs: int) -> tuple[int, ...]:
    """The epochs after which a checkpoint is written; the last epoch is always one.

    Args:
        text: `log` (1, 2, 4, ... epochs), `last`, or a number k (every k epochs).
        epochs: epochs of the whole training.

    Raises:
        BadInput: none of the three forms.
    """
    if text == "log":
        chosen = {2**i for i in range(epochs.bit_length())}
    elif text == "last":
        chosen = set()
    else:
        step = whole(text, "checkpoints: 'log', 'last', or every how many epochs", least=1)
        chosen = set(range(step, epochs, step))
    return tuple(sorted({epoch for epoch in chosen if epoch < epochs} | {epochs}))


def merge_repeats(values: Iterable[T]) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """The values once each, in their order, and those that came more than once."""
    kept: dict[T, int] = {}
    for value in values:
        kept[value] = kept.get(value, 0) + 1
    return tuple(kept), tuple(value for value, count in kept.items() if count > 1)
