"""Mends a sweep folder: rows from statistics, statistics from checkpoints, checkpoints by training.

Nothing is deleted: what is damaged is put aside, into the folder `damaged` of the sweep.
"""

import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rdkit_vae.config.parsing import SIGMAS
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData, NotFinite
from rdkit_vae.evaluation.evaluate import evaluate
from rdkit_vae.scoring.interpretations import score
from rdkit_vae.scoring.statistics import Statistics
from rdkit_vae.store.checkpoints import Checkpoint, load_checkpoint
from rdkit_vae.store.paths import OK, Sweep, code_version, result_rows
from rdkit_vae.store.results import read_results, read_statistics, write_results, write_statistics
from rdkit_vae.store.tables import about_of
from rdkit_vae.sweep.runner import environment
from rdkit_vae.sweep.verify import PUT_ASIDE, Finding, Rows, differences, is_named
from rdkit_vae.system.files import DAMAGED, own_folder
from rdkit_vae.text import counted

ImagesOf = Callable[[Checkpoint, Path], Images]


def repair(
    sweep: Sweep, findings: Iterable[Finding], images_of: ImagesOf, *, device: str = "cpu"
) -> list[str]:
    """Does what the findings' remedies say, and returns what was done, in words.

    Args:
        sweep: the folder, whose lock the caller holds alone since before it was verified.
        findings: of `verify`.
        images_of: finds the images of a checkpoint, where it must be measured again.
        device: torch device for that.

    Raises:
        BadData: the images are not there, or a model has diverged.
        CannotWrite: a file cannot be written.
    """
    done: list[str] = []
    findings = [finding for finding in findings if finding.remedy]
    aside = [f.path for f in findings if f.remedy == PUT_ASIDE]
    for path in dict.fromkeys(aside):
        done.append(_put_aside(sweep, path))
    runs = {f.run_id for f in findings if f.path not in aside and f.run_id}
    for run_id in sorted(runs):
        done += _repair_run(sweep, run_id, images_of, device)
    return done


def _put_aside(sweep: Sweep, path: Path, *, copy: bool = False) -> str:
    """Moves (or copies) a file into the folder `damaged`, beside others that came there before."""
    place = own_folder(sweep.root / DAMAGED) / path.relative_to(sweep.root)
    place.parent.mkdir(parents=True, exist_ok=True)
    taken = sum(1 for _ in place.parent.glob(f"{path.stem}*{path.suffix}"))
    if taken:
        place = place.with_stem(f"{path.stem}.{taken + 1}")
    if copy:
        shutil.copy2(path, place)
    else:
        shutil.move(path, place)  # a folder of the sweep may be a link to another disk
    return f"{path} is {'kept' if copy else 'put aside'} as {place}"


def _repair_run(sweep: Sweep, run_id: str, images_of: ImagesOf, device: str) -> list[str]:
    """Makes the results of a trial again, up to the first checkpoint that is damaged."""
    done: list[str] = []
    results = sweep.results(run_id)
    stored: Rows = []
    failed: Rows = []
    about: dict[str, Any] = {}
    if results.exists():
        try:
            stored, failed, about = _stored(results)
        except BadData:
            done.append(_put_aside(sweep, results))
    rows: Rows = []
    for path in _checkpoints_of(sweep, run_id, stored):
        epoch = int(path.stem.removeprefix("epoch="))
        of_epoch = [row for row in stored if row["epoch"] == epoch]
        if of_epoch and not path.exists():  # they stand, though nobody can trace them any more
            rows += of_epoch
            continue
        checkpoint = _sound(path, of_epoch)
        if checkpoint is None:
            done.append(_put_aside(sweep, path))
            done.append(f"{run_id}: from epoch {epoch} on it is to be trained again")
            failed = []
            break
        about = {"trial": checkpoint.trial.to_dict(), "environment": environment(device)}
        statistics = _statistics_of(sweep, checkpoint, path, about, images_of, device, done)
        rows += _rows_again(checkpoint, statistics, of_epoch)
    if rows or failed:
        if len(rows) < len(stored):
            done.append(_put_aside(sweep, results, copy=True))
        write_results(results, rows + failed, about)
        done.append(f"{results}: {counted(len(rows), 'row')}")
    elif results.exists():
        done.append(_put_aside(sweep, results))
    return done


def _stored(results: Path) -> tuple[Rows, Rows, dict[str, Any]]:
    """The rows of checkpoints, those of a failure, and what stands beside them.

    Raises:
        BadData: the file is damaged.
    """
    table = read_results(results)
    rows = table.to_pylist()
    stored = [row for row in rows if row["status"] == OK]
    failed = {(row["split"], row["sigma"]): row for row in rows if row["status"] != OK}
    return stored, list(failed.values()), about_of(table)


def _checkpoints_of(sweep: Sweep, run_id: str, stored: Rows) -> list[Path]:
    """The checkpoints that rows name, also those that have gone; of no rows, those there are."""
    if stored:
        return [sweep.checkpoint(run_id, e) for e in sorted({row["epoch"] for row in stored})]
    found = sorted(sweep.checkpoint(run_id, 0).parent.glob("epoch=*.pt"))
    return [path for path in found if re.fullmatch(r"epoch=\d{1,9}", path.stem, re.ASCII)]


def _sound(path: Path, rows: Rows) -> Checkpoint | None:
    try:
        return load_checkpoint(path) if not rows or is_named(path, rows) else None
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
        finite = all(measured.finite for measured in statistics.values())
        if finite and said.get("checkpoint_sha256") == checkpoint.sha256:
            return statistics
    except BadData:
        pass
    if place.exists():
        done.append(_put_aside(sweep, place))
    model = checkpoint.model().to(device)
    images = images_of(checkpoint, path)
    try:
        statistics = evaluate(model, images, checkpoint.trial, device=device)
    except NotFinite as error:
        raise BadData(f"{path}: {error}; the model has diverged") from error
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
