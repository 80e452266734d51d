"""What each trial costs beyond its training, on this machine and on Ray, and what objects cost.

    python benchmarks/cluster.py [--trials 10000] [--quick]

- Driver: trials that do nothing, through the schedule, the log and the forecast, with an executor
  that answers at once, and with actors of a Ray cluster on this machine: milliseconds per trial.
- Start-up: seconds until the first worker of each engine has begun its first trial.
- Store: result objects under file://, as single ones and merged into parts: seconds to copy them
  into an empty cache and to load all rows.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rdkit_vae import make_trial
from rdkit_vae.config.trial import Trial
from rdkit_vae.store.evaluations import failed_rows
from rdkit_vae.store.mirror import Mirror
from rdkit_vae.store.parts import TRIALS, merge
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.results import write_results
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.executors import Cluster, on_ray
from rdkit_vae.sweeps.forecast import Forecast
from rdkit_vae.sweeps.log import Log
from rdkit_vae.sweeps.messages import (
    Assignment,
    Event,
    EventKind,
    Free,
    Message,
    WorkerSettings,
)
from rdkit_vae.sweeps.schedule import Schedule
from rdkit_vae.system.processes import Interrupts
from rdvae_analysis.load import scan


def messages(assignment: Assignment) -> Iterator[Message]:
    """What a worker says about trials that do nothing."""
    for values, _ in assignment.before:
        run_id = Trial.from_dict(values).run_id
        yield Event(kind=EventKind.STARTED, run_id=run_id)
        yield Event(kind=EventKind.ENDED, run_id=run_id, status=Status.OK, summary="nothing")
    yield Free()


class AtOnce:
    """An executor that answers at once, in this process."""

    slots = 2

    def __init__(self) -> None:
        self._said: list[tuple[int, Message]] = []

    def submit(self, number: int, assignment: Assignment) -> None:
        self._said += [(number, message) for message in messages(assignment)]

    def receive(self, interrupt: object, timeout: float | None) -> Iterator[tuple[int, Message]]:
        said, self._said = self._said, []
        return iter(said)

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


class Idle:
    """An actor that answers at once."""

    def __init__(self, *about: object) -> None:
        pass

    def carry_out(self, assignment: Assignment) -> Iterator[Message]:
        yield from messages(assignment)


def driven(trials: list[Trial], executor: Any, folder: Path) -> tuple[float, float]:
    """Seconds until the first trial has started, and seconds from there to the last one's end."""
    start, first = time.perf_counter(), 0.0
    by_id = {trial.run_id: trial for trial in trials}
    forecast = Forecast(trials, executor.slots)
    schedule = Schedule(dict.fromkeys(trials, Status.LEFT), executor, sweep=None, pack_size=1)
    with Log(folder / "log.jsonl") as log, Interrupts() as interrupts:
        for event in schedule.run(interrupts):
            first = first or time.perf_counter()
            log.note_event(event, by_id)
            forecast.take(event, time.monotonic())
    return first - start, time.perf_counter() - first


def objects(trials: list[Trial], folder: Path) -> Iterator[str]:
    """Lines about the store."""
    mirror = Mirror(f"file://{folder}/objects")
    local = Sweep(folder / "made")
    start = time.perf_counter()
    for trial in trials:
        rows = [
            {**row, "status": "ok", "reason": "", "elbo": 0.0, "rate": 0.0, "distortion": 0.0}
            for row in failed_rows(trial, epoch=1, step=1, status=Status.OK, reason="")
        ]
        write_results(local.results(trial.run_id), rows, {"trial": trial.to_dict()})
        data = local.results(trial.run_id).read_bytes()
        mirror.store.put(f"results/{trial.run_id}.parquet", data)
    yield f"written one by one: {time.perf_counter() - start:.1f} s"
    for what in ("single", "merged"):
        start = time.perf_counter()
        mirror.pull()
        copied = time.perf_counter()
        frame, _ = scan(mirror.folder)
        loaded = time.perf_counter()
        count = len(mirror.store.marks("results"))
        yield (
            f"{what}: {count:,} objects, {len(frame):,} rows; copied in {copied - start:.1f} s, "
            f"loaded in {loaded - copied:.1f} s"
        )
        if what == "single":
            start = time.perf_counter()
            merge(mirror, min(TRIALS, len(trials) // 2))
            yield f"merging them took {time.perf_counter() - start:.1f} s"
            for path in mirror.folder.rglob("*.parquet"):
                path.unlink()  # an empty cache


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="200 trials")
    args = parser.parse_args()
    count = 200 if args.quick else args.trials
    trials = [make_trial(beta=1.0, seed=seed, epochs=1) for seed in range(count)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, seconds = driven(trials, AtOnce(), folder)
        print(f"{count:,} trials that do nothing")
        print(f"driver alone: {1000 * seconds / count:.2f} ms per trial", flush=True)
        cluster = Cluster(address=None, resources={"cpu": 1.0})
        start = time.perf_counter()
        with on_ray.connected(cluster) as slots:
            began = time.perf_counter() - start
            on_ray._Worker = Idle  # type: ignore[misc, assignment]
            settings = WorkerSettings(jobs=slots, images={}, sweep=Sweep(folder), device="cpu")
            executor = on_ray.OnRay(cluster, settings, None)  # type: ignore[arg-type]
            first, on_it = driven(trials, executor, folder)
        print(f"Ray: {1000 * on_it / count:.2f} ms per trial, {on_it / seconds:.0f} times as much")
        print(f"Ray: {began:.1f} s to start a cluster, {first:.1f} s more to the first trial")
        for line in objects(trials, folder):
            print(line, flush=True)


if __name__ == "__main__":
    main()
