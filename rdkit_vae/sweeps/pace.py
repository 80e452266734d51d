"""How long trials take: a pace that was measured, and what it says of the trials that are left."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rdkit_vae.config.trial import Trial

_TIMED = 0.5  # seconds of steps that make a pace


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What was measured of a training.

    Attributes:
        epoch: seconds of an epoch of one trial; in a pack, its share of the pack's.
        checkpoint: seconds of the evaluation of one checkpoint.
        pack_size: trials that a process trains at once.
    """

    epoch: float
    checkpoint: float
    pack_size: int

    def seconds(self, trial: Trial, epoch: int = 0) -> float:
        """What a trial takes from the end of an epoch on, the checkpoint of that epoch included."""
        checkpoints = sum(at >= max(epoch, 1) for at in trial.checkpoints)
        return (trial.epochs - epoch) * self.epoch + checkpoints * self.checkpoint


def seconds_until_done(
    at_work: Sequence[float], packs: int, per_pack: float, processes: int
) -> float:
    """When all is done, if each process takes the next pack that waits whenever it is free.

    Args:
        at_work: seconds that each busy process still needs for what it has.
        packs, per_pack: how many packs wait, and the seconds that each takes.
        processes: how many there are at most, busy or not.
    """
    free = sorted([*at_work, *(max(0, processes - len(at_work)) * [0.0])])
    rounds, rest = divmod(packs, len(free))
    return max(at + per_pack * (rounds + (number < rest)) for number, at in enumerate(free))


class Stopwatch:
    """Times the steps of a first epoch, but for the very first, which also sets things up."""

    def __init__(self, steps: int) -> None:
        """Is made just before an epoch of so many steps begins."""
        self._of_epoch, self._timed = steps, 0
        self._made = time.perf_counter()
        self._first: float | None = None
        self._done = False

    def end_step(self) -> float | None:
        """Called after each step; returns the seconds of an epoch once enough steps were timed."""
        now = time.perf_counter()
        if self._first is None:
            self._first = now
            return None
        self._timed += 1
        return self._told(now) if now - self._first > _TIMED else None

    def end_epoch(self) -> float | None:
        """Called after each epoch; returns its seconds where the steps have not told them."""
        return self._told(time.perf_counter())

    def _told(self, now: float) -> float | None:
        if self._done:
            return None
        self._done = True
        if self._first is None or not self._timed:
            return now - self._made
        return (now - self._first) / self._timed * self._of_epoch
