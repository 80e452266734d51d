"""Repairs a sweep: makes rows from statistics, and statistics from checkpoints.

Nothing is deleted: damaged files are moved into the folder `damaged` of the sweep.
"""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from rdkit_vae.config.foreign import ForeignModel, described
from rdkit_vae.errors import BadData, Newer
from rdkit_vae.evaluation.checkpoints import Measuring, evaluate_checkpoint, images_of
from rdkit_vae.scoring.interpretations import SIGMAS
from rdkit_vae.store.checkpoints import Checkpoint, load_checkpoint
from rdkit_vae.store.evaluations import Evaluation, Row, read_evaluation, write_evaluation
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.results import read_results, write_results
from rdkit_vae.store.schema import Status
from rdkit_vae.store.tables import about_of
from rdkit_vae.sweeps.verify import (
    MOVED_ASIDE,
    Finding,
    Progress,
    Report,
    differences,
    is_named,
    verify,
)
from rdkit_vae.system.devices import choose_device
from rdkit_vae.system.files import DAMAGED, own_folder
from rdkit_vae.system.locks import locked
from rdkit_vae.text import counted

_ROUNDS = 3  # of verifying and repairing, as a repair can uncover further damage


def verify_and_repair(
    sweep: Sweep,
    measuring: Measuring,
    watch: Callable[[], AbstractContextManager[Progress | None]] = nullcontext,
) -> Iterator[Report | str]:
    """Verifies and repairs a sweep until there is nothing left to repair.

    Args:
        sweep: the folder.
        measuring: how to evaluate a checkpoint whose statistics are lost.
        watch: called before each verification; gives the `progress` for it.

    Yields:
        Each report of `verify`, followed by what was then repaired, in words.

    Raises:
        BadInput: another process is using the folder.
        BadData: as `verify` and `repair`.
    """
    with locked(sweep.root, alone=True):
        for _ in range(_ROUNDS):
            with watch() as progress:
                report = verify(sweep, progress, alone=True)
            yield report
            if not any(finding.remedy for finding in report.findings):
                return
            yield from repair(sweep, report.findings, measuring)


def repair(sweep: Sweep, findings: Iterable[Finding], measuring: Measuring) -> list[str]:
    """Applies the remedies of the findings, and returns what was done, in words.

    Args:
        sweep: the folder, which the caller must have locked since before `verify`.
        findings: from `verify`.
        measuring: how to evaluate a checkpoint whose statistics are lost.

    Raises:
        BadData: the images are missing, or a model has diverged.
        CannotWrite: a file cannot be written.
    """
    findings = [finding for finding in findings if finding.remedy]
    aside = list(dict.fromkeys(f.path for f in findings if f.remedy == MOVED_ASIDE))
    done = [_move_aside(sweep, path) for path in aside]
    for run_id in sorted({f.run_id for f in findings if f.path not in aside and f.run_id}):
        done += _Repair(sweep, run_id, measuring).carry_out()
    return done


def _move_aside(sweep: Sweep, path: Path, *, copy: bool = False) -> str:
    """Moves (or copies) a file into the folder `damaged`, without replacing any file there."""
    place = own_folder(sweep.root / DAMAGED) / path.relative_to(sweep.root)
    place.parent.mkdir(parents=True, exist_ok=True)
    taken = sum(1 for _ in place.parent.glob(f"{path.stem}*{path.suffix}"))
    if taken:
        place = place.with_stem(f"{path.stem}.{taken + 1}")
    if copy:
        shutil.copy2(path, place)
    else:
        shutil.move(path, place)  # a folder of the sweep may be a link to another disk
    return f"{path} is {'kept' if copy else 'moved aside'} as {place}"


class _Repair:
    """Makes the results of one trial again, up to its first damaged checkpoint."""

    def __init__(self, sweep: Sweep, run_id: str, measuring: Measuring) -> None:
        self._sweep, self._run_id, self._measuring = sweep, run_id, measuring
        self._done: list[str] = []

    def carry_out(self) -> list[str]:
        """Repairs what can be repaired, and returns what was done, in words."""
        results = self._sweep.results(self._run_id)
        stored, failed, about = self._stored(results)
        rows: list[Row] = []
        for evaluation in self._foreign():
            rows += evaluation.rows()
            about = described(evaluation.trial)
        if rows:
            stored = []
        for path in self._checkpoints(stored):
            epoch = int(path.stem.removeprefix("epoch="))
            of_epoch = [row for row in stored if row["epoch"] == epoch]
            if of_epoch and not path.exists():  # keeps the rows, although they cannot be traced
                rows += of_epoch
                continue
            checkpoint = _sound(path, of_epoch)
            if checkpoint is None:
                self._done.append(_move_aside(self._sweep, path))
                self._done.append(f"{self._run_id}: must be trained again from epoch {epoch} on")
                failed = []
                break
            evaluation = self._evaluation(path, checkpoint)
            about = {"trial": checkpoint.trial.to_dict(), "environment": evaluation.environment}
            again = evaluation.rows(sorted({row["sigma"] for row in of_epoch}) or SIGMAS)
            rows += again if differences(of_epoch, again) else of_epoch
        if rows or failed:
            if len(rows) < len(stored):
                self._done.append(_move_aside(self._sweep, results, copy=True))
            write_results(results, rows + failed, about)
            self._done.append(f"{results}: {counted(len(rows), 'row')}")
        elif results.exists():
            self._done.append(_move_aside(self._sweep, results))
        return self._done

    def _foreign(self) -> Iterator[Evaluation]:
        """The stored evaluations of a model from elsewhere, which has no checkpoint here."""
        folder = self._sweep.statistics(self._run_id, 0).parent
        for path in sorted(folder.glob("epoch=*.parquet")):
            try:
                evaluation = read_evaluation(path)
            except BadData:
                continue
            if isinstance(evaluation.trial, ForeignModel):
                yield evaluation

    def _stored(self, results: Path) -> tuple[list[Row], list[Row], dict[str, Any]]:
        """The rows of checkpoints, those of a failure, and the metadata of the file."""
        if not results.exists():
            return [], [], {}
        try:
            table = read_results(results)
        except BadData:
            self._done.append(_move_aside(self._sweep, results))
            return [], [], {}
        rows = table.to_pylist()
        stored = [row for row in rows if row["status"] == Status.OK]
        failed = {(r["split"], r["sigma"]): r for r in rows if r["status"] != Status.OK}
        return stored, list(failed.values()), about_of(table)

    def _checkpoints(self, stored: list[Row]) -> list[Path]:
        """The checkpoints in the rows, even if missing; without rows, all those in the folder."""
        if stored:
            epochs = sorted({row["epoch"] for row in stored})
            return [self._sweep.checkpoint(self._run_id, epoch) for epoch in epochs]
        files = sorted(self._sweep.checkpoint(self._run_id, 0).parent.glob("epoch=*.pt"))
        return [file for file in files if re.fullmatch(r"epoch=\d{1,9}", file.stem, re.ASCII)]

    def _evaluation(self, path: Path, checkpoint: Checkpoint) -> Evaluation:
        """The stored evaluation of a checkpoint; if there is none, a new one is stored."""
        place = self._sweep.statistics(checkpoint.trial.run_id, checkpoint.epoch)
        try:
            stored = read_evaluation(place)
            finite = all(measured.finite for measured in stored.statistics.values())
            if finite and stored.checkpoint_sha256 == checkpoint.sha256:
                return stored
        except BadData:
            pass
        if place.exists():
            self._done.append(_move_aside(self._sweep, place))
        images = images_of(path, checkpoint, self._measuring)
        device = choose_device(self._measuring.device)
        evaluation = evaluate_checkpoint(path, checkpoint, images, device=device)
        write_evaluation(place, evaluation)
        self._done.append(f"{place}: measured again")
        return evaluation


def _sound(path: Path, rows: list[Row]) -> Checkpoint | None:
    """The checkpoint, if it can be read and has the SHA-256 in its rows."""
    try:
        return load_checkpoint(path) if not rows or is_named(path, rows) else None
    except Newer:
        raise
    except BadData:
        return None
