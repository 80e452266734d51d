"""What a worker does with an assignment: trains its packs, and reports what happens."""

import contextlib
import os
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rdkit_vae.config.trial import Trial, import_code
from rdkit_vae.datasets.images import shared
from rdkit_vae.errors import BadInput, CannotWrite, RdvaeError, StoreFails
from rdkit_vae.store.ledger import state_of
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.forecast import Stopwatch
from rdkit_vae.sweeps.messages import (
    Assignment,
    Broken,
    Elsewhere,
    Event,
    EventKind,
    Free,
    Message,
    Pace,
    Refused,
    RoomNeeded,
    WorkerSettings,
)
from rdkit_vae.system.files import CRASHES, own_folder, write_atomic
from rdkit_vae.system.locks import claimed

if TYPE_CHECKING:
    from rdkit_vae.training.state import Training

Send = Callable[[Message], None]
Stopped = Callable[[], bool]


def carry_out(
    assignment: Assignment, settings: WorkerSettings, send: Send, stopped: Stopped
) -> Message:
    """Trains the assigned trials, and returns the last message about them.

    Args:
        assignment: the trials.
        settings: of the worker.
        send: called with every message but the last.
        stopped: called after every step; if it returns True, the trials are saved and end.
    """
    before: dict[Trial, Status] = {}
    try:
        for values, status in assignment.before:  # whoever assigned them has imported these names
            import_code(values["architecture"], values["objective"])
            before[Trial.from_dict(values)] = status
        for message in _run(before, assignment.measure, settings, send, stopped):
            send(message)
        return Free()
    except BrokenPipeError:
        raise
    except (CannotWrite, StoreFails, BadInput) as error:
        return Refused(type(error)(str(error)))
    except RdvaeError as error:
        return Broken(str(error))
    except Exception as error:
        return Broken(_keep_traceback(settings.sweep, [*before], error))


def carry_out_in_thread(
    assignment: Assignment, settings: WorkerSettings, send: Send, stopped: Stopped
) -> threading.Thread:
    """Starts a thread that carries out an assignment and sends every message, also the last."""

    def work() -> None:
        last: Message = Broken("its thread ended")
        try:
            last = carry_out(assignment, settings, send, stopped)
        finally:
            send(last)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _run(
    before: Mapping[Trial, Status],
    measure: bool,
    settings: WorkerSettings,
    send: Send,
    stopped: Stopped,
) -> Iterator[Message]:
    """Runs trials, except those that another process is running or has run since `before`."""
    names = [trial.run_id for trial in before]
    alone = settings.store is not None  # then no other process uses the folder
    claims = contextlib.nullcontext(names) if alone else claimed(settings.sweep.claims, names)
    with claims as mine:
        trials = []
        for trial, status in before.items():
            if trial.run_id not in mine:
                yield Elsewhere(trial.run_id)
                continue
            now = state_of(settings.sweep, trial.run_id).status
            if now in (status, Status.LEFT) or alone:
                trials.append(trial)
                continue
            yield Event(
                kind=EventKind.ENDED,
                run_id=trial.run_id,
                status=now,
                summary="trained by another process",
                elsewhere=True,
            )
        if trials:
            with _one_deterministic_thread():
                yield from _train(trials, measure, settings, send, stopped)


def _train(
    trials: list[Trial],
    measure: bool,
    settings: WorkerSettings,
    send: Send,
    stopped: Stopped,
) -> Iterator[Message]:
    """Trains trials that can form a pack, in packs that fit into the memory."""
    from rdkit_vae.sweeps.estimate import seconds_per_checkpoint
    from rdkit_vae.sweeps.footprint import bytes_of, packs_that_fit
    from rdkit_vae.sweeps.publish import Publisher
    from rdkit_vae.sweeps.runner import run_pack
    from rdkit_vae.training.state import Training

    images, device = settings.images, settings.device
    if isinstance(images, dict):
        images = shared(images)
    if measure:
        first = Training(trials[0], images, device)
        yield RoomNeeded(bytes_of(first))
        checkpoint = seconds_per_checkpoint(first, device)
    publisher = Publisher(settings.store, settings.sweep) if settings.store else None
    for pack in packs_that_fit(trials, images, device, settings.jobs):
        if stopped():
            return
        watched = _WatchedPack(send, stopped, device)
        if measure:
            watched.time(first.steps_per_epoch, checkpoint, len(pack))
            measure = False
        yield from (Event(kind=EventKind.STARTED, run_id=trial.run_id) for trial in pack)
        ended = run_pack(
            pack,
            images,
            settings.sweep,
            device=device,
            publisher=publisher,
            on_epoch=watched.end_epoch,
            stop=watched.end_step,
        )
        for trial, outcome in ended:
            yield Event(
                kind=EventKind.ENDED,
                run_id=trial.run_id,
                status=outcome.status,
                summary=outcome.summary,
            )


@contextlib.contextmanager
def _one_deterministic_thread() -> Iterator[None]:
    """Settings of PyTorch in this context, in which results are the same on every run."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    filling: Any = torch.utils.deterministic
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fill = filling.fill_uninitialized_memory
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    filling.fill_uninitialized_memory = False  # nothing here reads uninitialised memory
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        filling.fill_uninitialized_memory = fill


class _WatchedPack:
    """Reports the progress of a pack in training."""

    def __init__(self, send: Send, stopped: Stopped, device: str) -> None:
        self._send, self._stopped, self._device = send, stopped, device
        self._stopwatch: Stopwatch | None = None

    def time(self, steps: int, checkpoint: float, pack_size: int) -> None:
        """Also reports its pace, measured from an epoch of so many steps that begins now."""
        self._stopwatch = Stopwatch(steps)
        self._checkpoint, self._pack_size = checkpoint, pack_size

    def end_step(self) -> bool:
        """Called after every step but the last of an epoch; returns whether to stop."""
        if self._stopwatch and self._device == "cpu":  # steps on a GPU run asynchronously
            self._send_pace(self._stopwatch.end_step())
        return self._stopped()

    def end_epoch(self, training: "Training") -> None:
        """Called after an epoch of each trial."""
        if self._stopwatch:
            self._send_pace(self._stopwatch.end_epoch())
        run_id, epoch, loss = training.trial.run_id, training.epoch, training.loss
        self._send(Event(kind=EventKind.EPOCH, run_id=run_id, epoch=epoch, loss=loss))

    def _send_pace(self, seconds: float | None) -> None:
        if seconds is not None:
            share = seconds / self._pack_size
            pace = Pace(epoch=share, checkpoint=self._checkpoint, pack_size=self._pack_size)
            self._send(Event(kind=EventKind.PACE, pace=pace))


def _keep_traceback(sweep: Sweep, trials: list[Trial], error: Exception) -> str:
    """Writes a traceback into the sweep folder, named after the first trial of the pack."""
    path = sweep.root / CRASHES / f"{trials[0].run_id}.txt"
    names = "".join(f"{trial.run_id}\n" for trial in trials)
    reason = f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
    try:
        own_folder(path.parent)
        lines = traceback.format_exception(error)
        write_atomic(path, (names + "".join(lines)).encode("utf-8", "backslashreplace"))
    except (OSError, CannotWrite):
        return reason
    return f"{reason} (traceback in {path})"
