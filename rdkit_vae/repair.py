"""Mends a sweep folder: rows from statistics, statistics from checkpoints, checkpoints by training.

Nothing is deleted: what is damaged is put aside, into the folder `damaged` of the sweep.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rdkit_vae.checkpoint import Checkpoint, load_checkpoint
from rdkit_vae.compact import is_merged, merged_runs, split
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData
from rdkit_vae.evaluation import evaluate
from rdkit_vae.files import clear_partial, locked
from rdkit_vae.grammar import SIGMAS
from rdkit_vae.ledger import rows_of
from rdkit_vae.parquet import read_results, read_statistics, write_results, write_statistics
from rdkit_vae.runner import environment
from rdkit_vae.sigma import score
from rdkit_vae.statistics import Statistics
from rdkit_vae.store import OK, Sweep, code_version, result_rows
from rdkit_vae.verify import PUT_ASIDE, Finding, Rows, differences, wrong_with_checkpoint

ImagesOf = Callable[[Checkpoint, Path], Images]


def repair(
    sweep: Sweep, findings: Iterable[Finding], images_of: ImagesOf, *, device: str = "cpu"
) -> list[str]:
    """Does what the findings' remedies say, and returns what was done, in words.

    Args:
        sweep: the folder, at which no sweep may be at work.
        findings: of `verify`.
        images_of: finds the images of a checkpoint, where it must be measured again.
        device: torch device for that.

    Raises:
        BadInput: a sweep is at work there.
        BadData: the images are not there.
        CannotWrite: a file cannot be written.
    """
    done: list[str] = []
    runs: set[str] = set()
    with locked(sweep.root, alone=True):
        clear_partial(sweep.root)
        for finding in findings:
            if finding.remedy == PUT_ASIDE or is_merged(finding.path):
                done.append(_put_aside(sweep, finding.path))
            elif finding.remedy and finding.run_id:
                runs.add(finding.run_id)
        if runs & merged_runs(sweep.root / "results").keys():
            done += [f"{path}: split by trial" for path in split(sweep)]
        for run_id in sorted(runs):
            done += _repair_run(sweep, run_id, images_of, device)
    return done


def _put_aside(sweep: Sweep, path: Path) -> str:
    place = sweep.root / "damaged" / path.relative_to(sweep.root)
    place.parent.mkdir(parents=True, exist_ok=True)
    path.replace(place)
    return f"{path} is put aside, into {place.parent}"


def _repair_run(sweep: Sweep, run_id: str, images_of: ImagesOf, device: str) -> list[str]:
    """Makes the results of a trial again, from its checkpoints up to the first that is lost."""
    done: list[str] = []
    results = sweep.results(run_id)
    try:
        stored = rows_of(sweep, run_id)
        failed = [] if not stored else _failure_of(results)
    except BadData:
        done.append(_put_aside(sweep, results))
        stored, failed = [], []
    rows: Rows = []
    about: dict[str, Any] = {}
    for path in _checkpoints_of(sweep, run_id, stored):
        epoch = int(path.stem.removeprefix("epoch="))
        of_epoch = [row for row in stored if row["epoch"] == epoch]
        checkpoint = _sound(path, of_epoch)
        if checkpoint is None:
            if path.exists():
                done.append(_put_aside(sweep, path))
            done.append(f"{run_id}: from epoch {epoch} on it is to be trained again")
            failed = []
            break
        about = {"trial": checkpoint.trial.to_dict(), "environment": environment(device)}
        statistics = _statistics_of(sweep, checkpoint, path, about, images_of, device, done)
        rows += _rows_again(checkpoint, statistics, of_epoch)
    if rows:
        write_results(results, rows + failed, about)
        done.append(f"{results}: {len(rows)} rows")
    elif results.exists():
        done.append(_put_aside(sweep, results))
    return done


def _failure_of(results: Path) -> Rows:
    return [row for row in read_results(results).to_pylist() if row["status"] != OK]


def _checkpoints_of(sweep: Sweep, run_id: str, stored: Rows) -> list[Path]:
    """The checkpoints that rows name, also those that have gone; of no rows, those there are."""
    if stored:
        return [sweep.checkpoint(run_id, e) for e in sorted({row["epoch"] for row in stored})]
    return sorted(sweep.checkpoint(run_id, 0).parent.glob("epoch=*.pt"))


def _sound(path: Path, rows: Rows) -> Checkpoint | None:
    if rows and wrong_with_checkpoint(path, rows):
        return None
    try:
        return load_checkpoint(path)
    except BadData:
        return None


def _statistics_of(
    sweep: Sweep,
    checkpoint: Checkpoint,
    path: Path,
    about: dict[str, Any],
    images_of: ImagesOf,
    device: str,
    done: list[str],
) -> dict[str, Statistics]:
    """The stored statistics of a checkpoint, or those of an evaluation now, which are stored."""
    place = sweep.statistics(checkpoint.trial.run_id, checkpoint.epoch)
    try:
        statistics, said = read_statistics(place)
        if said.get("checkpoint_sha256") == checkpoint.sha256:
            return statistics
    except BadData:
        if place.exists():
            done.append(_put_aside(sweep, place))
    model = checkpoint.model().to(device)
    statistics = evaluate(model, images_of(checkpoint, path), checkpoint.trial, device=device)
    at = {"epoch": checkpoint.epoch, "step": checkpoint.step}
    facts = {**about, **at, "checkpoint_sha256": checkpoint.sha256, "code_version": code_version()}
    write_statistics(place, statistics, facts)
    done.append(f"{place}: measured again")
    return statistics


def _rows_again(checkpoint: Checkpoint, statistics: dict[str, Statistics], stored: Rows) -> Rows:
    """The rows of a checkpoint; those that are stored already, if they are right."""
    trial = checkpoint.trial
    sigmas = sorted({row["sigma"] for row in stored}) or list(SIGMAS)
    rows = result_rows(
        trial,
        score(statistics, sigmas, trial),
        statistics,
        epoch=checkpoint.epoch,
        step=checkpoint.step,
        checkpoint_sha256=checkpoint.sha256,
    )
    return rows if differences(stored, rows) else stored
