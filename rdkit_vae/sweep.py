"""A sweep: the grid of trials, what of it is done, and running the rest."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rdkit_vae.compact import merged_runs
from rdkit_vae.datasets.images import Images, share
from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.files import locked, read_json, write_json
from rdkit_vae.grammar import SIGMAS
from rdkit_vae.parquet import read_results, write_results
from rdkit_vae.schema import SCHEMA
from rdkit_vae.store import CRASHED, DIVERGED, OK, Sweep, code_version, failed_rows, now
from rdkit_vae.trial import Trial
from rdkit_vae.workers import Event, run_trials

LEFT = "left"  # beside the statuses of results: not ended yet
TO_RUN = (LEFT, CRASHED)  # what ended otherwise is not run again
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def describe(trials: Sequence[Trial], images: Images) -> dict[str, Any]:
    """What was asked, as it is recorded in sweep.json."""
    first = trials[0].to_dict()
    axes = ("beta", "objective", "seed", "train_sigma2")
    return {
        "schema": SCHEMA,
        "settings": {key: value for key, value in first.items() if key not in axes},
        "betas": list(dict.fromkeys(trial.beta for trial in trials)),
        "objectives": list(dict.fromkeys(trial.objective for trial in trials)),
        "seeds": list(dict.fromkeys(trial.seed for trial in trials)),
        "train_sigma2": list(dict.fromkeys(t.train_sigma2 for t in trials if t.train_sigma2)),
        "data": images.facts(),
        "run_ids": [trial.run_id for trial in trials],
    }


@contextmanager
def opened(sweep: Sweep, trials: Sequence[Trial], images: Images) -> Iterator[None]:
    """Holds the sweep folder for these trials, and records what was asked.

    Raises:
        BadData: the folder cannot be written, is held by another process, or holds another sweep.
    """
    with locked(sweep.root):
        check_same(sweep, trials, images)
        if not sweep.description.exists():
            facts = {"code_version": code_version(), "created_at": now(), "command": sys.argv[1:]}
            write_json(sweep.description, {**describe(trials, images), **facts})
        yield


def check_same(sweep: Sweep, trials: Sequence[Trial], images: Images) -> None:
    """Refuses a folder that holds another sweep.

    Raises:
        BadData: it does; the message names the differences.
    """
    if not sweep.description.exists():
        return
    held, asked = (_flat(d) for d in (read_json(sweep.description), describe(trials, images)))
    if held.get("schema") == 1:  # as it was written then
        asked |= {"train_sigma2": next(iter(asked["train_sigma2"]), None)}
    asked.pop("schema")  # of the files; what is newer than this rdvae is refused as it is read
    differing = [
        f"{key} {_short(held.get(key))}, not {_short(value)}"
        for key, value in asked.items()
        if held.get(key) != value
    ]
    if differing:
        more = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise BadData(
            f"{sweep.root} holds another sweep ({'; '.join(differing[:3])}{more}); choose another "
            "--out, plot-rd draws all sweeps below a folder"
        )


def _flat(description: Mapping[str, Any]) -> dict[str, Any]:
    """A description in one level; the list of runs follows from the rest."""
    nested = ("settings", "data")
    flat = {key: value for key, value in description.items() if key not in (*nested, "run_ids")}
    for name in nested:
        part = description.get(name)
        flat |= part if isinstance(part, dict) else {name: part}
    return flat


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def state_of(sweep: Sweep, run_id: str) -> str:
    """`ok`, `diverged` or `crashed` where the results say that a trial has ended, else `left`."""
    try:
        table = read_results(sweep.results(run_id))
    except BadData:
        return OK if run_id in merged_runs(sweep.root / "results") else LEFT
    statuses = set(table["status"].to_pylist())
    for failed in (DIVERGED, CRASHED):
        if failed in statuses:
            return failed
    last = zip(table["epoch"].to_pylist(), table["epochs"].to_pylist(), strict=True)
    return OK if any(epoch == epochs for epoch, epochs in last) else LEFT


def run_sweep(
    left: Sequence[Trial],
    images: Images,
    sweep: Sweep,
    *,
    jobs: int,
    device: str,
    display: Callable[[Event], None],
) -> dict[str, str]:
    """Runs trials, shows each event, and returns the states that they ended in by run_id."""
    states: dict[str, str] = {}
    by_id = {trial.run_id: trial for trial in left}
    log = _ProgressFile(sweep)
    with tempfile.TemporaryDirectory(prefix="rdvae-") as folder:
        events = run_trials(
            left,
            jobs=min(jobs, len(left)),
            images=share(images, Path(folder)),
            sweep=sweep,
            device=device,
        )
        try:
            for event in events:
                if event.kind == "ended":
                    if event.status == CRASHED:
                        _record_crash(sweep, by_id[event.run_id], event.summary)
                    states[event.run_id] = state_of(sweep, event.run_id)
                log.note(event, by_id[event.run_id])
                display(event)
        finally:
            events.close()  # type: ignore[attr-defined]
            log.close()
    return states


def _record_crash(sweep: Sweep, trial: Trial, summary: str) -> None:
    """Adds rows of status `crashed` to what the trial had reached, unless that was its end."""
    if state_of(sweep, trial.run_id) not in TO_RUN:
        return
    path, rows = sweep.results(trial.run_id), []
    with suppress(BadData):
        rows = [row for row in read_results(path).to_pylist() if row["status"] == OK]
    epoch = max((row["epoch"] for row in rows), default=0)
    step = max((row["step"] for row in rows), default=0)
    rows += failed_rows(trial, list(SIGMAS), epoch=epoch, step=step, status=CRASHED)
    write_results(path, rows, {"trial": trial.to_dict(), "crash": summary})


class _ProgressFile:
    """Tells other processes what runs, at most once a second."""

    def __init__(self, sweep: Sweep) -> None:
        self._path = sweep.progress
        self._running: dict[str, dict[str, Any]] = {}
        self._written = 0.0

    def note(self, event: Event, trial: Trial) -> None:
        if event.kind == "ended":
            self._running.pop(event.run_id, None)
        else:
            self._running[event.run_id] = {
                "epoch": event.epoch,
                "epochs": trial.epochs,
                "loss": event.loss,
            }
        if event.kind == "ended" or time.monotonic() - self._written > 1:
            write_json(self._path, {"updated_at": now(), "running": self._running})
            self._written = time.monotonic()

    def close(self) -> None:
        self._path.unlink(missing_ok=True)


def choose_device(wanted: str) -> str:
    """`auto` becomes `cuda` where torch sees a GPU, else `cpu`.

    Raises:
        BadInput: a device that is not there.
    """
    if wanted == "cpu":
        return wanted
    # Asking torch takes seconds, so it is asked only where a driver is there.
    if any(Path(path).exists() for path in _GPU_DEVICES) or wanted != "auto":
        import torch

        if torch.cuda.is_available():
            return "cuda"
        if wanted != "auto":
            raise BadInput(f"device {wanted}: torch sees no such GPU here; use --device cpu")
    return "cpu"


def choose_jobs(wanted: int | None, device: str) -> int:
    """The number asked for; else one process per usable core, or one on a GPU."""
    if wanted is not None:
        return wanted
    if device != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
