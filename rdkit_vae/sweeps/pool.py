"""A pool of worker processes, which train one pack each; if one crashes, the others continue."""

import contextlib
import shutil
import signal
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from rdkit_vae.config.trial import Trial
from rdkit_vae.errors import CannotWrite
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.messages import (
    Assignment,
    Broken,
    Elsewhere,
    Event,
    EventKind,
    Free,
    Refused,
    RoomNeeded,
    Stop,
    WorkerSettings,
)
from rdkit_vae.sweeps.worker import Message, work
from rdkit_vae.system.files import clear_partial
from rdkit_vae.system.processes import Interrupts, end_children, start_child
from rdkit_vae.text import counted, megabytes

RETRIES = 2  # of a trial whose process has crashed
_LOOK_AGAIN = 1.0  # seconds between attempts to claim trials of other processes


@dataclass(kw_only=True)
class _Worker:
    process: BaseProcess
    connection: "Connection[Any, Any]"
    trials: dict[str, Trial] = field(default_factory=dict)  # assigned and unfinished


class Pool:
    """Trials and the processes that train them."""

    def __init__(
        self, trials: Mapping[Trial, Status], settings: WorkerSettings, pack_size: int
    ) -> None:
        """Does not start any process yet.

        Args:
            trials: what to run, in this order, with the current status of each.
            settings: of every worker.
            pack_size: largest number of trials in a pack.
        """
        self._settings, self._pack_size, self._before = settings, pack_size, trials
        self._waiting = deque(trials)
        self._busy: list[_Worker] = []
        self._idle: list[_Worker] = []
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
        try:
            if interrupts.count():
                yield from self._stop_gently()
            while self._waiting or self._busy or self._elsewhere:
                yield from self._assign()
                connections = [worker.connection for worker in self._busy]
                timeout = _LOOK_AGAIN if self._elsewhere else None
                for ready in wait([interrupts.pipe, *connections], timeout):
                    if ready is not interrupts.pipe:
                        yield from self._receive(ready)
                    elif interrupts.count() > 1:
                        raise KeyboardInterrupt
                    elif not self._stopping:
                        yield from self._stop_gently()
        finally:
            end_children((w.process, w.connection) for w in [*self._busy, *self._idle])

    def _assign(self) -> Iterator[Event]:
        """Assigns trials to idle processes, or to new ones."""
        if self._elsewhere and not self._waiting:
            yield from self._look_again()
        while self._waiting and len(self._busy) < self._settings.jobs and not self._stopping:
            pack = self._next_pack()
            if self._idle:
                worker = self._idle.pop()
            else:
                process, connection = start_child(work, self._settings)
                worker = _Worker(process=process, connection=connection)
            worker.trials = {trial.run_id: trial for trial in pack}
            self._busy.append(worker)
            before = [(trial.to_dict(), self._before[trial]) for trial in pack]
            with contextlib.suppress(OSError):  # if it has died, `_receive` will notice
                worker.connection.send(Assignment(before=before, measure=not self._has_room))

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
            count = counted(len(self._elsewhere), "trial")
            yield Event(kind=EventKind.WAITING, summary=f"{count} of another process")
        if time.monotonic() - self._looked > _LOOK_AGAIN:
            at_work = {run_id for worker in self._busy for run_id in worker.trials}
            self._waiting.extend(t for t in self._elsewhere.values() if t.run_id not in at_work)
            self._looked = time.monotonic()

    def _receive(self, connection: Any) -> Iterator[Event]:
        """Handles the next message of a worker; its end counts as the last one."""
        worker = next(worker for worker in self._busy if worker.connection is connection)
        message: Message
        try:
            message = connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            message = Broken(_death(worker.process.exitcode))
        match message:
            case Event():
                if message.kind is EventKind.ENDED:
                    del worker.trials[message.run_id]
                    self._elsewhere.pop(message.run_id, None)
                yield replace(message, process=worker.process.pid or 0)
            case RoomNeeded(bytes=needed):
                self._check_room(needed)
            case Elsewhere(run_id=run_id):
                trial = worker.trials.pop(run_id)
                if not self._stopping:
                    self._elsewhere[run_id] = trial
            case Free():
                self._busy.remove(worker)
                self._idle.append(worker)
            case Refused(error=error):
                raise error
            case Broken(summary=summary):
                self._busy.remove(worker)
                end_children([(worker.process, worker.connection)])  # `_assign` starts a new one
                clear_partial(self._settings.sweep.root, worker.process.pid)
                yield from self._crashed(list(worker.trials.values()), summary)

    def _check_room(self, bytes_per_trial: float) -> None:
        """Checks that the files of all trials fit on the disk, from the size of the first trial."""
        if self._has_room:
            return
        sweep = self._settings.sweep
        needed = sum(max(0.0, bytes_per_trial - sweep.bytes_of(t.run_id)) for t in self._before)
        free = shutil.disk_usage(sweep.root).free
        if needed > free:
            raise CannotWrite(
                f"{sweep.root}: the sweep will write about {megabytes(needed)}, but only "
                f"{megabytes(free)} are free; make room, or use --checkpoints last"
            )
        self._has_room = True

    def _crashed(self, trials: list[Trial], summary: str) -> Iterator[Event]:
        """Queues trials whose process crashed; one by one, as any of a pack may be the cause."""
        for trial in reversed(trials):
            run_id = trial.run_id
            if self._stopping:  # it will continue when the sweep is run again
                yield self._ended(run_id, Status.STOPPED, summary)
                continue
            if len(trials) == 1:
                self._crashes[run_id] += 1
            if self._crashes[run_id] > RETRIES:
                yield self._ended(
                    run_id, Status.CRASHED, f"{summary}, {self._crashes[run_id]} times"
                )
                continue
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
        for worker in self._busy:
            with contextlib.suppress(OSError):
                worker.connection.send(Stop())


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"its process was killed by {signal.Signals(-exitcode).name}"
    return f"its process ended with exit code {exitcode}"
