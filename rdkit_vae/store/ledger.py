"""What the results of a sweep say of its trials: which have ended, how, and why."""

from dataclasses import dataclass
from typing import Any

from rdkit_vae.config.parsing import SIGMAS
from rdkit_vae.config.trial import Trial
from rdkit_vae.errors import BadData, Newer
from rdkit_vae.store.paths import CRASHED, DIVERGED, OK, Sweep, failed_rows
from rdkit_vae.store.results import read_results, write_results
from rdkit_vae.system.files import claimed

LEFT = "left"  # beside the statuses of results: not ended yet
FAILED = (DIVERGED, CRASHED)


@dataclass(frozen=True)
class State:
    """How a trial stands: `ok`, `diverged`, `crashed` or `left`, and why it failed."""

    status: str
    reason: str = ""


def state_of(sweep: Sweep, run_id: str) -> State:
    """How a trial stands. One without results is left to be run.

    Raises:
        BadData: its results cannot be read; to run it again would be to lose them.
    """
    path = sweep.results(run_id)
    try:
        if not path.exists():
            return State(LEFT)
        table = read_results(path, ("status", "reason", "epoch", "epochs"))
    except Newer:
        raise
    except BadData as error:
        error.add_note(f"mend it: rdvae verify --repair {sweep.root}")
        raise
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
    with claimed(sweep.claims, [trial.run_id]) as mine:
        if not mine or state_of(sweep, trial.run_id).status not in (LEFT, CRASHED):
            return
        rows = rows_of(sweep, trial.run_id)
        at = {name: max((row[name] for row in rows), default=0) for name in ("epoch", "step")}
        rows += failed_rows(trial, list(SIGMAS), **at, status=CRASHED, reason=reason)
        write_results(sweep.results(trial.run_id), rows, {"trial": trial.to_dict()})
