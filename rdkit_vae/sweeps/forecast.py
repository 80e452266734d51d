"""How long a sweep will still take: from a measured pace first, then from its own progress."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rdkit_vae.config.trial import Trial
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.messages import Event, EventKind, Pace

_WEIGHT_OF_PACE = 3.0  # the measured pace counts as much as this many seconds of training
_TIMED = 0.5  # seconds of steps that a stopwatch measures


@dataclass
class _Process:
    """A process of the sweep: epochs done by its running trials, and the time of its last event."""

    epochs: dict[str, int] = field(default_factory=dict)
    last_event: float = 0.0


class Forecast:
    """Follows the events of a sweep and estimates how long it will still take.

    Attributes:
        pace: the measured pace; None before it is known.
    """

    def __init__(self, left: Sequence[Trial], processes: int) -> None:
        """Starts from the trials that are left to run, which all take equally long."""
        self._left = {trial.run_id: trial for trial in left}
        self._number = processes
        self._epochs = self._epochs_left = sum(trial.epochs for trial in left)
        self._processes: dict[int, _Process] = {}
        self.pace: Pace | None = None
        # Seconds that processes have worked, and that they should have taken at the measured pace.
        self._took = self._expected = 0.0

    @property
    def running(self) -> dict[str, int]:
        """The number of epochs done by each running trial."""
        return {
            run_id: epoch for p in self._processes.values() for run_id, epoch in p.epochs.items()
        }

    @property
    def epochs_done(self) -> int:
        """Of the trials that were left; all epochs of a trial that has ended count."""
        return self._epochs - self._epochs_left + sum(self.running.values())

    def take(self, event: Event, now: float) -> None:
        """Takes an event that happened at a time, in seconds of any clock."""
        self.pace = self.pace or event.pace
        if event.run_id not in self._left:
            return
        if event.kind is EventKind.STARTED:
            process = self._processes.setdefault(event.process, _Process())
            process.last_event = process.last_event if process.epochs else now
            process.epochs[event.run_id] = 0
            return
        for process in self._processes.values():
            if event.run_id in process.epochs:
                self._advance(process, event, now)
        if event.kind is EventKind.ENDED:
            self._epochs_left -= self._left.pop(event.run_id).epochs

    def _advance(self, process: _Process, event: Event, now: float) -> None:
        """Counts what a process has done since its last event."""
        trial, before = self._left[event.run_id], process.epochs.pop(event.run_id)
        self._took += now - process.last_event
        process.last_event = now
        if event.kind is EventKind.EPOCH:
            process.epochs[event.run_id] = event.epoch
        epochs = int(event.kind is EventKind.EPOCH)  # one, even if a trial resumes at a later epoch
        if self.pace and (epochs or event.status is Status.OK):
            evaluated = before in trial.checkpoints
            self._expected += epochs * self.pace.epoch + evaluated * self.pace.checkpoint

    def seconds_left(self, now: float) -> float | None:
        """How long the sweep will still take; None before any pace is known."""
        if self.pace is None or not self._left:
            return None if self._left else 0.0
        busy = [process for process in self._processes.values() if process.epochs]
        overdue = sum(max(0.0, now - p.last_event - self._until_next_event(p)) for p in busy)
        slower = (_WEIGHT_OF_PACE + self._took + overdue) / (_WEIGHT_OF_PACE + self._expected)
        needed = []
        for process in busy:
            seconds = sum(self.pace.seconds(self._left[r], e) for r, e in process.epochs.items())
            waited = now - process.last_event
            # An overdue event may come any moment, but the longer it takes, the less likely it is.
            needed.append(max(slower * seconds - waited, waited / 10))
        waiting = len(self._left) - len(self.running)
        packs = math.ceil(waiting / self.pace.pack_size)
        per_trial = slower * self.pace.seconds(next(iter(self._left.values())))
        per_pack = per_trial * waiting / packs if packs else 0.0
        return seconds_until_done(needed, packs, per_pack, self._number)

    def _until_next_event(self, process: _Process) -> float:
        """An epoch of each trial of its pack, and the evaluations before it, at that pace."""
        assert self.pace is not None
        evaluated = sum(e in self._left[r].checkpoints for r, e in process.epochs.items())
        return len(process.epochs) * self.pace.epoch + evaluated * self.pace.checkpoint


def seconds_until_done(
    needed: Sequence[float], packs: int, per_pack: float, processes: int
) -> float:
    """When all packs are done, if each process takes the next one as soon as it is free.

    Args:
        needed: seconds that each busy process needs for its current pack.
        packs, per_pack: number of packs that wait, and seconds for each.
        processes: largest number of processes, busy or not.
    """
    free = sorted([*needed, *(max(0, processes - len(needed)) * [0.0])])
    rounds, rest = divmod(packs, len(free))
    return max(at + per_pack * (rounds + (number < rest)) for number, at in enumerate(free))


class Stopwatch:
    """Measures an epoch by its first steps, except the very first, which also sets things up."""

    def __init__(self, steps: int) -> None:
        """Starts just before an epoch with this many steps."""
        self._steps = steps
        self._times = [time.perf_counter()]  # the start, then the end of each step

    def end_step(self) -> float | None:
        """Called after each step; returns the seconds of an epoch once, after enough steps."""
        if not self._times:
            return None
        self._times.append(time.perf_counter())
        return self._seconds_of_epoch() if self._times[-1] - self._times[1] > _TIMED else None

    def end_epoch(self) -> float | None:
        """Called after each epoch; returns its seconds unless `end_step` has returned them."""
        if not self._times:
            return None
        self._times.append(time.perf_counter())
        return self._seconds_of_epoch()

    def _seconds_of_epoch(self) -> float:
        start, first, *others = self._times
        self._times = []
        return (others[-1] - first) / len(others) * self._steps if others else first - start


def duration(seconds: float) -> str:
    """`45 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
