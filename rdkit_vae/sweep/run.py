"""A sweep: the grid of trials, what of it is done, and running the rest."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rdkit_vae.config.trial import Trial
from rdkit_vae.datasets.images import Images, share, shared_folder
from rdkit_vae.errors import BadInput, Newer
from rdkit_vae.models import ARCHITECTURES
from rdkit_vae.store.ledger import FAILED, State, record_crash
from rdkit_vae.store.paths import CRASHED, Sweep, code_version, now
from rdkit_vae.store.schema import SCHEMA
from rdkit_vae.sweep.log import Log
from rdkit_vae.sweep.pool import Event, run_trials
from rdkit_vae.sweep.worker import Pool
from rdkit_vae.system.files import locked, read_json, write_json
from rdkit_vae.system.processes import Interrupts

_MOST_STACKED = 16  # more gain little, and lose more where a process dies
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
def opened(
    sweep: Sweep,
    trials: Sequence[Trial],
    images: Images,
    *,
    data_dir: str | None = None,
    join: bool = False,
) -> Iterator[None]:
    """Holds the sweep folder for these trials, and records what was asked.

    Args:
        sweep: the folder.
        trials, images: of the sweep.
        data_dir: folder that the images were read from, which is remembered.
        join: share the folder with the processes that are at work there.

    Raises:
        BadInput: it holds another sweep, or is held by another process that was not to be joined.
        BadData: what was asked there cannot be read.
        CannotWrite: the folder cannot be written.
    """

    def describe_it() -> None:
        if not sweep.description.exists():
            facts = {"code_version": code_version(), "created_at": now(), "command": sys.argv[1:]}
            facts |= {"data_dir": str(Path(data_dir).absolute())} if data_dir else {}
            write_json(sweep.description, {**describe(trials, images), **facts})

    check_same(sweep, trials, images)  # before its lock is made in a folder of other files
    with locked(sweep.root, join=join, first=describe_it):
        check_same(sweep, trials, images)
        yield


def check_same(sweep: Sweep, trials: Sequence[Trial], images: Images) -> None:
    """Refuses a folder that holds another sweep.

    Raises:
        BadInput: it does; the message names the differences.
        BadData: what was asked there cannot be read.
    """
    if not sweep.description.exists():
        return
    held, asked = (_flat(d) for d in (read_json(sweep.description), describe(trials, images)))
    if isinstance(held.get("schema"), int) and held["schema"] > SCHEMA:
        raise Newer(f"{sweep.description}: written by a newer rdvae; upgrade rdvae")
    if held.get("schema") == 1:  # as it was written then
        asked |= {"train_sigma2": next(iter(asked["train_sigma2"]), None)}
    asked.pop("schema")  # of the files; older ones are read
    if "protocol_revision" in asked:
        held.setdefault("protocol_revision", 1)  # which had no name yet
    differing = [
        f"{key} {_short(held.get(key))}, not {_short(value)}"
        for key, value in asked.items()
        if held.get(key) != value
    ]
    if differing:
        more = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise BadInput(
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


def run_sweep(
    left: Mapping[Trial, State],
    images: Images,
    sweep: Sweep,
    interrupts: Interrupts,
    *,
    jobs: int,
    pack: int,
    device: str,
    display: Callable[[Event], None],
    fail_fast: bool = False,
) -> bool:
    """Runs trials, shows each event, and returns whether an interrupt ended it.

    Args:
        left: what to run, in this order, and how each stood when that was decided.
        images: their dataset.
        sweep: the folder, which is held.
        interrupts: those that the user sends, or has sent.
        jobs, pack: processes at a time, and trials of one kind that each trains at once.
        device: torch device of every process.
        display: called with each event, after it was logged.
        fail_fast: stop as an interrupt would when a trial has failed.

    Raises:
        CannotWrite: there is no room for the files of a trial.
        KeyboardInterrupt: twice interrupted.
    """
    failed, interrupted = False, False
    by_id = {trial.run_id: trial for trial in left}
    with (
        shared_folder() as folder,
        Log(sweep.log) as log,
    ):
        shared = share(images, folder)
        pool = Pool(jobs=min(jobs, len(left)), pack=pack, images=shared, sweep=sweep, device=device)
        events = run_trials({t: state.status for t, state in left.items()}, pool, interrupts)
        try:
            log.note("sweep started", trials=len(left), jobs=pool.jobs, pack=pack, device=device)
            for event in events:
                if event.status == CRASHED and not event.elsewhere:
                    record_crash(sweep, by_id[event.run_id], event.summary)
                interrupted |= event.kind == "stopping" and not failed
                log.note_event(event, by_id)
                display(event)
                if fail_fast and event.status in FAILED and not (failed or interrupted):
                    failed = True
                    interrupts.interrupt()
            log.note("sweep ended", interrupted=interrupted)
        finally:
            events.close()  # type: ignore[attr-defined]
    return interrupted


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


def choose_pack(wanted: int | None, trials: Sequence[Trial], jobs: int, device: str) -> int:
    """The number asked for; else as many trials at once as make a sweep quickest.

    That is one where a trial fills a core, up to 16 for each process where networks are stacked,
    and on a GPU all. The memory that there is may make groups smaller.
    """
    if wanted is not None:
        return wanted
    most = len(trials)
    if device == "cpu":
        stacks = ARCHITECTURES[trials[0].architecture].stacks if trials else False
        most = _MOST_STACKED if stacks else 1
    rounds = -(-len(trials) // (jobs * most)) if trials else 1
    return max(1, -(-len(trials) // (jobs * rounds)))
