"""`rdvae sweep` by the wall clock, against conventional training and against the bare step.

    python benchmarks/sweep_cpu.py --data-dir DIR [--images 15000] [--epochs 2] [--betas 0.1,1]
        [--objective optimal] [--runs 5] [--bare-seconds 30] [--bf16]

A run is three measurements, the first two in turns first and second:

- `rdvae sweep --dataset mnist --protocol paper`: the whole command, from its start to its last
  file, with the trainings, their evaluation on both splits, and all that it writes;
- `conventional.py`: the whole command, on the same images, betas and epochs, with an evaluation of
  the test images and without checkpoints;
- the bare step: one process a core at the same time, each doing nothing but optimiser steps of the
  same network on images kept in memory (channels_last, fused AdamW, one thread; no data, warp or
  evaluation), measured after a warm-up.

Prints for each run, and at the end as median (min..max): images trained per second of the sweep
over those of conventional training, and over those of the bare step; and then rate and mse on the
test images of the last run, side by side. `--bf16` also measures `--precision bf16`, whose bare
step runs under autocast to bfloat16. The images are the first N of MNIST, and of its test images
the first N/6.
"""

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from measure import RDVAE, seconds_of, spread

from rdkit_vae.system.processes import keep_freed_memory

BATCH = 512  # of protocol paper
_TEST_SHARE = 6  # MNIST's: six training images to a test image
_WARM_UP = 2  # steps


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the sweep and conventional training are both given.

    Attributes:
        data: folder of the images.
        images: training images, N.
        epochs: of every trial.
        betas, objective: a trial for each beta.
        bare_seconds: how long the bare step is measured.
    """

    data: Path
    images: int
    epochs: int
    betas: str
    objective: str
    bare_seconds: float

    @property
    def trained(self) -> int:
        """Images that all trainings take together."""
        whole = self.images // BATCH * BATCH
        return whole * self.epochs * len(self.betas.split(","))


@dataclass(frozen=True, kw_only=True)
class Run:
    """Images per second of one run, and what the test images say: rate and mse by beta."""

    sweep: float
    conventional: float
    bare: float
    sweep_rows: pd.DataFrame
    conventional_rows: pd.DataFrame


def write_images(source: str, folder: Path, images: int) -> None:
    """Writes the first images of MNIST as IDX files: N for training, N/6 for the test."""
    from rdkit_vae import load_dataset
    from rdkit_vae.datasets import IDX_IMAGES

    digits = load_dataset("mnist", data_dir=source)
    if not BATCH <= images <= len(digits.train):
        raise SystemExit(f"--images must be {BATCH} to {len(digits.train)}, got {images}")
    for split, count in (("train", images), ("test", max(1, images // _TEST_SHARE))):
        pixels = digits.split(split)[:count]
        header = b"".join(n.to_bytes(4, "big") for n in (0x803, len(pixels), *pixels.shape[2:]))
        with gzip.open(folder / f"{IDX_IMAGES[split]}.gz", "wb") as file:
            file.write(header + pixels.tobytes())


def sweep(work: Work, precision: str) -> tuple[float, pd.DataFrame]:
    """Images per second of the whole command, and its rows of the test images under `optimal`."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/sweep"
        command = [
            *(*RDVAE, "sweep", "--dataset", "mnist", "--protocol", "paper", "--device", "cpu"),
            *("--data-dir", str(work.data), "--epochs", str(work.epochs), "--betas", work.betas),
            *("--objectives", work.objective, "--checkpoints", "last", "--out", out),
        ]
        if precision != "float32":
            command += ["--precision", precision]
        seconds = seconds_of(command)
        rows = pd.read_parquet(f"{out}/results")
    rows = rows[(rows["split"] == "test") & (rows["sigma"] == "optimal")]
    if set(rows["status"]) != {"ok"}:
        raise SystemExit(f"trials of the sweep failed: {' '.join(command)}")
    return work.trained / seconds, rows[["beta", "rate", "mse"]].sort_values("beta")


def conventional(work: Work) -> tuple[float, pd.DataFrame]:
    """Images per second of the whole command, and its evaluation of the test images."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/found.json"
        program = str(Path(__file__).with_name("conventional.py"))
        command = [
            *(sys.executable, program, "--data-dir", str(work.data), "--json", out),
            *("--epochs", str(work.epochs), "--betas", work.betas, "--objective", work.objective),
        ]
        seconds = seconds_of(command)
        rows = pd.DataFrame(json.loads(Path(out).read_text("utf-8")))
    return work.trained / seconds, rows[["beta", "rate", "mse"]].sort_values("beta")


def bare(work: Work, precision: str) -> float:
    """Images per second of the bare step, all cores together."""
    command = [
        *(sys.executable, __file__, "--measure-bare", str(work.bare_seconds)),
        *("--precision", precision, "--objective", work.objective),
    ]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in os.sched_getaffinity(0)
    ]
    for process in processes:  # all are warm before any is measured
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in processes)


def measure_bare(seconds: float, precision: str, objective: str) -> None:
    """Takes bare steps in this process from the word go; prints images per second."""
    keep_freed_memory()  # as a worker of the sweep does
    import torch
    from conventional import LATENTS, SHAPE, losses

    from rdkit_vae.models.conv import ConvVAE

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = ConvVAE(SHAPE, LATENTS).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-5, fused=True)
    x = torch.rand(BATCH, *SHAPE).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext():
            loss = losses(model, x, objective, 1.0)[0].mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    for _ in range(_WARM_UP):
        step()
    print("warm", flush=True)
    sys.stdin.readline()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        step()
        steps += 1
    print(steps * BATCH / (time.perf_counter() - start))


def measure(work: Work, precisions: list[str], number: int) -> dict[str, Run]:
    """One run: each precision of the sweep, and conventional training once, in turns first."""
    first = number % 2 == 1
    before = conventional(work) if first else None
    sweeps = {precision: sweep(work, precision) for precision in precisions}
    speed, rows = before or conventional(work)
    return {
        precision: Run(
            sweep=swept,
            conventional=speed,
            bare=bare(work, precision),
            sweep_rows=sweep_rows,
            conventional_rows=rows,
        )
        for precision, (swept, sweep_rows) in sweeps.items()
    }


def report(runs: list[dict[str, Run]]) -> None:
    """Ratios of all runs, and the curve of the last."""
    for precision in runs[0]:
        of = [run[precision] for run in runs]
        print(f"\n{precision}, {len(of)} runs: median (min..max)")
        print(f"  sweep / conventional  {spread([r.sweep / r.conventional for r in of])}")
        print(f"  sweep / bare step     {spread([r.sweep / r.bare for r in of])}")
        print(f"  images per second: sweep {spread([r.sweep for r in of], 0)}")
        print(f"    conventional {spread([r.conventional for r in of], 0)}")
        print(f"    bare step, all cores {spread([r.bare for r in of], 0)}")
        both = of[-1].sweep_rows.merge(
            of[-1].conventional_rows, on="beta", suffixes=(" sweep", " conventional")
        )
        names = ["beta", *(f"{x} {y}" for x in ("rate", "mse") for y in ("sweep", "conventional"))]
        print(both[names].to_string(index=False, float_format="{:.4g}".format))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data-dir", help="folder of MNIST's IDX files")
    parser.add_argument("--images", type=int, default=15_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--betas", default="0.1,1", help="a trial each; one a core is fair")
    parser.add_argument("--objective", choices=("optimal", "constant"), default="optimal")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--bare-seconds", type=float, default=30.0)
    parser.add_argument("--bf16", action="store_true", help="measure --precision bf16 too")
    parser.add_argument("--measure-bare", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure_bare is not None:
        measure_bare(args.measure_bare, args.precision, args.objective)
        return
    if args.data_dir is None:
        parser.error("--data-dir is needed")
    with tempfile.TemporaryDirectory() as folder:
        write_images(args.data_dir, Path(folder), args.images)
        work = Work(
            data=Path(folder),
            images=args.images,
            epochs=args.epochs,
            betas=args.betas,
            objective=args.objective,
            bare_seconds=args.bare_seconds,
        )
        runs = []
        for number in range(args.runs):
            runs.append(measure(work, ["float32", "bf16"] if args.bf16 else ["float32"], number))
            for precision, run in runs[-1].items():
                print(
                    f"run {number + 1}, {precision}: sweep/conventional "
                    f"{run.sweep / run.conventional:.2f}, sweep/bare {run.sweep / run.bare:.2f}; "
                    f"images per second: sweep {run.sweep:,.0f}, "
                    f"conventional {run.conventional:,.0f}, bare {run.bare:,.0f}",
                    flush=True,
                )
    report(runs)


if __name__ == "__main__":
    main()
