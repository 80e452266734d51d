"""One trial from start to end: train, write each checkpoint, evaluate it, write its rows."""

import copy
import math
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rdkit_vae.checkpoint import load_checkpoint, save_checkpoint
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData
from rdkit_vae.evaluation import evaluate
from rdkit_vae.grammar import SIGMAS
from rdkit_vae.parquet import read_results, write_results, write_statistics
from rdkit_vae.sigma import score
from rdkit_vae.store import DIVERGED, OK, Sweep, code_version, failed_rows, result_rows
from rdkit_vae.training import Diverged, Training
from rdkit_vae.trial import Trial


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
) -> Outcome:
    """Trains a trial into a sweep folder, from its last checkpoint if there is one.

    The results file is rewritten after each checkpoint, so every checkpoint whose evaluation ended
    is in it, and nothing else.
    """
    training = Training(trial, images, device)
    trial = training.trial
    rows = _resume(training, sweep)
    about = {"trial": trial.to_dict(), "environment": environment(device)}
    results, finite = sweep.results(trial.run_id), None
    try:
        while training.epoch < trial.epochs:
            training.run_epoch()
            if on_epoch:
                on_epoch(training)
            if training.epoch in trial.checkpoints:
                rows += _commit_checkpoint(training, sweep, device, about)
                write_results(results, rows, about)
                finite = None
            else:
                finite = copy.deepcopy(training.state())
    except Diverged as error:
        at = {"epoch": training.epoch, "step": training.step}
        if finite is not None:
            rows += _commit_last_finite(training, finite, sweep, device, about)
        rows += failed_rows(trial, list(SIGMAS), **at, status=DIVERGED)
        write_results(results, rows, about)
        return Outcome(status=DIVERGED, summary=str(error))
    return Outcome(status=OK, summary=_summary(rows))


def _commit_checkpoint(
    training: Training, sweep: Sweep, device: str, about: dict[str, Any]
) -> list[dict[str, Any]]:
    """Writes a checkpoint and its statistics, and returns its rows."""
    trial, at = training.trial, {"epoch": training.epoch, "step": training.step}
    statistics = evaluate(training.model, training.images, trial, device=device)
    if not all(measured.finite for measured in statistics.values()):
        raise Diverged(f"the evaluation is not finite at epoch {training.epoch}")
    sha256 = save_checkpoint(sweep.checkpoint(trial.run_id, training.epoch), training)
    facts = {**about, **at, "checkpoint_sha256": sha256, "code_version": code_version()}
    write_statistics(sweep.statistics(trial.run_id, training.epoch), statistics, facts)
    scores = score(statistics, SIGMAS, trial)
    if not all(math.isfinite(s.elbo) for s in scores):
        raise Diverged(f"an elbo is not finite at epoch {training.epoch}")
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
    """Restores the last checkpoint that the results name, and returns the rows up to it."""
    try:
        table = read_results(sweep.results(training.trial.run_id))
        rows: list[dict[str, Any]] = [row for row in table.to_pylist() if row["status"] == OK]
        if not rows:
            return []
        last = max(rows, key=lambda row: int(row["epoch"]))
        checkpoint = load_checkpoint(sweep.checkpoint(training.trial.run_id, last["epoch"]))
    except BadData:
        return []  # nothing there that can be built on: the trial starts anew
    if checkpoint.sha256 != last["checkpoint_sha256"]:
        return []
    training.restore(checkpoint.state)
    return rows


def _summary(rows: list[dict[str, Any]]) -> str:
    last = max(int(row["epoch"]) for row in rows)
    test = {r["sigma"]: r for r in rows if r["split"] == "test" and r["epoch"] == last}
    return (
        f"rate {test['optimal']['rate']:.2f}, mse {test['optimal']['mse']:.4g}, "
        f"elbo {test['optimal']['elbo']:.1f} optimal, {test['shared']['elbo']:.1f} shared"
    )
