"""Memory of workers that train on images larger than the memory they may take.

    python benchmarks/stream.py [--images 202599] [--seconds 60]

Makes a data set of CelebA's size and form as `rdvae` decodes it (uint8, 3x64x64, 2.5 GB; a tenth
is test) in a temporary folder, of cheap made-up content. Then runs two sweeps of the paper's
network on it, with the batches that CelebA has by default, two trials on two processes:

- `all images`: interrupted so many seconds after both trainings have started, after the step that
  each then takes;
- `few images`: the first 1,024 and 256, to the end, so that the evaluation is in it.

Prints, of each worker, the peak of its anonymous memory (RssAnon of /proc/PID/status, looked at
every 0.05 s: what is not backed by a file, so without the page cache), which should be below
1.5 GB, and the peak resident set (VmHWM) beside; and how each trial ended. `TMPDIR` says where the
data goes.
"""

import argparse
import hashlib
import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import RDVAE, Memory

TARGET = 1500.0  # MB of anonymous memory of a worker
_SHAPE = (3, 64, 64)
_CACHE = "rdvae-celeba-148-64"  # the name under which rdvae keeps CelebA decoded
_IN_TEST = 10  # one image of so many
_FEW = (1024, 256)  # train and test images of the sweep that comes to its end
_CHUNK, _TRIALS, _EVERY = 8192, 2, 0.05


def make(folder: Path, n_train: int, n_test: int) -> None:
    """Lays out a folder that `rdvae --dataset celeba` takes for decoded already."""
    names = (f"{i:06d}.jpg {0 if i < n_train else 2}\n" for i in range(n_train + n_test))
    partition = "".join(names)
    (folder / "img_align_celeba").mkdir(parents=True)
    (folder / "list_eval_partition.txt").write_text(partition)
    digest = hashlib.sha256(partition.encode()).hexdigest()
    shape = (n_train + n_test, *_SHAPE)
    out = np.lib.format.open_memmap(folder / f"{_CACHE}.npy", "w+", np.uint8, shape)
    chunk = np.random.default_rng(0).integers(0, 256, (_CHUNK, *_SHAPE), np.uint8)
    for start in range(0, len(out), _CHUNK):
        part = out[start : start + _CHUNK]
        part[:] = chunk[: len(part)]
    out.flush()
    facts = {"partition_sha256": digest, "n_train": n_train, "n_test": n_test, "sha256": digest}
    (folder / f"{_CACHE}.json").write_text(json.dumps(facts))


def logged(sweep: Path, event: str) -> list[dict[str, Any]]:
    """What the log of a sweep says of the trials that have come to an event."""
    try:
        whole = (sweep / "log.jsonl").read_text("utf-8").split("\n")[:-1]  # the last is under way
    except OSError:
        return []
    return [entry for entry in map(json.loads, whole) if entry["event"] == event]


def after_start(sweep: Path, seconds: float) -> Callable[[], bool]:
    """Whether so many seconds have passed since all trainings of a sweep were seen to start."""
    seen: list[float] = []

    def passed() -> bool:
        if not seen and len(logged(sweep, "started")) == _TRIALS:
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() > seen[0] + seconds

    return passed


def run(data: Path, sweep: Path, interrupt: Callable[[], bool]) -> tuple[Memory, Memory]:
    """Trains two trials in a sweep, until `interrupt`; the memory: anonymous, and resident."""
    command = [
        *(*RDVAE, "sweep", "--dataset", "celeba", "--data-dir", str(data), "--betas", "0.1,1"),
        *("--objectives", "optimal", "--epochs", "1", "--checkpoints", "last", "--device", "cpu"),
        *("--jobs", str(_TRIALS), "--out", str(sweep)),
    ]
    interrupted, said = False, sweep.with_suffix(".txt")
    with (
        said.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process,
    ):
        anonymous, resident = Memory(process.pid, "RssAnon"), Memory(process.pid, "VmHWM")
        while process.poll() is None:
            anonymous.sample()
            resident.sample()
            if not interrupted and interrupt():
                process.send_signal(signal.SIGINT)
                interrupted = True
            time.sleep(_EVERY)
    if process.returncode != (130 if interrupted else 0):
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}\n{said.read_text()}")
    return anonymous, resident


def report(name: str, sweep: Path, memory: tuple[Memory, Memory]) -> None:
    """Prints the peaks of the workers; a process that stayed small beside them is none."""
    anonymous, resident = (of.peaks for of in memory)
    root = memory[0].root
    workers = sorted(anonymous.keys() - {root}, key=lambda pid: -anonymous[pid])[:_TRIALS]
    over = "over" if anonymous[workers[0]] > TARGET else "below"
    print(
        f"{name}: {anonymous[workers[0]] / 1000:.2f} GB, {over} the {TARGET / 1000:.1f} GB aimed at"
    )
    for what, pid in (*(("worker", pid) for pid in workers), ("parent", root)):
        print(f"  {what}: {anonymous[pid]:,.0f} MB anonymous, {resident[pid]:,.0f} MB resident")
    for ended in logged(sweep, "ended"):
        print(f"  {ended.get('status')}: {ended.get('summary')}")


def main() -> None:
    """Makes the data, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=202_599)
    parser.add_argument("--seconds", type=float, default=60.0, help="of training on all images")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        n_test = args.images // _IN_TEST
        make(folder / "all", args.images - n_test, n_test)
        size = (folder / "all" / f"{_CACHE}.npy").stat().st_size / 1e6
        print(f"{args.images:,} images, {size:,.0f} MB", flush=True)
        interrupt = after_start(folder / "a", args.seconds)
        report("all images", folder / "a", run(folder / "all", folder / "a", interrupt))
        make(folder / "few", *_FEW)
        memory = run(folder / "few", folder / "b", lambda: False)
        report("few images, to the end", folder / "b", memory)


if __name__ == "__main__":
    main()
