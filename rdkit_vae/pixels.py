"""The range of a model's own pixels, and the change of variables to pixels in [0, 1]."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rdkit_vae.errors import BadInput

# Ranges by their ends. Every other pair is a mean and a standard deviation.
RANGES = ((0.0, 1.0), (-1.0, 1.0), (-0.5, 0.5), (0.0, 255.0))
Number = float | Sequence[float]


@dataclass(frozen=True, kw_only=True)
class PixelRange:
    """Own pixels y = (x - shift) / scale of a model, for x in [0, 1].

    Attributes:
        text: the range as the user gave it.
        shift, scale: one number for all channels, or one per channel.
    """

    text: str
    shift: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def is_unit(self) -> bool:
        """Whether the model's own pixels are in [0, 1]."""
        return self.shift == (0.0,) and self.scale == (1.0,)

    def log_volume(self, channels: int, dims: int) -> float:
        """Returns log |dy/dx| of an image of `dims` values, nats.

        A density of x in [0, 1] is that of y times the volume: log p(x) = log p(y) + log |dy/dx|.
        """
        scale = self.scale if len(self.scale) > 1 else self.scale * channels
        return -dims / channels * sum(math.log(s) for s in scale)


def pixel_range(given: tuple[Number, Number]) -> PixelRange:
    """Reads `(0, 1)`, `(-1, 1)`, `(-0.5, 0.5)`, `(0, 255)`, or else a `(mean, std)`.

    A mean and a standard deviation are those of a normalisation y = (x - mean) / std of pixels in
    [0, 1]: numbers, or sequences of a number per channel.

    Raises:
        BadInput: it is no such pair.
    """
    try:
        first, second = (_numbers(part) for part in given)
    except (TypeError, ValueError) as error:
        raise BadInput(_MESSAGE.format(given)) from error
    text = f"({_shown(first)}, {_shown(second)})"
    if len(first) == len(second) == 1 and (first[0], second[0]) in RANGES:
        low, high = first[0], second[0]
        scale = 1 / (high - low)
        return PixelRange(text=text, shift=(-low * scale,), scale=(scale,))
    finite = all(map(math.isfinite, (*first, *second)))
    if not finite or min(second) <= 0 or len({len(first), len(second), 1}) > 2:
        raise BadInput(_MESSAGE.format(given))
    return PixelRange(text=f"mean {_shown(first)}, std {_shown(second)}", shift=first, scale=second)


_MESSAGE = (
    "pixel_range must be (0, 1), (-1, 1), (-0.5, 0.5), (0, 255), or (mean, std) with std > 0, "
    "got {!r}"
)


def _numbers(part: Number) -> tuple[float, ...]:
    return tuple(map(float, part)) if isinstance(part, Iterable) else (float(part),)


def _shown(numbers: tuple[float, ...]) -> str:
    return "/".join(f"{number:g}" for number in numbers)
