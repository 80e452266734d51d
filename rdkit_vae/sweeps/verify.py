"""Checks every file and number in a sweep folder, without torch and without writing anything.

Checks hashes and checksums, computes each row again from its statistics, and looks for files that
are missing or that no row refers to.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rdkit_vae.config.foreign import subject_of
from rdkit_vae.errors import BadData, BadInput, Newer, RdvaeError
from rdkit_vae.store.evaluations import Row, read_evaluation
from rdkit_vae.store.generation import KINDS, read_rows
from rdkit_vae.store.mirror import is_copy
from rdkit_vae.store.parts import RUNS, is_part, results_in
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
_NOT_COMPARED = ("code_version", "created_at")  # they change when a row is made again
_TOLERANCE = 1e-11  # relative; versions of SciPy round differently
# Where nu is large, rounding decides its last digits, which the likelihood hardly depends on.
_TOLERANCE_OF_NU = 1e-4
MOVED_ASIDE = "moved aside"  # the remedy for a file that cannot be used
_NEW_ROWS = "its rows are recomputed from the statistics"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        path: the file.
        what: what is wrong with it.
        run_id: the trial that it belongs to; empty if there is none.
        remedy: what a repair does about it; empty if it does nothing.
    """

    path: Path
    what: str
    run_id: str = ""
    remedy: str = ""


@dataclass
class Report:
    """What was checked in a sweep folder, and what is wrong with it.

    Attributes:
        findings: everything that is wrong.
        foreign: files that rdvae did not write, which are left alone.
        n_checkpoints, n_rows: how many were checked.
        at_work: a sweep is running, or may be, in a store. So files without rows may get theirs.
    """

    findings: list[Finding] = field(default_factory=list)
    foreign: list[Path] = field(default_factory=list)
    n_checkpoints: int = 0
    n_rows: int = 0
    at_work: bool = False


def verify(sweep: Sweep, progress: Progress | None = None, *, alone: bool = False) -> Report:
    """Checks a sweep folder.

    Args:
        sweep: the folder.
        progress: called as `progress(done, total)` after each trial.
        alone: the caller has locked the folder, so no sweep is running.

    Raises:
        BadData: the sweep.json cannot be read.
    """
    report = Report(at_work=is_copy(sweep.root) or (not alone and is_locked(sweep.root)))
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
    report.findings += [*_pictures(sweep), *_measured(sweep)]
    if not report.at_work:
        report.findings += _unnamed(sweep, accounted, named - ended)
    return report


def _read_all(sweep: Sweep, named: set[str], report: Report) -> dict[str, Rows]:
    """The rows of every run whose results can be read; reports what is wrong with the others."""
    runs: dict[str, Rows] = {}
    try:
        paths = results_in(sweep.root / "results")
    except BadData:  # the part is named below
        paths = sorted((sweep.root / "results").glob("*.parquet"))
    for path in paths:
        try:
            inside = list(_runs_in(path))
        except BadData as error:
            run_id = path.stem
            if run_id in named or is_part(path):
                remedy = "it is moved aside, and its rows are recomputed"
                remedy = "" if isinstance(error, Newer) or is_part(path) else remedy
                report.findings.append(Finding(path, _reason(error, path), run_id, remedy))
            else:
                report.foreign.append(path)
            continue
        for run_id, rows, about in inside:
            runs[run_id] = rows
            if _name_of(about) != run_id:
                what = f"its configuration is not that of {run_id}"
                report.findings.append(Finding(path, what, run_id))
    return runs


def _runs_in(path: Path) -> Iterator[tuple[str, Rows, dict[str, Any]]]:
    """The trials of a file of results, with their rows and metadata.

    Raises:
        BadData: it cannot be read, or has rows of another trial.
    """
    table = read_results(path)
    about, rows = about_of(table), table.to_pylist()
    if is_part(path):
        for run_id, of_run in itertools.groupby(rows, lambda row: str(row["run_id"])):
            yield run_id, list(of_run), about.get(RUNS, {}).get(run_id, {})
        return
    if (runs_inside := {row["run_id"] for row in rows}) != {path.stem}:
        raise BadData(f"{path}: damaged (it holds rows of {few(sorted(runs_inside))})")
    yield path.stem, rows, about


def _reason(error: RdvaeError, path: Path) -> str:
    """The message of an error without the path at its start."""
    return str(error).removeprefix(f"{path}: ")


def _name_of(about: Any) -> str | None:
    try:
        return subject_of(about).run_id
    except (BadInput, AttributeError, TypeError, KeyError):
        return None


def _verify_run(sweep: Sweep, run_id: str, rows: Rows, report: Report) -> Iterator[Finding]:
    """The findings of one trial."""
    good = [row for row in rows if row["status"] == Status.OK]
    report.n_rows += len(rows)
    results = sweep.results(run_id)
    if not rows:
        what = "there is no results file, but there are checkpoints"
        yield Finding(results, what, run_id, "its rows are recomputed from the checkpoints")
        return
    keys = [(row["epoch"], row["split"], row["sigma"], row["status"]) for row in rows]
    if repeated := len(keys) - len(set(keys)):
        what = f"{counted(repeated, 'row')} {are(repeated)} duplicated"
        yield Finding(results, what, run_id, _NEW_ROWS)
    for epoch in sorted({row["epoch"] for row in good}):
        report.n_checkpoints += 1
        of_epoch = [row for row in good if row["epoch"] == epoch]
        yield from _verify_checkpoint(sweep, run_id, epoch, of_epoch)


def _verify_checkpoint(sweep: Sweep, run_id: str, epoch: int, rows: Rows) -> Iterator[Finding]:
    """Compares a checkpoint, its statistics and its rows.

    A model from elsewhere has no checkpoint here, so its statistics cannot be measured again.
    """
    measured, foreign = sweep.statistics(run_id, epoch), bool(rows[0]["model"])
    if not foreign:
        yield from _verify_weights(sweep.checkpoint(run_id, epoch), run_id, rows)
    remedy = "" if foreign else "measured again"
    try:
        evaluation = read_evaluation(measured)
        again = evaluation.rows(sorted({row["sigma"] for row in rows}))
    except (BadData, BadInput) as error:
        yield Finding(measured, _reason(error, measured), run_id, remedy)
        return
    if evaluation.checkpoint_sha256 != rows[0]["checkpoint_sha256"]:
        what = "it was measured on another checkpoint than that of the rows"
        yield Finding(measured, what, run_id, remedy)
    elif differing := differences(rows, again):
        what = f"the rows of epoch {epoch} do not agree with its statistics: {few(differing)}"
        yield Finding(sweep.results(run_id), what, run_id, _NEW_ROWS)


def _verify_weights(checkpoint: Path, run_id: str, rows: Rows) -> Iterator[Finding]:
    try:
        if not is_named(checkpoint, rows):
            what = "its SHA-256 is not the one in its rows"
            remedy = "it is moved aside; rerun the sweep command to train it again"
            yield Finding(checkpoint, what, run_id, remedy)
    except BadData as error:  # its rows are kept, although they cannot be traced any more
        yield Finding(checkpoint, _reason(error, checkpoint), run_id)


def is_named(path: Path, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a checkpoint file has the SHA-256 in its rows.

    Raises:
        BadData: it cannot be read.
    """
    return {row["checkpoint_sha256"] for row in rows} == {sha256_of(path)}


def differences(rows: Iterable[Mapping[str, Any]], again: Iterable[Mapping[str, Any]]) -> list[str]:
    """How rows differ from those that were made again, in words."""
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
            if name not in _NOT_COMPARED
            and not _same(value, new.get(name), _TOLERANCE_OF_NU if name == "nu" else _TOLERANCE)
        ]
    return differing + [f"{split} {sigma} is missing" for split, sigma in expected]


def _same(stored: Any, made: Any, tolerance: float) -> bool:
    if isinstance(stored, float) and isinstance(made, int | float):
        if math.isnan(stored) or math.isnan(made):
            return math.isnan(stored) and math.isnan(made)
        return math.isclose(stored, made, rel_tol=tolerance, abs_tol=tolerance)
    # A column that was added after the file was written is null.
    return bool(stored == made) or stored is None


def _pictures(sweep: Sweep) -> Iterator[Finding]:
    """Pictures that are damaged, or of another version of the checkpoint."""
    for path in sorted((sweep.root / "samples").glob("*/*.parquet")):
        checkpoint = sweep.root / "checkpoints" / path.parent.name / f"{path.stem}.pt"
        try:
            sha256 = read_samples(path)[1].get("checkpoint_sha256")
            if not checkpoint.exists() or sha256_of(checkpoint) == sha256:
                continue
            what = "its pictures are of another checkpoint"
        except BadData as error:
            what = _reason(error, path)
        yield Finding(path, what, path.parent.name, MOVED_ASIDE)


def _measured(sweep: Sweep) -> Iterator[Finding]:
    """Rows of generation and priors that are damaged, or of another version of the checkpoint."""
    for kind in KINDS:
        for path in sorted((sweep.root / kind.folder).glob("*/*.parquet")):
            checkpoint = sweep.root / "checkpoints" / path.parent.name / f"{path.stem}.pt"
            try:
                hashes = set(read_rows(path, kind)["checkpoint_sha256"].to_pylist())
                if not checkpoint.exists() or hashes <= {sha256_of(checkpoint)}:
                    continue
                what = "some of its rows are of another checkpoint"
            except BadData as error:
                what = _reason(error, path)
            yield Finding(path, what, path.parent.name, MOVED_ASIDE)


def _checkpoints(sweep: Sweep, run_id: str) -> list[Path]:
    return sorted(sweep.checkpoint(run_id, 0).parent.glob("epoch=*.pt"))


def _unnamed(sweep: Sweep, accounted: set[Path], unfinished: set[str]) -> Iterator[Finding]:
    """Files without rows, except those of unfinished trials, whose rows are still to come."""
    for kind, pattern in (("checkpoints", "epoch=*.pt"), ("statistics", "*.parquet")):
        for path in sorted((sweep.root / kind).glob(f"*/{pattern}")):
            if path not in accounted and path.parent.name not in unfinished:
                yield Finding(path, "no row refers to it", path.parent.name, MOVED_ASIDE)
    for path in left_partial(sweep.root):
        yield Finding(path, "left by a process that died", remedy="removed")
