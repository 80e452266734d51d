"""When a sweep will be done: at the pace that was measured first, and more and more at its own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rdkit_vae.config.trial import Trial
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.messages import Event, EventKind
from rdkit_vae.sweeps.pace import Pace, seconds_until_done

_WEIGHT_OF_PACE = 3.0  # seconds of training that count as much as the pace that was measured


@dataclass
class _Process:
    """A process at work: epochs done of its trials, and when the last news came from it."""

    epochs: dict[str, int] = field(default_factory=dict)
    heard: float = 0.0


class Forecast:
    """Follows the events of a sweep, and says how long it will still take.

    Attributes:
        pace: the one that was measured; None before.
    """

    def __init__(self, left: Sequence[Trial], processes: int) -> None:
        """Starts from the trials that are left, which take equally long."""
        self._left = {trial.run_id: trial for trial in left}
        self._number = processes
        self._epochs = self._epochs_left = sum(trial.epochs for trial in left)
        self._at_work: dict[int, _Process] = {}
        self.pace: Pace | None = None
        # Seconds that processes worked, and what the pace says that this should have taken.
        self._took = self._expected = 0.0

    @property
    def running(self) -> dict[str, int]:
        """The trials at work, and the epochs that are done of each."""
        return {
            run_id: epoch
            for process in self._at_work.values()
            for run_id, epoch in process.epochs.items()
        }

    @property
    def epochs_done(self) -> int:
        """Of the trials that were left; one that has ended early counts whole."""
        return self._epochs - self._epochs_left + sum(self.running.values())

    def take(self, event: Event, now: float) -> None:
        """Takes an event that came at a time, in seconds of any clock."""
        if event.pace:
            self.pace = self.pace or event.pace
        if event.run_id not in self._left:
            return
        if event.kind is EventKind.STARTED:
            process = self._at_work.setdefault(event.process, _Process())
            process.heard = process.heard if process.epochs else now
            process.epochs[event.run_id] = 0
            return
        for process in self._at_work.values():
            if event.run_id in process.epochs:
                self._advance(process, event, now)
        if event.kind is EventKind.ENDED:
            self._epochs_left -= self._left.pop(event.run_id).epochs

    def _advance(self, process: _Process, event: Event, now: float) -> None:
        """Counts what a process has done since it was heard last."""
        trial, before = self._left[event.run_id], process.epochs[event.run_id]
        self._took += now - process.heard
        process.heard = now
        evaluated = before in trial.checkpoints  # after the epoch that was told last
        if event.kind is EventKind.EPOCH:
            self._expect(1, evaluated)
            process.epochs[event.run_id] = event.epoch
            return
        if event.status is Status.OK:
            self._expect(0, evaluated)
        del process.epochs[event.run_id]  # it has ended, or is to be tried again

    def _expect(self, epochs: int, checkpoints: int) -> None:
        if self.pace:
            self._expected += epochs * self.pace.epoch + checkpoints * self.pace.checkpoint

    def seconds_left(self, now: float) -> float | None:
        """How long the sweep will still take; None before any pace is known."""
        if self.pace is None:
            return None
        pace, busy = self.pace, [p for p in self._at_work.values() if p.epochs]
        late = sum(max(0.0, now - p.heard - self._until_news(p)) for p in busy)
        slower = (_WEIGHT_OF_PACE + self._took + late) / (_WEIGHT_OF_PACE + self._expected)
        at_work = []
        for process in busy:
            needed, waited = slower * self._needed(process), now - process.heard
            # What is overdue can come at any moment, and the longer it does not, the less likely.
            at_work.append(max(needed - waited, waited / 10))
        waiting = len(self._left) - sum(len(process.epochs) for process in busy)
        if not self._left:
            return 0.0
        packs = math.ceil(waiting / pace.pack_size)
        per_trial = pace.seconds(next(iter(self._left.values())))
        per_pack = slower * per_trial * waiting / packs if packs else 0.0
        return seconds_until_done(at_work, packs, per_pack, self._number)

    def _needed(self, process: _Process) -> float:
        """What all its trials still take at the pace that was measured."""
        assert self.pace is not None
        return sum(self.pace.seconds(self._left[r], e) for r, e in process.epochs.items())

    def _until_news(self, process: _Process) -> float:
        """From one news to the next, at that pace: an epoch of all, and what is evaluated."""
        assert self.pace is not None
        evaluated = sum(e in self._left[r].checkpoints for r, e in process.epochs.items())
        return len(process.epochs) * self.pace.epoch + evaluated * self.pace.checkpoint
