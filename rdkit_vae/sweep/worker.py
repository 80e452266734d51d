"""A process of a pool: trains the groups of trials that it is given, and says what happens."""

import contextlib
import os
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from rdkit_vae.config.trial import Trial
from rdkit_vae.datasets.images import shared
from rdkit_vae.errors import CannotWrite, RdvaeError
from rdkit_vae.store.ledger import LEFT, state_of
from rdkit_vae.store.paths import Sweep
from rdkit_vae.sweep.pace import Pace, Stopwatch
from rdkit_vae.system.files import CRASHES, claimed, own_folder, write_atomic
from rdkit_vae.system.processes import keep_freed_memory, live_as_child

if TYPE_CHECKING:
    from rdkit_vae.training.state import Training

Said = dict[str, Any]


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


def work(connection: "Connection[Any, Any]", pool: Pool) -> None:
    """A worker's life: groups of trials come in, what happens goes out, until that end is closed.

    What comes in is a list of a trial's values with the status that it had, and whether to say how
    much it will write; or None, the word to stop. What goes out has a `kind`:

    - `room`: the `bytes` that a trial will write;
    - `pace`: how long trials take, a `pace.Pace`;
    - `elsewhere`: another process has claimed the trial `run_id`;
    - `started`, `epoch`, `ended`: of the trial `run_id`, as `pool.Event` has it;
    - `free`: all that was given has been done, or was to stop;
    - `no room`: a file cannot be written, `summary` says why;
    - `broken`: the same of anything else; what has not ended is to be given to another.
    """
    live_as_child()
    keep_freed_memory()
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        while True:
            asked = connection.recv()
            if asked is None:  # to stop, as it does between trials
                continue
            before = {Trial.from_dict(values): status for values, status in asked[0]}
            try:
                for said in _run(before, asked[1], connection, pool):
                    connection.send(said)
                said = {"kind": "free"}
            except BrokenPipeError:
                return
            except CannotWrite as error:
                said = {"kind": "no room", "summary": str(error)}
            except RdvaeError as error:
                said = {"kind": "broken", "summary": str(error)}
            except Exception as error:
                said = {"kind": "broken", "summary": _keep_traceback(pool.sweep, [*before], error)}
            connection.send(said)


def _run(
    before: Mapping[Trial, str], measure: bool, connection: "Connection[Any, Any]", pool: Pool
) -> Iterator[Said]:
    """Runs trials of one kind, but for those that another process runs, or did since `before`."""
    with claimed(pool.sweep.claims, [trial.run_id for trial in before]) as mine:
        trials = []
        for trial, status in before.items():
            if trial.run_id not in mine:
                yield {"kind": "elsewhere", "run_id": trial.run_id}
                continue
            found = state_of(pool.sweep, trial.run_id).status
            if found in (status, LEFT):
                trials.append(trial)
                continue
            summary = "trained by another process"
            said = {"status": found, "summary": summary, "elsewhere": True}
            yield {"kind": "ended", "run_id": trial.run_id, **said}
        if trials:
            yield from _train(trials, measure, connection, pool)


def _train(
    trials: list[Trial], measure: bool, connection: "Connection[Any, Any]", pool: Pool
) -> Iterator[Said]:
    """Trains trials of one kind, as many at a time as fit the memory."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    from rdkit_vae.sweep.estimate import seconds_per_checkpoint
    from rdkit_vae.sweep.footprint import bytes_of, groups_that_fit
    from rdkit_vae.sweep.runner import run_together
    from rdkit_vae.training.state import Training

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # Nothing here reads such memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    images = shared(pool.images)
    if measure:
        first = Training(trials[0], images, pool.device)
        yield {"kind": "room", "bytes": bytes_of(first)}
        checkpoint = seconds_per_checkpoint(first, pool.device)
    for group in groups_that_fit(trials, images, pool.device, pool.jobs):
        if connection.poll():  # all that can come now is the word to stop
            return
        watched = _Watched(connection, pool.device)
        if measure:
            watched.time(first.steps_per_epoch, checkpoint, len(group))
            measure = False
        yield from ({"kind": "started", "run_id": trial.run_id} for trial in group)
        ended = run_together(
            group,
            images,
            pool.sweep,
            device=pool.device,
            on_epoch=watched.end_epoch,
            stop=watched.end_step,
        )
        for trial, outcome in ended:
            said = {"status": outcome.status, "summary": outcome.summary}
            yield {"kind": "ended", "run_id": trial.run_id, **said}


class _Watched:
    """A group in training, of which is told what happens."""

    def __init__(self, connection: "Connection[Any, Any]", device: str) -> None:
        self._connection, self._device = connection, device
        self._stopwatch: Stopwatch | None = None

    def time(self, steps: int, checkpoint: float, together: int) -> None:
        """Also tells its pace: so many steps are an epoch of so many trials, which begins now."""
        self._stopwatch = Stopwatch(steps)
        self._checkpoint, self._together = checkpoint, together

    def end_step(self) -> bool:
        """Called after every step but the last of an epoch; returns whether to stop."""
        if self._stopwatch and self._device == "cpu":  # steps on a GPU are not waited for
            self._tell_pace(self._stopwatch.end_step())
        return self._connection.poll()

    def end_epoch(self, training: "Training") -> None:
        """Called after an epoch of each trial."""
        if self._stopwatch:
            self._tell_pace(self._stopwatch.end_epoch())
        run_id, epoch, loss = training.trial.run_id, training.epoch, training.loss
        said = {"kind": "epoch", "run_id": run_id, "epoch": epoch, "loss": loss}
        self._connection.send(said)

    def _tell_pace(self, seconds: float | None) -> None:
        if seconds is not None:
            share = seconds / self._together
            pace = Pace(epoch=share, checkpoint=self._checkpoint, together=self._together)
            self._connection.send({"kind": "pace", "pace": pace})


def _keep_traceback(sweep: Sweep, trials: list[Trial], error: Exception) -> str:
    """Files a traceback under the first of the trials that were at work."""
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
