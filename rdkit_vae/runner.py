"""One trial from start to end: train, write each checkpoint, evaluate it, write its rows."""

import copy
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rdkit_vae.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData, Newer
from rdkit_vae.evaluation import evaluate
from rdkit_vae.grammar import SIGMAS
from rdkit_vae.ledger import rows_of
from rdkit_vae.parquet import write_results, write_statistics
from rdkit_vae.sigma import score
from rdkit_vae.store import DIVERGED, OK, STOPPED, Sweep, code_version, failed_rows, result_rows
from rdkit_vae.training import Diverged, Training
from rdkit_vae.trial import Trial

_SAVED_EVERY = 60.0  # seconds between resume points, where checkpoints are further apart


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended: its status, and in words."""

    status: str
    summary: str


def environment(device: str) -> dict[str, Any]:
    """What, beside configuration and seed, the last bits of a number depend on."""
    return {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def run_trial(
    trial: Trial,
    images: Images,
    sweep: Sweep,
    *,
    device: str = "cpu",
    on_epoch: Callable[[Training], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Trains a trial into a sweep folder, from where it was left if it was begun before.

    The results file is rewritten after each checkpoint, so every checkpoint whose evaluation ended
    is in it, and nothing else.

    Args:
        trial: what to train.
        images: its dataset.
        sweep: the folder.
        device: a torch device.
        on_epoch: called after every epoch.
        stop: asked after every step; True writes a resume point and ends with `STOPPED`.

    Raises:
        BadInput: the images do not suit the trial.
        BadData: its results are damaged, or of a newer release.
        CannotWrite: no room for its files, or no permission.
    """
    training = Training(trial, images, device)
    trial = training.trial
    rows = _resume(training, sweep)
    about = {"trial": trial.to_dict(), "environment": environment(device)}
    results, resume = sweep.results(trial.run_id), sweep.resume_point(trial.run_id)
    within_epoch, saved = "within" in training.state(), time.monotonic()
    # A checkpoint is the last finite state itself; where an epoch was entered half, it is unknown.
    finite = None if within_epoch or _is_committed(training, rows) else _kept(training)

    def pause() -> bool:
        return stop() or time.monotonic() > saved + _SAVED_EVERY

    try:
        while training.epoch < trial.epochs:
            if not training.run_epoch(pause):
                save_checkpoint(resume, training)
                if stop():
                    return Outcome(status=STOPPED, summary=f"stopped at step {training.step}")
                saved = time.monotonic()
                continue
            within_epoch = False
            if on_epoch:
                on_epoch(training)
            if training.epoch in trial.checkpoints:
                rows += _commit_checkpoint(training, sweep, device, about)
                write_results(results, rows, about)
                finite, saved = None, time.monotonic()
                resume.unlink(missing_ok=True)
            else:
                finite = _kept(training)
                if time.monotonic() > saved + _SAVED_EVERY:
                    save_checkpoint(resume, training)
                    saved = time.monotonic()
    except Diverged as error:
        resume.unlink(missing_ok=True)
        if within_epoch:  # from the last checkpoint, the last finite state is found again
            return run_trial(trial, images, sweep, device=device, on_epoch=on_epoch, stop=stop)
        at = {"epoch": training.epoch, "step": training.step}
        if finite is not None:
            rows += _commit_last_finite(training, finite, sweep, device, about)
        rows += failed_rows(trial, list(SIGMAS), **at, status=DIVERGED, reason=str(error))
        write_results(results, rows, about)
        return Outcome(status=DIVERGED, summary=str(error))
    return Outcome(status=OK, summary=_summary(rows))


def _kept(training: Training) -> dict[str, Any] | None:
    return copy.deepcopy(training.state()) if training.epoch else None


def _is_committed(training: Training, rows: list[dict[str, Any]]) -> bool:
    return any(row["epoch"] == training.epoch for row in rows)


def _commit_checkpoint(
    training: Training, sweep: Sweep, device: str, about: dict[str, Any]
) -> list[dict[str, Any]]:
    """Writes a checkpoint and its statistics, and returns its rows."""
    trial, at = training.trial, {"epoch": training.epoch, "step": training.step}
    statistics = evaluate(training.model, training.images, trial, device=device)
    if not all(measured.finite for measured in statistics.values()):
        raise Diverged(f"the evaluation is not finite at epoch {training.epoch}")
    scores = score(statistics, SIGMAS, trial)
    if not all(math.isfinite(s.elbo) for s in scores):
        raise Diverged(f"an elbo is not finite at epoch {training.epoch}")
    sha256 = save_checkpoint(sweep.checkpoint(trial.run_id, training.epoch), training)
    facts = {**about, **at, "checkpoint_sha256": sha256, "code_version": code_version()}
    write_statistics(sweep.statistics(trial.run_id, training.epoch), statistics, facts)
    return result_rows(trial, scores, statistics, **at, checkpoint_sha256=sha256)


def _commit_last_finite(
    training: Training, state: dict[str, Any], sweep: Sweep, device: str, about: dict[str, Any]
) -> list[dict[str, Any]]:
    """Commits the state that a diverged training was last whole in, if it can be evaluated."""
    training.restore(state)
    try:
        return _commit_checkpoint(training, sweep, device, about)
    except Diverged:
        return []


def _resume(training: Training, sweep: Sweep) -> list[dict[str, Any]]:
    """Restores the latest state that can be trusted, and returns the rows up to it.

    That is the last checkpoint that the results name, by its SHA-256, or a later resume point.
    """
    trial, rows = training.trial, _rows_to_keep(sweep, training.trial)
    while rows:  # a checkpoint that has gone or changed is trained again, from the one before it
        last = max(int(row["epoch"]) for row in rows)
        checkpoint = _trusted(sweep.checkpoint(trial.run_id, last), trial)
        if checkpoint and {checkpoint.sha256} == {
            row["checkpoint_sha256"] for row in rows if row["epoch"] == last
        }:
            training.restore(checkpoint.state)
            break
        rows = [row for row in rows if row["epoch"] != last]
    later = _trusted(sweep.resume_point(trial.run_id), trial)
    if later and later.step > training.step and not _passes_a_checkpoint(training, later):
        training.restore(later.state)
    return rows


def _passes_a_checkpoint(training: Training, later: Checkpoint) -> bool:
    """Whether a resume point lies behind a checkpoint that the results do not have."""
    return any(training.epoch < epoch <= later.epoch for epoch in training.trial.checkpoints)


def _trusted(path: Path, trial: Trial) -> Checkpoint | None:
    try:
        checkpoint = load_checkpoint(path)
    except Newer:
        raise
    except BadData:
        return None
    return checkpoint if checkpoint.trial == trial else None


def _rows_to_keep(sweep: Sweep, trial: Trial) -> list[dict[str, Any]]:
    """The rows of checkpoints that were asked for; a failed run's last state is made again."""
    rows = rows_of(sweep, trial.run_id)
    return [row for row in rows if row["epoch"] in trial.checkpoints]


def _summary(rows: list[dict[str, Any]]) -> str:
    last = max(int(row["epoch"]) for row in rows)
    test = {r["sigma"]: r for r in rows if r["split"] == "test" and r["epoch"] == last}
    return (
        f"rate {test['optimal']['rate']:.2f}, mse {test['optimal']['mse']:.4g}, "
        f"elbo {test['optimal']['elbo']:.1f} optimal, {test['shared']['elbo']:.1f} shared"
    )
