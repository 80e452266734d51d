"""Parsers of what a user types: betas, seeds, checkpoints, options. Imports nothing heavy."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TypeVar

from rdkit_vae.errors import BadInput
from rdkit_vae.text import positive, shown, whole

T = TypeVar("T")


def parse_betas(text: str) -> tuple[float, ...]:
    """Reads `A..B` (one point per decade), `A..B:N` (N log-spaced points) or `a,b,c`.

    Repeated values are kept.

    Raises:
        BadInput: a part is empty or not a positive finite number, or a range is reversed.
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
    # In decimals, so that 1e-4, 1e-3, ... are exactly the numbers that a user would type.
    values = (float(first.scaleb(step)) for step in itertools.count())
    return list(itertools.takewhile(lambda value: value <= high, values))


def _spaced(low: float, high: float, count: int) -> list[float]:
    start, span = math.log10(low), math.log10(high) - math.log10(low)
    inner = [float(f"{10 ** (start + span * i / (count - 1)):.12g}") for i in range(1, count - 1)]
    return [low, *inner, high]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Reads `5` (the five seeds 0 to 4) or a list `0,3,7`; `7,` is the single seed 7.

    Raises:
        BadInput: a seed is not a whole number in 0..2^32-1, or there is none.
    """
    if "," not in text:
        return tuple(range(whole(text, "seeds: the number of seeds", least=1)))
    parts = text.removesuffix(",").split(",")
    return tuple(whole(part, "seeds", least=0, most=2**32 - 1) for part in parts)


def parse_checkpoints(text: str, epochs: int) -> tuple[int, ...]:
    """Returns the epochs after which to write a checkpoint, always including the last.

    Args:
        text: `log` (epochs 1, 2, 4, ...), `last`, or a number k (every k epochs).
        epochs: epochs of the whole training.

    Raises:
        BadInput: the text has none of these forms.
    """
    if text == "log":
        chosen = {2**i for i in range(epochs.bit_length())}
    elif text == "last":
        chosen = set()
    else:
        step = whole(text, "checkpoints: 'log', 'last' or a number of epochs", least=1)
        chosen = set(range(step, epochs, step))
    return tuple(sorted({epoch for epoch in chosen if epoch < epochs} | {epochs}))


def parse_shard(text: str) -> tuple[int, int]:
    """Returns k and n of `K/N`, the k-th of n shares of a grid.

    Raises:
        BadInput: the text has another form, or k is not between 1 and n.
    """
    number, slash, count = text.partition("/")
    if not slash:
        raise BadInput(f"shard {shown(text)}: must be K/N, such as 3/16")
    shards = whole(count, "shard: the number of shards", least=1)
    return whole(number, "shard: its number", least=1, most=shards), shards


def parse_resources(resources: str | Mapping[str, float]) -> dict[str, float]:
    """Reads `gpu=0.25,cpu=1`, or a mapping: what a worker takes of a cluster.

    Raises:
        BadInput: the text has another form, or Ray takes no such amount.
    """
    if isinstance(resources, str):
        resources = _amounts(resources)
    for name, amount in resources.items():
        if not (amount >= 1 and amount == int(amount)) and not 1e-4 <= amount < 1:
            raise BadInput(
                f"resources: {name} must be a whole number, or between 0.0001 and 1, got {amount:g}"
            )
    return {name.lower(): float(amount) for name, amount in resources.items()}


def _amounts(text: str) -> dict[str, float]:
    resources: dict[str, float] = {}
    for part in text.split(","):
        name, equals, amount = part.partition("=")
        if not (equals and name.strip().isidentifier()):
            raise BadInput(
                f"resources {shown(text)}: must be NAME=AMOUNT,.., such as gpu=0.25,cpu=1"
            )
        resources[name.strip()] = positive(amount, f"resources: {name.strip()}")
    return resources


def parse_options(texts: Iterable[str]) -> dict[str, tuple[int | float | bool | str, ...]]:
    """Reads options of a network, each `NAME=VALUE` or `NAME=VALUE,VALUE,...`.

    A value is a number, `true`, `false` or any other text.

    Raises:
        BadInput: an option has another form, or a name is given twice.
    """
    options: dict[str, tuple[int | float | bool | str, ...]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not (equals and name.isidentifier() and values):
            raise BadInput(f"option {shown(text)}: must be NAME=VALUE, such as width=64")
        if name in options:
            raise BadInput(
                f"option {name} is given twice; for several values use {name}=VALUE,VALUE"
            )
        options[name] = tuple(map(_option_value, values.split(",")))
    return options


def _option_value(text: str) -> int | float | bool | str:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) else text


def merge_repeats(values: Iterable[T]) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """Returns each value once, in order, and the values that were repeated."""
    counts = Counter(values)
    return tuple(counts), tuple(value for value, count in counts.items() if count > 1)
