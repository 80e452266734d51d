"""The state of the trials of a sweep, according to its results."""

from collections.abc import Iterable
from dataclasses import dataclass

from rdkit_vae.config.trial import Trial
from rdkit_vae.errors import BadData, Newer
from rdkit_vae.store.evaluations import Row, failed_rows
from rdkit_vae.store.parts import merged_runs
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.results import read_results, write_results
from rdkit_vae.store.schema import Status
from rdkit_vae.system.locks import claimed


@dataclass(frozen=True)
class State:
    """The state of a trial, and why it failed if it did."""

    status: Status
    reason: str = ""


def state_of(sweep: Sweep, run_id: str) -> State:
    """Returns the state of a trial; one without results has the status `LEFT`.

    Raises:
        BadData: its results cannot be read; running it again would overwrite them.
    """
    path = sweep.results(run_id)
    if not path.exists():
        return State(Status.LEFT)
    try:
        rows = read_results(path, ("status", "reason", "epoch", "epochs")).to_pylist()
    except Newer:
        raise
    except BadData as error:
        error.add_note(f"to repair it: rdvae verify --repair {sweep.root}")
        raise
    for row in rows:
        if row["status"] in (Status.DIVERGED, Status.CRASHED):
            return State(Status(row["status"]), row["reason"] or "")
    ended = any(row["epoch"] == row["epochs"] for row in rows)
    return State(Status.OK if ended else Status.LEFT)


def states_of(sweep: Sweep, run_ids: Iterable[str]) -> dict[str, State]:
    """Returns the states of trials, whose results may be in part files.

    Raises:
        BadData: as `state_of`.
    """
    ended = merged_runs(sweep)
    return {
        run_id: State(Status.OK) if run_id in ended else state_of(sweep, run_id)
        for run_id in run_ids
    }


def rows_of(sweep: Sweep, run_id: str) -> list[Row]:
    """Returns the rows of the checkpoints of a trial, without rows of a failure.

    Raises:
        BadData: the results are damaged.
    """
    path = sweep.results(run_id)
    if not path.exists():
        return []
    return [row for row in read_results(path).to_pylist() if row["status"] == Status.OK]


def record_crash(sweep: Sweep, trial: Trial, reason: str) -> None:
    """Adds rows with the status `crashed` to the results of a trial, unless it has ended."""
    with claimed(sweep.claims, [trial.run_id]) as mine:
        if not mine or state_of(sweep, trial.run_id).status not in (Status.LEFT, Status.CRASHED):
            return
        rows = rows_of(sweep, trial.run_id)
        at = {name: max((row[name] for row in rows), default=0) for name in ("epoch", "step")}
        rows += failed_rows(trial, **at, status=Status.CRASHED, reason=reason)
        write_results(sweep.results(trial.run_id), rows, {"trial": trial.to_dict()})
