"""Independent streams of random numbers, each a function of (seed, stream, index).

No generator state is carried from epoch to epoch. So a resumed training equals an uninterrupted
one, and trials with the same seed share initial weights, data order and noise, whatever their beta.
"""

import numpy as np

# Results depend on the position of a stream in this list: only append.
STREAMS = (
    "weights",
    "order",
    "noise",
    "augment",
    "draws",
    "augment-split",
    "pictures",
    "classifier",
    "priors",
    "generation",
)


def generator(seed: int, stream: str, index: int = 0) -> np.random.Generator:
    """Returns a NumPy generator for one of `STREAMS`; `index` is an epoch or a split."""
    return np.random.default_rng([seed, STREAMS.index(stream), index])


def integer(seed: int, stream: str, index: int = 0) -> int:
    """Returns a 63-bit seed for a generator of another library."""
    return int(generator(seed, stream, index).integers(2**63))
