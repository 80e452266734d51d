"""Trials on a pool of processes: one trial and one thread each, and none takes another down."""

import contextlib
import os
import shutil
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from rdkit_vae.datasets.images import shared
from rdkit_vae.errors import CannotWrite, RdvaeError
from rdkit_vae.files import claimed
from rdkit_vae.grammar import counted, megabytes
from rdkit_vae.ledger import LEFT, state_of
from rdkit_vae.processes import Interrupts, end_children, live_as_child, start_child
from rdkit_vae.store import CRASHED, STOPPED, Sweep
from rdkit_vae.trial import Trial

RETRIES = 2  # of a trial whose process has crashed
_ELSEWHERE = "elsewhere"  # another process has claimed the trial
_NO_ROOM = "no room"  # its files cannot be written
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
    trial: Trial


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Where trials run.

    Attributes:
        jobs: processes at a time.
        images: the dataset, as `datasets.images.share` describes it.
        sweep: folder that the results go to.
        device: torch device of every worker.
    """

    jobs: int
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
    stopping: bool = False
    begun: bool = False
    looked: float = 0.0

    def connections(self) -> list[Any]:
        return [worker.connection for worker in self.workers]

    def patience(self) -> float | None:
        """Seconds to wait for news: for ever, but where trials elsewhere are to be asked for."""
        return _LOOK_AGAIN if self.elsewhere else None

    def give_out(self) -> Iterator[Event]:
        """Gives a trial to every process that is free, or starts one."""
        if self.elsewhere and not self.waiting:
            yield from self._look_again()
        while self.waiting and len(self.workers) < self.pool.jobs and not self.stopping:
            trial = self.waiting.popleft()
            if self.idle:
                worker = self.idle.pop()
                worker.trial = trial
            else:
                process, connection = start_child(
                    _work, self.pool.images, self.pool.sweep, self.pool.device
                )
                worker = _Worker(process=process, connection=connection, trial=trial)
            self.workers.append(worker)
            with contextlib.suppress(OSError):  # it has died: the end of its connection says so
                worker.connection.send((trial.to_dict(), self.before[trial], not self.begun))

    def _look_again(self) -> Iterator[Event]:
        """Queues the trials that other processes had claimed: those may have ended, or died."""
        if not self.looked:
            count = counted(len(self.elsewhere), "trial")
            yield Event(run_id="", kind="waiting", summary=f"{count} of another process")
        if time.monotonic() - self.looked > _LOOK_AGAIN:
            at_work = {worker.trial.run_id for worker in self.workers}
            self.waiting.extend(t for t in self.elsewhere.values() if t.run_id not in at_work)
            self.looked = time.monotonic()

    def hear(self, connection: Any) -> Iterator[Event]:
        """Takes what a worker says next. All that it said comes before its end."""
        worker = next(worker for worker in self.workers if worker.connection is connection)
        run_id = worker.trial.run_id
        try:
            said = connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            said = {"status": CRASHED, "summary": _death(worker.process.exitcode)}
        if said.get("kind") == "started":
            self._check_room(said.pop("bytes"))
        if said.get("kind") in ("started", "epoch"):
            yield Event(run_id=run_id, **said)
            return
        self.workers.remove(worker)
        if said["status"] == CRASHED:
            end_children([(worker.process, worker.connection)])  # the next trial gets a fresh one
        else:
            self.idle.append(worker)
        if "ended_elsewhere" in said:
            self.elsewhere.pop(run_id, None)
            yield Event(
                run_id=run_id,
                kind="ended",
                status=said["ended_elsewhere"],
                summary="trained by another process",
                elsewhere=True,
            )
        else:
            yield from self._ended(worker.trial, said["status"], said["summary"])

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

    def _ended(self, trial: Trial, status: str, summary: str) -> Iterator[Event]:
        run_id = trial.run_id
        if status == _NO_ROOM:
            raise CannotWrite(summary)
        if status == _ELSEWHERE:
            self.elsewhere[run_id] = trial
            return
        self.elsewhere.pop(run_id, None)
        if status == CRASHED and self.stopping:
            status = STOPPED  # whatever ended it, it goes on when the sweep is run again
        if status == CRASHED:
            self.crashes[run_id] += 1
            if self.crashes[run_id] <= RETRIES:
                self.waiting.appendleft(trial)
                yield Event(run_id=run_id, kind="retried", summary=summary)
                return
            summary = f"{summary}, {self.crashes[run_id]} times"
        yield Event(run_id=run_id, kind="ended", status=status, summary=summary)

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
    connection: "Connection[Any, Any]", images: dict[str, Any], sweep: Sweep, device: str
) -> None:
    """A worker's life: trials come in, events go out, until the other end is closed."""
    live_as_child()
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        while True:
            asked = connection.recv()
            if asked is None:  # to stop, as it does between trials
                continue
            trial, before, measure = Trial.from_dict(asked[0]), asked[1], asked[2]
            try:
                ended = _run(trial, before, measure, connection, images, sweep, device)
            except BrokenPipeError:
                return
            except CannotWrite as error:
                ended = {"status": _NO_ROOM, "summary": str(error)}
            except RdvaeError as error:
                ended = {"status": CRASHED, "summary": str(error)}
            except Exception as error:
                ended = {"status": CRASHED, "summary": _keep_traceback(sweep, trial, error)}
            connection.send({"kind": "ended", **ended})


def _run(
    trial: Trial,
    before: str,
    measure: bool,
    connection: "Connection[Any, Any]",
    images: dict[str, Any],
    sweep: Sweep,
    device: str,
) -> dict[str, str]:
    """Runs a trial unless another process does, or did since its status was `before`.

    Says first that it starts, and if it is to `measure`, the bytes that the trial will write.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    from rdkit_vae.footprint import bytes_of
    from rdkit_vae.runner import run_trial
    from rdkit_vae.training import Training

    def report(training: Training) -> None:
        connection.send({"kind": "epoch", "epoch": training.epoch, "loss": training.loss})

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    with claimed(sweep.claims, trial.run_id) as mine:
        if not mine:
            return {"status": _ELSEWHERE, "summary": "another process trains it"}
        status = state_of(sweep, trial.run_id).status
        if status not in (before, LEFT):
            return {"status": "", "ended_elsewhere": status}
        data = shared(images)
        size = bytes_of(Training(trial, data)) if measure else 0.0
        connection.send({"kind": "started", "bytes": size})
        # While it trains, all that can come is the word to stop.
        outcome = run_trial(
            trial, data, sweep, device=device, on_epoch=report, stop=connection.poll
        )
        return {"status": outcome.status, "summary": outcome.summary}


def _keep_traceback(sweep: Sweep, trial: Trial, error: Exception) -> str:
    path = sweep.root / "crashes" / f"{trial.run_id}.txt"
    reason = f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)), "utf-8")
    except OSError:
        return reason
    return f"{reason} (traceback in {path})"
