"""What the results of a sweep say of its trials: which have ended, how, and why."""

from dataclasses import dataclass
from typing import Any

from rdkit_vae.errors import BadData
from rdkit_vae.files import claimed
from rdkit_vae.grammar import SIGMAS
from rdkit_vae.parquet import read_results, write_results
from rdkit_vae.store import CRASHED, DIVERGED, OK, Sweep, failed_rows
from rdkit_vae.trial import Trial

LEFT = "left"  # beside the statuses of results: not ended yet
FAILED = (DIVERGED, CRASHED)


@dataclass(frozen=True)
class State:
    """How a trial stands: `ok`, `diverged`, `crashed` or `left`, and why it failed."""

    status: str
    reason: str = ""


def state_of(sweep: Sweep, run_id: str) -> State:
    """How a trial stands. One whose results are missing or damaged is left to be run."""
    try:
        table = read_results(sweep.results(run_id), ("status", "reason", "epoch", "epochs"))
    except BadData:
        return State(LEFT)
    rows = table.to_pylist()
    for row in rows:
        if row["status"] in FAILED:
            return State(row["status"], row["reason"] or "")
    return State(OK if any(row["epoch"] == row["epochs"] for row in rows) else LEFT)


def rows_of(sweep: Sweep, run_id: str) -> list[dict[str, Any]]:
    """The rows of a trial's checkpoints, none of its failure.

    Raises:
        BadData: its results are damaged.
    """
    path = sweep.results(run_id)
    if not path.exists():
        return []
    return [row for row in read_results(path).to_pylist() if row["status"] == OK]


def record_crash(sweep: Sweep, trial: Trial, reason: str) -> None:
    """Adds rows of status `crashed` to what a trial had reached, unless it has ended since."""
    with claimed(sweep.claims, trial.run_id) as mine:
        if not mine or state_of(sweep, trial.run_id).status not in (LEFT, CRASHED):
            return
        try:
            rows = rows_of(sweep, trial.run_id)
        except BadData:
            rows = []
        at = {name: max((row[name] for row in rows), default=0) for name in ("epoch", "step")}
        rows += failed_rows(trial, list(SIGMAS), **at, status=CRASHED, reason=reason)
        write_results(sweep.results(trial.run_id), rows, {"trial": trial.to_dict()})
