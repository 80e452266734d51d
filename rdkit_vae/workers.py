"""Trials on a pool of processes: one trial and one thread each, and none takes another down."""

import contextlib
import os
import signal
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from rdkit_vae.datasets.images import shared
from rdkit_vae.errors import RdvaeError
from rdkit_vae.processes import end_children, live_as_child, start_child
from rdkit_vae.store import CRASHED, Sweep
from rdkit_vae.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a trial.

    Attributes:
        run_id: which trial.
        kind: `started`, `epoch` or `ended`.
        epoch, loss: epochs done and the mean loss of the last, in nats (kind `epoch`).
        status, summary: how it ended, and in words (kind `ended`).
    """

    run_id: str
    kind: str
    epoch: int = 0
    loss: float = 0.0
    status: str = ""
    summary: str = ""


@dataclass(kw_only=True)
class _Worker:
    process: BaseProcess
    connection: "Connection[Any, Any]"
    trial: Trial


def run_trials(
    trials: Sequence[Trial], *, jobs: int, images: dict[str, Any], sweep: Sweep, device: str
) -> Iterator[Event]:
    """Runs trials and yields what happens. Closing the iterator stops the workers at once.

    Args:
        trials: what to run, in this order.
        jobs: processes at a time.
        images: the dataset, as `datasets.images.share` describes it.
        sweep: folder that the results go to.
        device: torch device of every worker.
    """
    waiting = deque(trials)
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < jobs:
                workers.append(_start(images, sweep, device, waiting.popleft()))
                yield Event(run_id=workers[-1].trial.run_id, kind="started")
            for ready in wait([worker.connection for worker in workers]):
                worker = next(worker for worker in workers if worker.connection is ready)
                event, alive = _next_event(worker)
                yield event
                if event.kind != "ended":
                    continue
                if alive and waiting:
                    worker.trial = waiting.popleft()
                    yield Event(run_id=worker.trial.run_id, kind="started")
                    _give(worker)
                else:
                    workers.remove(worker)
                    _stop([worker])
    finally:
        _stop(workers)


def _start(images: dict[str, Any], sweep: Sweep, device: str, trial: Trial) -> _Worker:
    process, connection = start_child(_work, images, sweep, device)
    worker = _Worker(process=process, connection=connection, trial=trial)
    _give(worker)
    return worker


def _give(worker: _Worker) -> None:
    with contextlib.suppress(OSError):  # it has died: the end of its connection will say so
        worker.connection.send(worker.trial.to_dict())


def _next_event(worker: _Worker) -> tuple[Event, bool]:
    """What a worker says next, and whether it lives. All that it said comes before its end."""
    run_id = worker.trial.run_id
    try:
        return Event(run_id=run_id, **worker.connection.recv()), True
    except (EOFError, OSError):
        worker.process.join()
        summary = _death(worker.process.exitcode)
        return Event(run_id=run_id, kind="ended", status=CRASHED, summary=summary), False


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"its process was killed by {signal.Signals(-exitcode).name}"
    return f"its process ended with exit code {exitcode}"


def _stop(workers: list[_Worker]) -> None:
    end_children((worker.process, worker.connection) for worker in workers)


def _work(
    connection: "Connection[Any, Any]", images: dict[str, Any], sweep: Sweep, device: str
) -> None:
    """A worker's life: trials come in, events go out, until the other end is closed."""
    live_as_child()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    from rdkit_vae.runner import run_trial
    from rdkit_vae.training import Training

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    data = shared(images)

    def report(training: Training) -> None:
        connection.send({"kind": "epoch", "epoch": training.epoch, "loss": training.loss})

    while True:
        try:
            trial = Trial.from_dict(connection.recv())
        except (EOFError, OSError):
            return
        try:
            outcome = run_trial(trial, data, sweep, device=device, on_epoch=report)
            ended = {"status": outcome.status, "summary": outcome.summary}
        except BrokenPipeError:
            return  # the parent is gone
        except RdvaeError as error:
            ended = {"status": CRASHED, "summary": str(error)}
        except Exception as error:
            ended = {"status": CRASHED, "summary": _keep_traceback(sweep, trial, error)}
        connection.send({"kind": "ended", **ended})


def _keep_traceback(sweep: Sweep, trial: Trial, error: Exception) -> str:
    path = sweep.root / "crashes" / f"{trial.run_id}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(traceback.format_exception(error)), "utf-8")
    reason = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {reason[:120]} (traceback in {path})"
