"""Trials on a pool of processes: a thread and a group each, and no group takes another down."""

import contextlib
import shutil
import signal
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from rdkit_vae.config.trial import Trial
from rdkit_vae.errors import CannotWrite
from rdkit_vae.store.paths import CRASHED, STOPPED
from rdkit_vae.sweep.pace import Pace
from rdkit_vae.sweep.worker import Pool, work
from rdkit_vae.system.processes import Interrupts, end_children, start_child
from rdkit_vae.text import counted, megabytes

RETRIES = 2  # of a trial whose process has crashed
_LOOK_AGAIN = 1.0  # seconds until a trial that is elsewhere is asked for again


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a trial.

    Attributes:
        run_id: which trial; empty where it happened to the whole sweep.
        kind: `started`, `epoch`, `retried` or `ended`; of the whole sweep, `pace` (it was
            measured), `waiting` (for the trials that other processes have claimed) or `stopping`
            (after an interrupt).
        epoch, loss: epochs done and the mean loss of the last, in nats (kind `epoch`).
        status: how it ended.
        summary: in words, how it ended, why it is retried, or what is waited for.
        elsewhere: another process has trained it, and has written what is to be written of it.
        process: the number of the process that says so; 0 where it is this one.
        pace: how long trials take (kind `pace`).
    """

    run_id: str
    kind: str
    epoch: int = 0
    loss: float = 0.0
    status: str = ""
    summary: str = ""
    elsewhere: bool = False
    process: int = 0
    pace: Pace | None = None


@dataclass(kw_only=True)
class _Worker:
    process: BaseProcess
    connection: "Connection[Any, Any]"
    trials: dict[str, Trial] = field(default_factory=dict)  # given to it and not ended


def run_trials(trials: Mapping[Trial, str], pool: Pool, interrupts: Interrupts) -> Iterator[Event]:
    """Runs trials and yields what happens. Closing the iterator stops the workers at once.

    A first interrupt lets each worker finish its step and write where it is, and gives out no
    further trial.

    Args:
        trials: what to run, in this order, and the status that each has so far.
        pool: where.
        interrupts: those that the user sends.

    Raises:
        CannotWrite: there is no room for the files of a trial.
        KeyboardInterrupt: a second interrupt.
    """
    queue = _Queue(pool, trials, deque(trials))
    try:
        if interrupts.count():
            yield from queue.stop_gently()
        while queue.waiting or queue.workers or queue.elsewhere:
            yield from queue.give_out()
            for ready in wait([interrupts.pipe, *queue.connections()], queue.patience()):
                if ready is not interrupts.pipe:
                    yield from queue.hear(ready)
                elif interrupts.count() == 1:
                    yield from queue.stop_gently()
                else:
                    raise KeyboardInterrupt
    finally:
        queue.end()


@dataclass
class _Queue:
    """The trials of a pool: to be given out, at work, or claimed by another process."""

    pool: Pool
    before: Mapping[Trial, str]
    waiting: deque[Trial]
    workers: list[_Worker] = field(default_factory=list)
    idle: list[_Worker] = field(default_factory=list)
    elsewhere: dict[str, Trial] = field(default_factory=dict)
    crashes: Counter[str] = field(default_factory=Counter)
    alone: set[str] = field(default_factory=set)  # of a group that crashed: one by one, now
    stopping: bool = False
    begun: bool = False
    looked: float = 0.0

    def connections(self) -> list[Any]:
        return [worker.connection for worker in self.workers]

    def patience(self) -> float | None:
        """Seconds to wait for news: for ever, but where trials elsewhere are to be asked for."""
        return _LOOK_AGAIN if self.elsewhere else None

    def give_out(self) -> Iterator[Event]:
        """Gives trials to every process that is free, or starts one."""
        if self.elsewhere and not self.waiting:
            yield from self._look_again()
        while self.waiting and len(self.workers) < self.pool.jobs and not self.stopping:
            trials = self._next_group()
            if self.idle:
                worker = self.idle.pop()
            else:
                process, connection = start_child(work, self.pool)
                worker = _Worker(process=process, connection=connection)
            worker.trials = {trial.run_id: trial for trial in trials}
            self.workers.append(worker)
            given = [(trial.to_dict(), self.before[trial]) for trial in trials]
            with contextlib.suppress(OSError):  # it has died: the end of its connection says so
                worker.connection.send((given, not self.begun))

    def _next_group(self) -> list[Trial]:
        """Takes the next trial that waits, and those of its kind that go with it."""
        first = self.waiting[0]
        alike = (t for t in self.waiting if t.kind == first.kind and t.run_id not in self.alone)
        group = [first] if first.run_id in self.alone else list(islice(alike, self.pool.pack))
        for trial in group:
            self.waiting.remove(trial)
        return group

    def _look_again(self) -> Iterator[Event]:
        """Queues the trials that other processes had claimed: those may have ended, or died."""
        if not self.looked:
            count = counted(len(self.elsewhere), "trial")
            yield Event(run_id="", kind="waiting", summary=f"{count} of another process")
        if time.monotonic() - self.looked > _LOOK_AGAIN:
            at_work = {run_id for worker in self.workers for run_id in worker.trials}
            self.waiting.extend(t for t in self.elsewhere.values() if t.run_id not in at_work)
            self.looked = time.monotonic()

    def hear(self, connection: Any) -> Iterator[Event]:
        """Takes what a worker says next. All that it said comes before its end."""
        worker = next(worker for worker in self.workers if worker.connection is connection)
        try:
            said = connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            said = {"kind": "broken", "summary": _death(worker.process.exitcode)}
        process = worker.process.pid or 0
        match said.pop("kind"):
            case "room":
                self._check_room(said["bytes"])
            case "elsewhere":
                trial = worker.trials.pop(said["run_id"])
                if not self.stopping:
                    self.elsewhere[trial.run_id] = trial
            case "ended":
                yield from self._ended(worker.trials.pop(said["run_id"]), process=process, **said)
            case "no room":
                raise CannotWrite(said["summary"])
            case "free":
                self.workers.remove(worker)
                self.idle.append(worker)
            case "broken":
                self.workers.remove(worker)
                end_children([(worker.process, worker.connection)])  # others get a fresh one
                yield from self._crashed(list(worker.trials.values()), said["summary"])
            case "pace":
                yield Event(run_id="", kind="pace", process=process, **said)
            case kind:
                yield Event(kind=kind, process=process, **said)

    def _check_room(self, bytes_of_trial: float) -> None:
        """Refuses to begin what the disk cannot hold, once the first trial knows its size.

        Raises:
            CannotWrite: there is too little room.
        """
        if self.begun:
            return
        self.begun, sweep = True, self.pool.sweep
        needed = sum(
            max(0.0, bytes_of_trial - sweep.bytes_of(other.run_id)) for other in self.before
        )
        free = shutil.disk_usage(sweep.root).free
        if needed > free:
            raise CannotWrite(
                f"{sweep.root}: about {megabytes(needed)} will be written and "
                f"{megabytes(free)} are free; make room, or take --checkpoints last"
            )

    def _ended(self, trial: Trial, **said: Any) -> Iterator[Event]:
        self.elsewhere.pop(trial.run_id, None)
        yield Event(kind="ended", **said)

    def _crashed(self, trials: list[Trial], summary: str) -> Iterator[Event]:
        """Queues trials whose process broke: a group's one by one, as any of them may be why."""
        for trial in reversed(trials):
            run_id = trial.run_id
            if self.stopping:  # whatever ended it, it goes on when the sweep is run again
                yield from self._ended(trial, run_id=run_id, status=STOPPED, summary=summary)
                continue
            if len(trials) == 1:
                self.crashes[run_id] += 1
            if self.crashes[run_id] > RETRIES:
                summary = f"{summary}, {self.crashes[run_id]} times"
                yield from self._ended(trial, run_id=run_id, status=CRASHED, summary=summary)
                continue
            self.alone.add(run_id)
            self.waiting.appendleft(trial)
            yield Event(run_id=run_id, kind="retried", summary=summary)

    def stop_gently(self) -> Iterator[Event]:
        """Asks every worker to write where it is, and gives out nothing more."""
        self.stopping = True
        self.waiting.clear()
        self.elsewhere.clear()
        yield Event(run_id="", kind="stopping")
        for worker in self.workers:
            with contextlib.suppress(OSError):
                worker.connection.send(None)

    def end(self) -> None:
        """Ends the processes at once."""
        end_children((w.process, w.connection) for w in [*self.workers, *self.idle])


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"its process was killed by {signal.Signals(-exitcode).name}"
    return f"its process ended with exit code {exitcode}"
