"""Checks everything in a sweep folder that can be checked. No torch, and nothing is written.

Hashes and checksums; each row against its statistics, computed again; files that are missing, or
that no row names.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rdkit_vae.config.trial import Trial
from rdkit_vae.errors import BadData, BadInput, Newer, RdvaeError
from rdkit_vae.store.evaluations import Row, read_evaluation
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.results import read_results
from rdkit_vae.store.samples import read_samples
from rdkit_vae.store.schema import Status
from rdkit_vae.store.tables import about_of
from rdkit_vae.system.files import left_partial, sha256_of
from rdkit_vae.system.locks import is_locked
from rdkit_vae.text import are, counted, few

Rows = list[Row]
Progress = Callable[[int, int], None]  # (trials done, trials in all)
_NOT_COMPARED = ("code_version", "created_at")  # they differ when a row is made again
PUT_ASIDE = "put aside"  # the remedy of a file that nothing can be made of
_TOLERANCE = 1e-11  # relative; another version of SciPy may round otherwise


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is wrong.

    Attributes:
        path: the file.
        what: is wrong with it.
        run_id: the trial that it belongs to; empty where it belongs to none.
        remedy: what a repair does about it; empty where it does nothing.
    """

    path: Path
    what: str
    run_id: str = ""
    remedy: str = ""


@dataclass
class Report:
    """What was checked in a sweep folder, and what is wrong with it.

    Attributes:
        findings: all that is wrong.
        foreign: files that are not of rdvae, which are left alone.
        n_checkpoints, n_rows: how many were checked.
        at_work: a sweep is running, so rows may still come for files that no row names.
    """

    findings: list[Finding] = field(default_factory=list)
    foreign: list[Path] = field(default_factory=list)
    n_checkpoints: int = 0
    n_rows: int = 0
    at_work: bool = False

    @property
    def in_words(self) -> str:
        """What was checked, in one line."""
        return f"{counted(self.n_checkpoints, 'checkpoint')}, {counted(self.n_rows, 'row')}"


def verify(sweep: Sweep, progress: Progress | None = None, *, alone: bool = False) -> Report:
    """Checks a sweep folder.

    Args:
        sweep: the folder.
        progress: called as `progress(done, total)` after each trial.
        alone: the caller holds its lock, so no sweep is running.

    Raises:
        BadData: what was asked of the sweep cannot be read.
    """
    report = Report(at_work=not alone and is_locked(sweep.root))
    named = set(sweep.run_ids())
    runs = _read_all(sweep, named, report)
    damaged = {finding.run_id for finding in report.findings}
    for run_id in sorted(named - runs.keys() - damaged):
        if _checkpoints(sweep, run_id) and not report.at_work:
            runs[run_id] = []
    accounted: set[Path] = set()
    ended: set[str] = set()
    for done, (run_id, rows) in enumerate(runs.items(), start=1):
        report.findings += _verify_run(sweep, run_id, rows, report)
        for epoch in {row["epoch"] for row in rows if row["status"] == Status.OK}:
            accounted |= {sweep.checkpoint(run_id, epoch), sweep.statistics(run_id, epoch)}
        if any(row["status"] == Status.OK and row["epoch"] == row["epochs"] for row in rows):
            ended.add(run_id)
        if progress:
            progress(done, len(runs))
    report.findings += _pictures(sweep)
    if not report.at_work:
        report.findings += _unnamed(sweep, accounted, named - ended)
    return report


def _read_all(sweep: Sweep, named: set[str], report: Report) -> dict[str, Rows]:
    """The rows of every run whose results can be read; notes what is wrong with the others."""
    runs: dict[str, Rows] = {}
    for path in sorted((sweep.root / "results").glob("*.parquet")):
        run_id = path.stem
        try:
            table = read_results(path)
            runs_inside = set(table["run_id"].to_pylist())
            if runs_inside != {run_id}:
                raise BadData(f"{path}: damaged (it holds rows of {few(sorted(runs_inside))})")
        except BadData as error:
            if run_id in named:
                report.findings.append(_damaged(path, error))
            else:
                report.foreign.append(path)
            continue
        runs[run_id] = table.to_pylist()
        if _name_of(about_of(table)) != run_id:
            what = f"its configuration is not that of {run_id}"
            report.findings.append(Finding(path=path, what=what, run_id=run_id))
    return runs


def _damaged(path: Path, error: BadData) -> Finding:
    remedy = "it is put aside, and its rows are made again from the checkpoints"
    return Finding(
        path=path,
        what=_reason(error, path),
        run_id=path.stem,
        remedy="" if isinstance(error, Newer) else remedy,
    )


def _reason(error: RdvaeError, path: Path) -> str:
    """What an error says, without the file that it says it of."""
    return str(error).removeprefix(f"{path}: ")


def _name_of(about: Any) -> str | None:
    try:
        return Trial.from_dict(about["trial"]).run_id
    except (BadInput, AttributeError, TypeError, KeyError):
        return None


def _verify_run(sweep: Sweep, run_id: str, rows: Rows, report: Report) -> Iterator[Finding]:
    """The findings of one trial."""
    good = [row for row in rows if row["status"] == Status.OK]
    report.n_rows += len(rows)
    results = sweep.results(run_id)
    remedy = "its rows are made again from the statistics"
    if not rows:
        what = "there is no results file, but there are checkpoints"
        remedy = "it is made again from the checkpoints"
        yield Finding(path=results, what=what, run_id=run_id, remedy=remedy)
        return
    keys = [(row["epoch"], row["split"], row["sigma"], row["status"]) for row in rows]
    if len(set(keys)) < len(keys):
        twice = len(keys) - len(set(keys))
        what = f"{counted(twice, 'row')} {are(twice)} there twice"
        yield Finding(path=results, what=what, run_id=run_id, remedy=remedy)
    for epoch in sorted({row["epoch"] for row in good}):
        report.n_checkpoints += 1
        of_epoch = [row for row in good if row["epoch"] == epoch]
        yield from _verify_checkpoint(sweep, run_id, epoch, of_epoch)


def _verify_checkpoint(sweep: Sweep, run_id: str, epoch: int, rows: Rows) -> Iterator[Finding]:
    """A checkpoint, its statistics and its rows, each against the next."""
    checkpoint, measured = sweep.checkpoint(run_id, epoch), sweep.statistics(run_id, epoch)
    try:
        if not is_named(checkpoint, rows):
            what = "its SHA-256 is not the one that its rows name"
            remedy = "it is put aside, and the same sweep command trains from there again"
            yield Finding(path=checkpoint, what=what, run_id=run_id, remedy=remedy)
    except BadData as error:  # its rows stand, though nobody can trace them any more
        what = _reason(error, checkpoint)
        yield Finding(path=checkpoint, what=what, run_id=run_id)
    remedy = "measured again"
    try:
        evaluation = read_evaluation(measured)
        again = evaluation.rows(sorted({row["sigma"] for row in rows}))
    except (BadData, BadInput) as error:
        what = _reason(error, measured)
        yield Finding(path=measured, what=what, run_id=run_id, remedy=remedy)
        return
    if evaluation.checkpoint_sha256 != rows[0]["checkpoint_sha256"]:
        what = "measured on another checkpoint than the rows name"
        yield Finding(path=measured, what=what, run_id=run_id, remedy=remedy)
        return
    differing = differences(rows, again)
    if differing:
        what = f"epoch {epoch} does not follow from its statistics: {few(differing)}"
        remedy = "its rows are made again from the statistics"
        yield Finding(path=sweep.results(run_id), what=what, run_id=run_id, remedy=remedy)


def is_named(path: Path, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a checkpoint file is the one whose SHA-256 its rows name.

    Raises:
        BadData: it cannot be read.
    """
    return {row["checkpoint_sha256"] for row in rows} == {sha256_of(path)}


def differences(rows: Iterable[Mapping[str, Any]], again: Iterable[Mapping[str, Any]]) -> list[str]:
    """The columns in which rows differ from those that were made again, in words."""
    expected = {(row["split"], row["sigma"]): row for row in again}
    differing = []
    for row in rows:
        new = expected.pop((row["split"], row["sigma"]), None)
        where = f"{row['split']} {row['sigma']}"
        if new is None:
            differing.append(f"{where} does not apply to this model")
            continue
        differing += [
            f"{where} {name} is {value}, not {new.get(name)}"
            for name, value in row.items()
            if name not in _NOT_COMPARED and not _same(value, new.get(name))
        ]
    return differing + [f"{split} {sigma} is missing" for split, sigma in expected]


def _same(stored: Any, made: Any) -> bool:
    if isinstance(stored, float) and isinstance(made, int | float):
        if math.isnan(stored) or math.isnan(made):
            return math.isnan(stored) and math.isnan(made)
        return math.isclose(stored, made, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    # A column that is younger than its file reads as null.
    return bool(stored == made) or stored is None


def _pictures(sweep: Sweep) -> Iterator[Finding]:
    """Samples that are damaged, or of another checkpoint than the one that is there."""
    for path in sorted((sweep.root / "samples").glob("*/*.parquet")):
        checkpoint = sweep.root / "checkpoints" / path.parent.name / f"{path.stem}.pt"
        try:
            _, about = read_samples(path)
            current = not checkpoint.exists() or sha256_of(checkpoint) == about.get(
                "checkpoint_sha256"
            )
            what = "" if current else "its pictures are of another checkpoint"
        except BadData as error:
            what = _reason(error, path)
        if what:
            yield Finding(path=path, what=what, run_id=path.parent.name, remedy=PUT_ASIDE)


def _checkpoints(sweep: Sweep, run_id: str) -> list[Path]:
    return sorted(sweep.checkpoint(run_id, 0).parent.glob("epoch=*.pt"))


def _unnamed(sweep: Sweep, accounted: set[Path], going_on: set[str]) -> Iterator[Finding]:
    """Files that belong to no row. Of a trial that goes on, they are on their way to one."""
    for kind, pattern in (("checkpoints", "epoch=*.pt"), ("statistics", "*.parquet")):
        for path in sorted((sweep.root / kind).glob(f"*/{pattern}")):
            if path not in accounted and path.parent.name not in going_on:
                what = "no row names it"
                yield Finding(path=path, what=what, run_id=path.parent.name, remedy=PUT_ASIDE)
    for path in left_partial(sweep.root):
        yield Finding(path=path, what="left by a process that died", remedy="removed")
