"""One seed, many independent streams of random numbers, each a function of (seed, stream, index).

No generator state is carried from epoch to epoch. So a training that goes on from a checkpoint
is the training that was never interrupted, and two trials of one seed share their initial
weights, data order and noise, whatever their beta.
"""

import numpy as np

# A stream's number is part of every result: append, never renumber.
STREAMS = ("weights", "order", "noise", "augment", "draws", "augment-split", "pictures")


def generator(seed: int, stream: str, index: int = 0) -> np.random.Generator:
    """A NumPy generator for one of `STREAMS`; `index` is the epoch or the split that it serves."""
    return np.random.default_rng([seed, STREAMS.index(stream), index])


def integer(seed: int, stream: str, index: int = 0) -> int:
    """A 63-bit seed for a generator of another library."""
    return int(generator(seed, stream, index).integers(2**63))
