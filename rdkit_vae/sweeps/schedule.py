"""The order in which the trials of a sweep are run, and what becomes of those that crash."""

import contextlib
import shutil
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from itertools import count, islice

from rdkit_vae.config.trial import Trial
from rdkit_vae.errors import CannotWrite
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.executors import Executor
from rdkit_vae.sweeps.messages import (
    Assignment,
    Broken,
    Elsewhere,
    Event,
    EventKind,
    Free,
    Message,
    Refused,
    RoomNeeded,
)
from rdkit_vae.system.processes import Interrupts
from rdkit_vae.text import counted, megabytes

RETRIES = 2  # of a trial whose worker has crashed
_LOOK_AGAIN = 1.0  # seconds between attempts to claim trials of other processes


class Schedule:
    """Trials and the executor that runs them."""

    def __init__(
        self,
        trials: Mapping[Trial, Status],
        executor: Executor,
        *,
        sweep: Sweep | None,
        pack_size: int,
    ) -> None:
        """Does not start anything yet.

        Args:
            trials: what to run, in this order, with the current status of each.
            executor: what runs them.
            sweep: the folder that keeps what they write, which must have room; None: there is none.
            pack_size: largest number of trials in a pack.
        """
        self._executor, self._sweep = executor, sweep
        self._pack_size, self._before = pack_size, trials
        self._waiting = deque(trials)
        self._numbers = count(1)
        self._running: dict[int, dict[str, Trial]] = {}  # by assignment, what has not ended
        self._elsewhere: dict[str, Trial] = {}  # claimed by another process
        self._crashes: Counter[str] = Counter()
        self._alone: set[str] = set()  # their pack has crashed, so each now runs alone
        self._stopping = False
        self._has_room = False  # on the disk, for all trials
        self._looked = 0.0

    def run(self, interrupts: Interrupts) -> Iterator[Event]:
        """Runs the trials and yields what happens. Closing the iterator stops the workers at once.

        After a first interrupt, each worker finishes its step and saves its trials, and no further
        trial is started.

        Raises:
            BadInput: the trials cannot be run because of the user's code or the images.
            CannotWrite: there is no room for the files of a trial.
            KeyboardInterrupt: after a second interrupt.
        """
        with contextlib.closing(self._executor):
            if interrupts.count():
                yield from self._stop_gently()
            while self._waiting or self._running or self._elsewhere:
                yield from self._assign()
                timeout = _LOOK_AGAIN if self._elsewhere else None
                for number, message in self._executor.receive(interrupts.pipe, timeout):
                    yield from self._take(number, message)
                if interrupts.pipe.poll():
                    if interrupts.count() > 1:
                        raise KeyboardInterrupt
                    if not self._stopping:
                        yield from self._stop_gently()

    def _assign(self) -> Iterator[Event]:
        """Submits waiting trials for the slots that are free."""
        if self._elsewhere and not self._waiting:
            yield from self._look_again()
        while self._waiting and len(self._running) < self._executor.slots and not self._stopping:
            pack, number = self._next_pack(), next(self._numbers)
            self._running[number] = {trial.run_id: trial for trial in pack}
            before = [(trial.to_dict(), self._before[trial]) for trial in pack]
            self._executor.submit(number, Assignment(before=before, measure=not self._has_room))

    def _next_pack(self) -> list[Trial]:
        """Takes the next waiting trial, and others that can be in a pack with it."""
        first = self._waiting[0]
        pack = [first]
        if first.run_id not in self._alone:
            packable = (
                trial
                for trial in self._waiting
                if trial.pack_key == first.pack_key and trial.run_id not in self._alone
            )
            pack = list(islice(packable, self._pack_size))
        for trial in pack:
            self._waiting.remove(trial)
        return pack

    def _look_again(self) -> Iterator[Event]:
        """Queues trials that other processes had claimed, as these may have ended or died."""
        if not self._looked:
            trials = counted(len(self._elsewhere), "trial")
            yield Event(kind=EventKind.WAITING, summary=f"{trials} of another process")
        if time.monotonic() - self._looked > _LOOK_AGAIN:
            at_work = {run_id for trials in self._running.values() for run_id in trials}
            self._waiting.extend(t for t in self._elsewhere.values() if t.run_id not in at_work)
            self._looked = time.monotonic()

    def _take(self, number: int, message: Message) -> Iterator[Event]:
        """Handles a message about an assignment."""
        running = self._running[number]
        match message:
            case Event():
                if message.kind is EventKind.ENDED:
                    del running[message.run_id]
                    self._elsewhere.pop(message.run_id, None)
                yield message
            case RoomNeeded(bytes=needed):
                self._check_room(needed)
            case Elsewhere(run_id=run_id):
                trial = running.pop(run_id)
                if not self._stopping:
                    self._elsewhere[run_id] = trial
            case Free():
                del self._running[number]
            case Refused(error=error):
                raise error
            case Broken(summary=summary, lost=lost):
                del self._running[number]
                yield from self._crashed(list(running.values()), summary, lost)

    def _check_room(self, bytes_per_trial: float) -> None:
        """Checks that the files of all trials fit on the disk, from the size of the first trial."""
        sweep = self._sweep
        if self._has_room or sweep is None:
            self._has_room = True
            return
        needed = sum(max(0.0, bytes_per_trial - sweep.bytes_of(t.run_id)) for t in self._before)
        free = shutil.disk_usage(sweep.root).free
        if needed > free:
            raise CannotWrite(
                f"{sweep.root}: the sweep will write about {megabytes(needed)}, but only "
                f"{megabytes(free)} are free; make room, or use --checkpoints last"
            )
        self._has_room = True

    def _crashed(self, trials: list[Trial], summary: str, lost: bool) -> Iterator[Event]:
        """Queues trials whose worker crashed; one by one, as any of a pack may be the cause."""
        for trial in reversed(trials):
            run_id = trial.run_id
            if self._stopping:  # it will continue when the sweep is run again
                yield self._ended(run_id, Status.STOPPED, summary)
                continue
            if len(trials) == 1 and not lost:
                self._crashes[run_id] += 1
            if self._crashes[run_id] > RETRIES:
                yield self._ended(
                    run_id, Status.CRASHED, f"{summary}, {self._crashes[run_id]} times"
                )
                continue
            if not lost:
                self._alone.add(run_id)
            self._waiting.appendleft(trial)
            yield Event(kind=EventKind.RETRIED, run_id=run_id, summary=summary)

    def _ended(self, run_id: str, status: Status, summary: str) -> Event:
        self._elsewhere.pop(run_id, None)
        return Event(kind=EventKind.ENDED, run_id=run_id, status=status, summary=summary)

    def _stop_gently(self) -> Iterator[Event]:
        """Asks every worker to save its trials and stop, and assigns no more."""
        self._stopping = True
        self._waiting.clear()
        self._elsewhere.clear()
        yield Event(kind=EventKind.STOPPING)
        self._executor.stop()
