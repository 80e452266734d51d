"""Runs the trials of a sweep that are left, in its folder."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdkit_vae.config.trial import BEFORE_THE_FIELD, Option, Trial
from rdkit_vae.datasets.images import SCRATCH, share, shared_folder
from rdkit_vae.errors import BadInput, Newer
from rdkit_vae.store.ledger import record_crash
from rdkit_vae.store.models import MODELS
from rdkit_vae.store.parts import TRIALS, is_part, merge, results_in
from rdkit_vae.store.paths import Sweep, code_version, utc_now
from rdkit_vae.store.results import read_results
from rdkit_vae.store.schema import COLUMNS, SCHEMA, Status
from rdkit_vae.sweeps.executors import Executor
from rdkit_vae.sweeps.executors.inline import Inline
from rdkit_vae.sweeps.executors.processes import Processes
from rdkit_vae.sweeps.log import Log
from rdkit_vae.sweeps.messages import Event, EventKind, WorkerSettings
from rdkit_vae.sweeps.plan import Plan, plan_sweep
from rdkit_vae.sweeps.publish import Publisher
from rdkit_vae.sweeps.schedule import Schedule
from rdkit_vae.system.files import SWEEP_FILE, as_json, read_json, write_json
from rdkit_vae.system.locks import locked
from rdkit_vae.system.processes import Interrupts

if TYPE_CHECKING:
    import pandas as pd


def sweep(
    *,
    betas: str | Sequence[float] = "1e-4..1e3",
    dataset: str = "digits",
    objectives: str | Sequence[str] | None = None,
    paired: bool = False,
    seeds: str | int | Sequence[int] = 1,
    architecture: str = "conv",
    options: Mapping[str, Option | Sequence[Option]] | None = None,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    jobs: int | None = None,
    pack: int | None = None,
    device: str = "auto",
    join: bool = False,
    shard: str | None = None,
    engine: str = "local",
    ray_address: str | None = None,
    resources: str | Mapping[str, float] | None = None,
    retry_failed: bool = False,
    fail_fast: bool = False,
    progress: Callable[[Event], None] = lambda event: None,
    **settings: Any,
) -> "pd.DataFrame":
    """Trains a grid of VAEs and scores every checkpoint, as `rdvae sweep` does.

    It uses the same folder as the command. A second call runs what is left, from where the first
    one stopped. Trials run in worker processes.

    Args:
        betas: numbers, or text such as `1e-4..1e3`, `0.01..100:9` or `0.1,1,10`.
        dataset: a name that `rdvae datasets` lists.
        objectives: names, aliases, or `package.module:loss` for your own; None: `constant` and
            `optimal`.
        paired: train pairs with the same beta x C instead; see `config.grid.pairs`.
        seeds: how many (5: the seeds 0 to 4), or which.
        architecture: a name, or `package.module:factory` for your own.
        options: of the network, by name; a list of values is swept.
        out: the folder, or a URL of an object store; None: runs/DATASET-ARCHITECTURE.
        data_dir: folder with the files of the dataset.
        jobs: processes; None: one per core, or one on a GPU.
        pack: trials in a pack; None: the fastest number.
        device: `auto`, `cpu` or `cuda`.
        join: share the trials with processes that are running in the folder.
        shard: `K/N`: run only the K-th of N shares of the grid, and leave the others to processes
            that may run in the same folder, on this machine or others.
        engine: what runs the trials: `local` (processes), `inline` (this process) or `ray`.
        ray_address: of the Ray cluster, HOST:PORT or `auto`; None: one is started on this machine.
        resources: what a worker takes of the Ray cluster, such as `gpu=0.25,cpu=1`.
        retry_failed: run trials that diverged or crashed again.
        fail_fast: stop when a trial has failed.
        progress: called with each `sweeps.messages.Event`.
        **settings: any other attribute of `Trial`, such as `epochs` or `latents`.

    Returns:
        All rows of the sweep or shard, with the columns of `store.schema.COLUMNS`; a trial that
        diverged or crashed has rows with that `status`.

    Raises:
        BadInput: something cannot be done as asked, or the folder holds another sweep.
        BadData: images or results that are missing or damaged.
        CannotWrite: the folder cannot be written, or is full.
        KeyboardInterrupt: interrupted; call it again to continue.
    """
    plan = plan_sweep(
        betas=betas,
        dataset=dataset,
        objectives=objectives,
        paired=paired,
        seeds=seeds,
        architecture=architecture,
        options=options,
        out=out,
        data_dir=data_dir,
        jobs=jobs,
        pack=pack,
        device=device,
        join=join,
        shard=shard,
        engine=engine,
        ray_address=ray_address,
        resources=resources,
        retry_failed=retry_failed,
        fail_fast=fail_fast,
        **settings,
    )
    if run(plan, progress):
        raise KeyboardInterrupt
    return results_of(plan)


def results_of(plan: Plan) -> "pd.DataFrame":
    """The rows of all trials of the share, in their order."""
    import pandas as pd
    import pyarrow as pa

    run_ids = [trial.run_id for trial in plan.share]
    place = {run_id: number for number, run_id in enumerate(run_ids)}
    paths = [p for p in results_in(plan.sweep.root / "results") if is_part(p) or p.stem in place]
    if not paths:
        return pd.DataFrame(columns=list(COLUMNS))
    rows = pa.concat_tables(map(read_results, paths)).to_pandas()
    rows = rows[rows["run_id"].isin(place)]
    order = rows["run_id"].map(place).argsort(kind="stable")
    return rows.iloc[order].reset_index(drop=True)


def run(plan: Plan, progress: Callable[[Event], None]) -> bool:
    """Runs what is left of a sweep, and returns whether an interrupt ended it.

    Args:
        plan: the sweep.
        progress: called with each event after it was logged; the first has the trials left to run.

    Raises:
        BadInput: the folder belongs to another sweep, or another process is using it.
        CannotWrite: the folder cannot be written, or there is too little room.
        KeyboardInterrupt: interrupted twice.
    """
    with Interrupts() as interrupts, workers_of(plan) as jobs, _opened(plan):
        plan = replace(plan, jobs=jobs)
        states = plan.states()
        left = {trial: states[trial.run_id].status for trial in plan.left(states)}
        for run_id, state in states.items():
            if state.status is Status.OK:  # unless a process died just before it did this
                plan.sweep.resume_file(run_id).unlink(missing_ok=True)
        progress(Event(kind=EventKind.OPENED, states=states, left=tuple(left), jobs=jobs))
        interrupted = bool(left) and _run_left(plan, left, progress, interrupts)
        if plan.mirror:
            merge(plan.mirror)
        return interrupted


def _run_left(
    plan: Plan,
    left: Mapping[Trial, Status],
    progress: Callable[[Event], None],
    interrupts: Interrupts,
) -> bool:
    by_id, pack_size = {trial.run_id: trial for trial in left}, plan.pack_size([*left])
    failed, interrupted = False, False
    with shared_folder() as folder, Log(plan.sweep.log) as log:
        settings = WorkerSettings(
            jobs=min(plan.jobs, len(left)),
            images={} if plan.cluster else share(plan.images, folder),
            sweep=Sweep(folder / SCRATCH if plan.mirror else plan.sweep.root.absolute()),
            device=plan.device,
            store=plan.mirror.store if plan.mirror else None,
        )
        facts = {"jobs": settings.jobs, "pack": pack_size, "device": plan.device}
        kept = None if plan.mirror else plan.sweep
        executor = _executor(plan, settings)
        schedule = Schedule(left, executor, sweep=kept, pack_size=pack_size)
        events = schedule.run(interrupts)
        try:
            log.note("sweep started", trials=len(left), **facts)
            ended = 0
            for event in events:
                ended += event.kind is EventKind.ENDED
                if plan.mirror and event.kind is EventKind.ENDED and ended % TRIALS == 0:
                    merge(plan.mirror)
                if event.status is Status.CRASHED and not event.elsewhere:
                    _record_crash(settings, by_id[event.run_id], event.summary)
                interrupted |= event.kind is EventKind.STOPPING and not failed
                log.note_event(event, by_id)
                progress(event)
                has_failed = event.status is not None and event.status.failed
                if plan.fail_fast and has_failed and not (failed or interrupted):
                    failed = True
                    interrupts.ask_to_stop()
            log.note("sweep ended", interrupted=interrupted)
        finally:
            events.close()  # type: ignore[attr-defined]
    return interrupted


def _record_crash(settings: WorkerSettings, trial: Trial, reason: str) -> None:
    """Adds the crash of a trial to its results, which may be in a store."""
    if settings.store is None:
        record_crash(settings.sweep, trial, reason)
        return
    publisher = Publisher(settings.store, settings.sweep)
    if not publisher.fetch(trial.run_id):
        record_crash(settings.sweep, trial, reason)
        publisher.end(trial.run_id)


@contextmanager
def workers_of(plan: Plan) -> Iterator[int]:
    """Connects to the cluster of a sweep, if it has one; gives the number of workers.

    Raises:
        BadInput: the cluster cannot be reached, or has no room.
    """
    if plan.cluster is None:
        yield plan.jobs
        return
    from rdkit_vae.sweeps.executors.on_ray import connected

    with connected(plan.cluster) as room:
        yield room


def _executor(plan: Plan, settings: WorkerSettings) -> Executor:
    if plan.engine == "inline":
        return Inline(settings)
    if plan.cluster is None:
        return Processes(settings)
    from rdkit_vae.sweeps.executors.on_ray import OnRay

    return OnRay(plan.cluster, settings, plan.images)


@contextmanager
def _opened(plan: Plan) -> Iterator[None]:
    """Locks the sweep folder for these trials, and records the settings in it."""

    def record() -> None:
        if not plan.sweep.description.exists():
            facts: dict[str, Any] = {
                "code_version": code_version(),
                "created_at": utc_now(),
                "command": sys.argv[1:],
            }
            if plan.data_dir:
                facts["data_dir"] = str(Path(plan.data_dir).absolute())
            if plan.mirror:  # the store decides who was first
                plan.mirror.store.create(SWEEP_FILE, as_json(describe(plan) | facts))
                plan.mirror.pull()
            else:
                write_json(plan.sweep.description, describe(plan) | facts)

    check_same(plan)  # before a lock file is made in somebody else's folder
    with locked(plan.sweep.root, join=plan.join, first=record):
        check_same(plan)
        yield


def describe(plan: Plan) -> dict[str, Any]:
    """The settings of the sweep, as sweep.json records them."""
    first, trials = plan.trials[0].to_dict(), plan.trials
    axes = ("beta", "objective", "seed", "train_sigma2", "options")
    options = list(dict.fromkeys(trial.options for trial in trials))
    return {
        "schema": SCHEMA,
        "settings": {key: value for key, value in first.items() if key not in axes},
        "betas": list(dict.fromkeys(trial.beta for trial in trials)),
        "objectives": list(dict.fromkeys(trial.objective for trial in trials)),
        "seeds": list(dict.fromkeys(trial.seed for trial in trials)),
        "train_sigma2": list(dict.fromkeys(t.train_sigma2 for t in trials if t.train_sigma2)),
        **({"options": [dict(chosen) for chosen in options]} if options != [()] else {}),
        "data": plan.images.facts(),
        "run_ids": [trial.run_id for trial in trials],
    }


def check_same(plan: Plan) -> None:
    """Checks that the folder does not belong to another sweep.

    Raises:
        BadInput: it does; the message names the differences.
        BadData: its sweep.json cannot be read.
    """
    description = plan.sweep.description
    if not description.exists():
        return
    written = read_json(description)
    if MODELS in written:
        raise BadInput(
            f"{plan.place} holds models from elsewhere; use a separate --out for a sweep"
        )
    recorded, asked = _flat(written), _flat(describe(plan))
    if isinstance(recorded.get("schema"), int) and recorded["schema"] > SCHEMA:
        raise Newer(f"{description}: written by a newer rdvae; upgrade rdvae")
    if recorded.get("schema") == 1:  # as it was written then
        asked |= {"train_sigma2": next(iter(asked["train_sigma2"]), None)}
    asked.pop("schema")  # older files can be read
    recorded = {**BEFORE_THE_FIELD, **recorded}
    asked = {**BEFORE_THE_FIELD, **asked}
    differing = [
        f"{key} {_short(recorded.get(key))}, not {_short(value)}"
        for key, value in asked.items()
        if json.dumps(recorded.get(key)) != json.dumps(value)  # in which 1, 1.0 and true differ
    ]
    if differing:
        more = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise BadInput(
            f"{plan.place} holds another sweep ({'; '.join(differing[:3])}{more}); use a "
            "separate --out for each sweep; plot-rd draws all sweeps below a folder"
        )


def _flat(description: Mapping[str, Any]) -> dict[str, Any]:
    """A description without nesting, and without the list of runs, which follows from the rest."""
    nested = ("settings", "data")
    flat = {key: value for key, value in description.items() if key not in (*nested, "run_ids")}
    for name in nested:
        part = description.get(name)
        flat |= part if isinstance(part, dict) else {name: part}
    return flat


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
