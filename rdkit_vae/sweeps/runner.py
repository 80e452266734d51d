"""Runs trials from start to end: trains, and writes each checkpoint, its statistics and rows."""

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rdkit_vae.config.trial import Trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData, Newer, NotFinite
from rdkit_vae.evaluation.evaluate import environment, evaluate
from rdkit_vae.store.checkpoints import checkpoint_bytes, load_checkpoint, save_resume_file
from rdkit_vae.store.evaluations import Evaluation, Row, failed_rows, write_evaluation
from rdkit_vae.store.ledger import rows_of
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.results import write_results
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.publish import Publisher
from rdkit_vae.sweeps.verify import is_named
from rdkit_vae.system.files import write_atomic
from rdkit_vae.training.state import Diverged, Training
from rdkit_vae.training.steps import Pack

_SAVED_EVERY = 60.0  # seconds between resume files
_SHARE_OF_SAVING = 0.05  # largest share of the time spent on them


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended, as a status and in words."""

    status: Status
    summary: str


def run_trial(
    trial: Trial,
    images: Images,
    sweep: Sweep,
    *,
    device: str = "cpu",
    on_epoch: Callable[[Training], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Runs one trial as `run_pack` runs several, and returns how it ended."""
    ((_, outcome),) = run_pack([trial], images, sweep, device=device, on_epoch=on_epoch, stop=stop)
    return outcome


def run_pack(
    trials: Sequence[Trial],
    images: Images,
    sweep: Sweep,
    *,
    device: str = "cpu",
    publisher: Publisher | None = None,
    on_epoch: Callable[[Training], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Trial, Outcome]]:
    """Trains a pack of trials into a sweep folder, each from where it stopped.

    Trials that are behind train without the others until they have caught up. The results file of a
    trial is rewritten after each checkpoint, so it always contains exactly the checkpoints that
    have been evaluated.

    Args:
        trials: with the same `Trial.pack_key`.
        images: their dataset.
        sweep: the folder.
        device: a torch device.
        publisher: takes the files to an object store and brings those of unfinished trials.
        on_epoch: called after every epoch of each trial.
        stop: called after every step; if it returns True, resume files are written and all trials
            end with `Status.STOPPED`.

    Yields:
        Each trial as it ends, and its outcome.

    Raises:
        BadInput: the trials cannot be trained on these images, or not in a pack.
        BadData: results are damaged or from a newer release.
        CannotWrite: there is no room for files, or no permission.
    """
    runs = [_Run(trial, images, sweep, device, publisher) for trial in trials]
    pack: Pack | None = None
    due = time.monotonic() + _SAVED_EVERY

    def pause() -> bool:
        return stop() or time.monotonic() > due

    while True:
        for run in runs:
            if run.outcome:
                yield run.trial, run.outcome
        runs = [run for run in runs if run.outcome is None]
        if not runs:
            return
        behind = min(run.training.step for run in runs)
        at_work = [run for run in runs if run.training.step == behind]
        members = [run.training for run in at_work]
        if pack is None or {*map(id, pack.members)} != {*map(id, members)}:
            pack = None  # frees its memory first
            pack = Pack(members)
        whole = pack.run_epoch(pause)
        for run in at_work:
            run.take_epoch(on_epoch)
        if not whole or time.monotonic() > due:
            began = time.monotonic()
            for run in at_work:
                run.save()
            took = time.monotonic() - began
            due = time.monotonic() + max(_SAVED_EVERY, took / _SHARE_OF_SAVING)
        if not whole and stop():
            for run in runs:
                if run not in at_work:
                    run.save()
                run.stop()


class _Run:
    """A trial that is being run.

    Attributes:
        trial: the trial, as it was passed in.
        training: its current state.
        outcome: how it ended; None while it is running.
    """

    def __init__(
        self,
        trial: Trial,
        images: Images,
        sweep: Sweep,
        device: str,
        publisher: Publisher | None,
    ) -> None:
        self.trial = trial
        self.outcome: Outcome | None = None
        self._images, self._sweep, self._device = images, sweep, device
        self._publisher = publisher
        if publisher and publisher.fetch(trial.run_id):
            self.outcome = Outcome(status=Status.OK, summary=_summary(rows_of(sweep, trial.run_id)))
            return
        self._begin()

    def _begin(self) -> None:
        """Restores the latest saved state."""
        self.training = Training(self.trial, self._images, self._device)
        trial = self.training.trial
        self._about = {"trial": trial.to_dict(), "environment": environment(self._device)}
        self._rows = _rows_to_keep(self._sweep, trial)
        committed = {row["epoch"] for row in self._rows}
        if committed >= {*trial.checkpoints}:
            self._end(Status.OK, _summary(self._rows))
            return
        _resume(self.training, self._sweep, committed)
        # If training resumes within an epoch, the state at the start of the epoch is unknown.
        self._entered_half = self.training.epoch_progress.batches > 0
        self._finite = None if self._entered_half else _kept(self.training)

    def take_epoch(self, on_epoch: Callable[[Training], None] | None) -> None:
        """Writes a checkpoint and its rows if one is due, or that the trial has diverged."""
        training = self.training
        if training.diverged:
            self._end_diverged(training.diverged)
            return
        if training.epoch_progress.batches:
            return
        if on_epoch:
            on_epoch(training)
        if training.epoch in training.trial.checkpoints and not self._is_committed():
            try:
                self._commit()
            except Diverged as error:
                self._end_diverged(str(error))
                return
            self._write_rows()
        self._finite = _kept(training)
        self._entered_half = False
        if training.epoch == training.trial.epochs:
            self._end(Status.OK, _summary(self._rows))

    def save(self) -> None:
        """Writes a resume file, unless the trial has ended or not begun."""
        if self.outcome is None and self.training.step > 0:
            save_resume_file(self._resume_file, self.training)
            if self._publisher:
                self._publisher.save(self.trial.run_id)

    def stop(self) -> None:
        """Ends it with `Status.STOPPED`, unless it has ended."""
        if self.outcome is None:
            self.outcome = Outcome(
                status=Status.STOPPED, summary=f"stopped at step {self.training.step}"
            )

    @property
    def _resume_file(self) -> Path:
        return self._sweep.resume_file(self.training.trial.run_id)

    def _is_committed(self) -> bool:
        return any(row["epoch"] == self.training.epoch for row in self._rows)

    def _end(self, status: Status, summary: str) -> None:
        self._resume_file.unlink(missing_ok=True)
        if self._publisher:
            self._publisher.end(self.trial.run_id)
        self.outcome = Outcome(status=status, summary=summary)

    def _end_diverged(self, reason: str) -> None:
        """Writes its last finite state, if that can be evaluated, and why the trial ended."""
        training = self.training
        if self._entered_half:  # its last finite state is unknown, so it starts over
            self._resume_file.unlink(missing_ok=True)
            self._begin()
            return
        at = {"epoch": training.epoch, "step": training.step}
        if self._finite is not None:
            training.restore(self._finite)
            if not self._is_committed():
                with contextlib.suppress(Diverged):
                    self._commit()
        trial = training.trial
        self._rows += failed_rows(trial, **at, status=Status.DIVERGED, reason=reason)
        self._write_rows()
        self._end(Status.DIVERGED, reason)

    def _write_rows(self) -> None:
        run_id = self.training.trial.run_id
        write_results(self._sweep.results(run_id), self._rows, self._about)
        if self._publisher:
            self._publisher.save(run_id)

    def _commit(self) -> None:
        """Evaluates the current state, and writes its checkpoint and statistics.

        Raises:
            Diverged: a number of the evaluation is not finite; nothing was written.
        """
        training, trial = self.training, self.training.trial
        try:
            statistics = evaluate(training.model, training.images, trial, device=self._device)
        except NotFinite as error:
            raise Diverged(f"{error} at epoch {training.epoch}") from error
        checkpoint = checkpoint_bytes(training)
        evaluation = Evaluation(
            trial=trial,
            epoch=training.epoch,
            step=training.step,
            checkpoint_sha256=hashlib.sha256(checkpoint).hexdigest(),
            statistics=statistics,
            environment=self._about["environment"],
        )
        rows = evaluation.rows()
        if not all(math.isfinite(row["elbo"]) for row in rows):
            raise Diverged(f"an elbo is not finite at epoch {training.epoch}")
        write_atomic(self._sweep.checkpoint(trial.run_id, training.epoch), checkpoint)
        write_evaluation(self._sweep.statistics(trial.run_id, training.epoch), evaluation)
        if self._publisher:
            rows = self._publisher.commit(trial.run_id, training.epoch) or rows
        self._rows = sorted(self._rows + rows, key=lambda row: int(row["epoch"]))


def _kept(training: Training) -> dict[str, Any] | None:
    """A copy of its state that training does not change; None before the first epoch."""
    return _copied(training.snapshot()) if training.epoch else None


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return value.clone() if isinstance(value, torch.Tensor) else value


def _resume(training: Training, sweep: Sweep, committed: set[int]) -> None:
    """Restores the resume file of a trial, if it can be used.

    A file past a checkpoint that was not committed is ignored, as that checkpoint would be skipped.
    """
    trial = training.trial
    try:
        later = load_checkpoint(sweep.resume_file(trial.run_id), trial=trial)
    except Newer:
        raise
    except BadData:
        return
    passed = {epoch for epoch in trial.checkpoints if epoch <= later.epoch}
    if "moments" in later.state and passed <= committed:
        training.restore(later.state)


def _rows_to_keep(sweep: Sweep, trial: Trial) -> list[Row]:
    """The rows of the checkpoints whose files still have the SHA-256 in the rows.

    Other checkpoints, and the last state of a failed run, are made again.
    """
    rows = [row for row in rows_of(sweep, trial.run_id) if row["epoch"] in trial.checkpoints]
    sound = {
        epoch for epoch in {row["epoch"] for row in rows} if _is_sound(sweep, trial, epoch, rows)
    }
    return [row for row in rows if row["epoch"] in sound]


def _is_sound(sweep: Sweep, trial: Trial, epoch: int, rows: list[Row]) -> bool:
    try:
        of_epoch = [row for row in rows if row["epoch"] == epoch]
        return is_named(sweep.checkpoint(trial.run_id, epoch), of_epoch)
    except BadData:
        return False


def _summary(rows: list[Row]) -> str:
    last = max(int(row["epoch"]) for row in rows)
    test = {r["sigma"]: r for r in rows if r["split"] == "test" and r["epoch"] == last}
    return (
        f"rate {test['optimal']['rate']:.2f}, mse {test['optimal']['mse']:.4g}, "
        f"elbo {test['optimal']['elbo']:.1f} optimal, {test['shared']['elbo']:.1f} shared"
    )
