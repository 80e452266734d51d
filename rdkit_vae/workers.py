"""Trials on a pool of processes: a thread and a group each, and no group takes another down."""

import contextlib
import os
import shutil
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from rdkit_vae.datasets.images import shared
from rdkit_vae.errors import CannotWrite, RdvaeError
from rdkit_vae.files import claimed
from rdkit_vae.grammar import counted, megabytes
from rdkit_vae.ledger import LEFT, state_of
from rdkit_vae.processes import (
    Interrupts,
    end_children,
    keep_freed_memory,
    live_as_child,
    start_child,
)
from rdkit_vae.store import CRASHED, STOPPED, Sweep
from rdkit_vae.trial import Trial

RETRIES = 2  # of a trial whose process has crashed
_LOOK_AGAIN = 1.0  # seconds until a trial that is elsewhere is asked for again


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a trial.

    Attributes:
        run_id: which trial; empty where it happened to the whole sweep.
        kind: `started`, `epoch`, `retried` or `ended`; of the whole sweep, `waiting` (for the
            trials that other processes have claimed) or `stopping` (after an interrupt).
        epoch, loss: epochs done and the mean loss of the last, in nats (kind `epoch`).
        status: how it ended.
        summary: in words, how it ended, why it is retried, or what is waited for.
        elsewhere: another process has trained it, and has written what is to be written of it.
    """

    run_id: str
    kind: str
    epoch: int = 0
    loss: float = 0.0
    status: str = ""
    summary: str = ""
    elsewhere: bool = False


@dataclass(kw_only=True)
class _Worker:
    process: BaseProcess
    connection: "Connection[Any, Any]"
    trials: dict[str, Trial] = field(default_factory=dict)  # given to it and not ended


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Where trials run.

    Attributes:
        jobs: processes at a time.
        pack: trials of one kind that a process is given to train at once.
        images: the dataset, as `datasets.images.share` describes it.
        sweep: folder that the results go to.
        device: torch device of every worker.
    """

    jobs: int
    pack: int
    images: dict[str, Any]
    sweep: Sweep
    device: str


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
                process, connection = start_child(
                    _work, self.pool.images, self.pool.sweep, self.pool.device, self.pool.jobs
                )
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
        match said.pop("kind"):
            case "room":
                self._check_room(said["bytes"])
            case "elsewhere":
                trial = worker.trials.pop(said["run_id"])
                if not self.stopping:
                    self.elsewhere[trial.run_id] = trial
            case "ended":
                yield from self._ended(worker.trials.pop(said["run_id"]), **said)
            case "no room":
                raise CannotWrite(said["summary"])
            case "free":
                self.workers.remove(worker)
                self.idle.append(worker)
            case "broken":
                self.workers.remove(worker)
                end_children([(worker.process, worker.connection)])  # others get a fresh one
                yield from self._crashed(list(worker.trials.values()), said["summary"])
            case kind:
                yield Event(kind=kind, **said)

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


def _work(
    connection: "Connection[Any, Any]",
    images: dict[str, Any],
    sweep: Sweep,
    device: str,
    jobs: int,
) -> None:
    """A worker's life: groups of trials come in, events go out, until the other end is closed."""
    live_as_child()
    keep_freed_memory()
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        while True:
            asked = connection.recv()
            if asked is None:  # to stop, as it does between trials
                continue
            before = {Trial.from_dict(values): status for values, status in asked[0]}
            try:
                for said in _run(before, asked[1], connection, images, sweep, device, jobs):
                    connection.send(said)
                said = {"kind": "free"}
            except BrokenPipeError:
                return
            except CannotWrite as error:
                said = {"kind": "no room", "summary": str(error)}
            except RdvaeError as error:
                said = {"kind": "broken", "summary": str(error)}
            except Exception as error:
                said = {"kind": "broken", "summary": _keep_traceback(sweep, [*before], error)}
            connection.send(said)


def _run(
    before: Mapping[Trial, str],
    measure: bool,
    connection: "Connection[Any, Any]",
    images: dict[str, Any],
    sweep: Sweep,
    device: str,
    jobs: int,
) -> Iterator[dict[str, Any]]:
    """Runs trials of one kind, but for those that another process runs, or did since `before`.

    Yields what happens; if it is to `measure`, first the bytes that a trial will write.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    from rdkit_vae.footprint import bytes_of, groups_that_fit
    from rdkit_vae.runner import run_together
    from rdkit_vae.training import Training

    def report(training: Training) -> None:
        run_id, epoch, loss = training.trial.run_id, training.epoch, training.loss
        connection.send({"kind": "epoch", "run_id": run_id, "epoch": epoch, "loss": loss})

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # Nothing here reads such memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    with claimed(sweep.claims, [trial.run_id for trial in before]) as mine:
        trials = []
        for trial, status in before.items():
            if trial.run_id not in mine:
                yield {"kind": "elsewhere", "run_id": trial.run_id}
                continue
            found = state_of(sweep, trial.run_id).status
            if found in (status, LEFT):
                trials.append(trial)
                continue
            summary = "trained by another process"
            said = {"status": found, "summary": summary, "elsewhere": True}
            yield {"kind": "ended", "run_id": trial.run_id, **said}
        if not trials:
            return
        data = shared(images)
        if measure:
            yield {"kind": "room", "bytes": bytes_of(Training(trials[0], data))}
        for group in groups_that_fit(trials, data, device, jobs):
            if connection.poll():
                return
            yield from ({"kind": "started", "run_id": trial.run_id} for trial in group)
            # While it trains, all that can come is the word to stop.
            ended = run_together(
                group, data, sweep, device=device, on_epoch=report, stop=connection.poll
            )
            for trial, outcome in ended:
                said = {"status": outcome.status, "summary": outcome.summary}
                yield {"kind": "ended", "run_id": trial.run_id, **said}


def _keep_traceback(sweep: Sweep, trials: list[Trial], error: Exception) -> str:
    """Files a traceback under the first of the trials that were at work."""
    path = sweep.root / "crashes" / f"{trials[0].run_id}.txt"
    names = "".join(f"{trial.run_id}\n" for trial in trials)
    reason = f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(names + "".join(traceback.format_exception(error)), "utf-8")
    except OSError:
        return reason
    return f"{reason} (traceback in {path})"
