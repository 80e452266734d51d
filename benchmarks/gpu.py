"""Every figure of a GPU in one command of less than nine minutes, by the clock of that machine.

    python benchmarks/gpu.py [--data-dir DIR] [--device cuda] [--seconds 530] [--out DIR] [--quick]

In this order, each part by itself, so that one that fails leaves the others:

- `ceilings`: products of matrices (float32, TF32, bfloat16) and copies, as fast as they go here;
- `exact`: trials in a group, and captured as a graph, against the same trials alone;
- `packed`: images per second of the paper's network and of a small dense one by group size and
  precision, over what one trial alone does; and over the floor: the network's floating-point
  operations, and the least bytes that it must move, at the ceilings;
- `grouped`: one convolution of all trials by groups, against one after the other;
- `conventional`: the yardstick on this GPU, paired with packed training, five times each;
- `table`: `rdvae sweep` of the paper's MNIST Table 1, whole (2 objectives x 5 betas x 5 seeds x 50
  epochs), by the wall clock, for as long as there is time left; then its table beside the paper's.
  Cut short, it says how long the whole would have taken at that pace.

Without --data-dir (or $RDVAE_DATA) images are random, and there is no `table`. On `--device cpu`
the program can be tried (`--quick`), not measured.
"""

import argparse
import gc
import json
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from conventional import train_one
from measure import RDVAE, spread
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rdkit_vae import Trial, load_dataset, make_trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.models.precision import products
from rdkit_vae.training.networks import LossTerms
from rdkit_vae.training.state import Training, build_model
from rdkit_vae.training.steps import Pack

_RUNS = 5
_BETAS = "0.01,0.1,1,10,100"
_EPOCHS = 50
_MOVING = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)


class Bench:
    """What the parts share: the device, the images, and how long each measurement may take."""

    def __init__(self, device: str, data_dir: str | None, *, quick: bool) -> None:
        self.device, self.data_dir, self.quick = torch.device(device), data_dir, quick
        self.seconds = 0.2 if quick else 1.5
        self.images = _images(data_dir, 192 if quick else 24 * 512)
        self.ceiling: dict[str, float] = {}

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def per_second(self, work: Callable[[], float]) -> float:
        """Units of `work`, which returns how many it did, per second; after a warm-up."""
        work()
        self.wait()
        start, done = time.perf_counter(), 0.0
        while time.perf_counter() < start + self.seconds:
            done += work()
            self.wait()
        return done / (time.perf_counter() - start)

    def trials(self, architecture: str, precision: str, count: int) -> list[Trial]:
        """Trials of the paper's protocol, half of each objective."""
        names = ("constant", "optimal")
        return [
            make_trial(
                self.images.name,
                architecture=architecture,
                latents=32,
                objective=names[number % 2],
                beta=10.0 ** (number % 5 - 2),
                seed=number // 10,
                protocol="paper",
                epochs=_EPOCHS,
                batch_size=64 if self.quick else 512,
                precision=precision,
                checkpoints="last",
            )
            for number in range(count)
        ]

    def speed(self, architecture: str, precision: str, count: int) -> float:
        """Images per second that a pack of so many trials trains on."""
        trials = self.trials(architecture, precision, count)
        pack = Pack([Training(trial, self.images, str(self.device)) for trial in trials])
        steps = pack.members[0].steps_per_epoch

        def epoch() -> float:
            pack.run_epoch()
            return steps * trials[0].batch_size * count

        return self.per_second(epoch)


def _images(data_dir: str | None, count: int) -> Images:
    if data_dir:
        digits = load_dataset("mnist", data_dir=data_dir)
        return replace(
            digits, train=digits.train[:count], test=digits.test[: count // 6], sha256=""
        )
    pixels = np.random.default_rng(0).integers(0, 256, (count + 1000, 1, 28, 28), np.uint8)
    # Under this name the protocol warps them, as it does the real ones.
    return Images(name="mnist", train=pixels[1000:], test=pixels[:1000], split_rule="made up")


def ceilings(bench: Bench) -> None:
    """Floating-point operations and bytes per second."""
    side = 512 if bench.quick else 8192
    for precision in ("float32", "tf32", "bf16"):
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = (torch.randn((side, side), device=bench.device, dtype=kind) for _ in range(2))

        def product(a: torch.Tensor = a, b: torch.Tensor = b) -> float:
            torch.mm(a, b)
            return 2.0 * side**3

        with products("tf32" if precision == "tf32" else "float32", bench.device):
            bench.ceiling[precision] = bench.per_second(product)
        print(
            f"  product of matrices, {precision:8} {bench.ceiling[precision] / 1e12:8.1f} TFLOP/s"
        )
    source = torch.empty(2**22 if bench.quick else 2**30, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)

    def copy() -> float:
        target.copy_(source)
        return 2.0 * source.nbytes

    bench.ceiling["bytes"] = bench.per_second(copy)
    print(f"  copy, read and write          {bench.ceiling['bytes'] / 1e12:8.2f} TB/s")


def floor(bench: Bench, precision: str) -> float:
    """Images per second of the paper's network if nothing but its work took time.

    Operations are those of products and convolutions, forward and backward. Bytes are those of the
    outputs of products, convolutions and BatchNorm (with which an activation goes): written and
    read once in the forward pass; it and its gradient read, and the gradient written, in the
    backward pass.
    """
    (trial,) = bench.trials("conv", precision, 1)
    network = LossTerms(build_model(trial, bench.images.shape))
    x, noise = torch.rand((8, *bench.images.shape)), torch.randn((8, trial.latents))
    values = 0

    def count(module: nn.Module, given: object, out: object) -> None:
        nonlocal values
        if isinstance(out, torch.Tensor) and isinstance(module, _MOVING):
            values += out.numel()

    for module in network.modules():
        module.register_forward_hook(count)
    with FlopCounterMode(display=False) as counter:
        sse, kl, *_ = network(x, noise)
        (sse + kl).sum().backward()
    operations = counter.get_total_flops() / len(x)
    width = 2 if precision == "bf16" else 4
    moved = 5 * values / len(x) * width
    by_work, by_bytes = bench.ceiling[precision] / operations, bench.ceiling["bytes"] / moved
    print(
        f"  {precision}: {operations / 1e6:.0f} MFLOP and {moved / 1e6:.2f} MB an image, at most "
        f"{by_work:,.0f} and {by_bytes:,.0f} images per second"
    )
    return min(by_work, by_bytes)


def exact(bench: Bench) -> None:
    """The largest relative distance of weights: of a trial in a group and graph from one alone."""
    for architecture in ("mlp", "conv"):
        trials = bench.trials(architecture, "float32", 4)
        together = [Training(trial, bench.images, str(bench.device)) for trial in trials]
        steps = 2 if bench.quick else 8
        _take(Pack(together), steps)
        distances = []
        for trial, found in zip(trials, together, strict=True):
            alone = Training(trial, bench.images, str(bench.device))
            with patch("rdkit_vae.training.steps._UNCAPTURED", steps):  # as it is, no graph
                _take(Pack([alone]), steps)
            one, other = (
                torch.cat([w.detach().flatten() for w in training.model.parameters()])
                for training in (found, alone)
            )
            distances.append(((one - other).norm() / other.norm()).item())
        far = max(distances)
        print(f"  {architecture}: after {steps} steps, in a group of 4 from alone {far:.1e}")


def _take(pack: Pack, steps: int) -> None:
    asked = iter(range(steps - 1))
    pack.run_epoch(stop=lambda: next(asked, None) is None)


def packed(bench: Bench) -> None:
    """Speed by group size and precision."""
    sizes = {"conv": (1, 4) if bench.quick else (1, 10, 50), "mlp": (1, 8, 64)}
    kinds = ("float32", "bf16") if bench.device.type == "cpu" else ("float32", "tf32", "bf16")
    floors = {precision: floor(bench, precision) for precision in kinds}
    for architecture, counts in sizes.items():
        for precision in kinds:
            speeds = [bench.speed(architecture, precision, count) for count in counts]
            of_floor = [
                f", {speed / floors[precision]:.2f} of the floor" if architecture == "conv" else ""
                for speed in speeds
            ]
            for count, speed, share in zip(counts, speeds, of_floor, strict=True):
                print(
                    f"  {architecture}, {precision:8} {count:3} trials: {speed:11,.0f} images per "
                    f"second, {speed / speeds[0]:5.2f} times one{share}"
                )


def grouped(bench: Bench) -> None:
    """A 3x3 convolution of 32 channels of 14x14, forward and backward, of many trials."""
    count, batch = (4, 16) if bench.quick else (16, 512)
    kind = torch.float32 if bench.device.type == "cpu" else torch.bfloat16
    wide = {"device": bench.device, "dtype": kind, "requires_grad": True}
    x = torch.randn((batch, count * 32, 14, 14), **wide)
    w = torch.randn((count * 32, 32, 3, 3), **wide)
    xs = [
        torch.randn((batch, 32, 14, 14), **wide).to(memory_format=torch.channels_last)
        for _ in range(count)
    ]
    ws = [torch.randn((32, 32, 3, 3), **wide) for _ in range(count)]

    def by_groups(image: torch.Tensor) -> float:
        _gradients(F.conv2d(image, w, padding=1, groups=count), image, w)
        return 1.0

    def in_turn() -> float:
        for image, weight in zip(xs, ws, strict=True):
            _gradients(F.conv2d(image, weight, padding=1), image, weight)
        return 1.0

    turn = bench.per_second(in_turn)
    held = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    for name, image in (("NCHW", x), ("channels_last", held)):
        speed = bench.per_second(lambda image=image: by_groups(image))
        print(f"  {count} trials by groups, {name}: {speed / turn:.2f} times the speed of in turn")


def _gradients(out: torch.Tensor, *of: torch.Tensor) -> None:
    torch.autograd.grad(out.sum(), of)


def conventional(bench: Bench) -> None:
    """Paired: the yardstick for some steps, then packed training, and the other way round."""
    steps, count = (2, 4) if bench.quick else (100, 50)
    train, test = bench.images.train, bench.images.test[:512]
    if bench.quick:
        train = np.resize(train, (1024, *train.shape[1:]))
    epochs = -(-steps // (len(train) // 512))
    precisions = ["float32"] if bench.device.type == "cpu" else ["tf32", "bf16"]
    ratios: dict[str, list[float]] = {precision: [] for precision in precisions}
    usual: list[float] = []
    for number in range(1 if bench.quick else _RUNS):
        if number % 2:
            speeds = {p: bench.speed("conv", p, count) for p in precisions}
        torch.use_deterministic_algorithms(False)  # as it is usually written
        found = train_one("optimal", 1.0, train, test, epochs, str(bench.device), max_steps=steps)
        torch.use_deterministic_algorithms(True)
        usual.append(found["images"] / found["seconds"])
        if not number % 2:
            speeds = {p: bench.speed("conv", p, count) for p in precisions}
        for precision in precisions:
            ratios[precision].append(speeds[precision] / usual[-1])
    print(f"  conventional, {steps} steps with its start: {spread(usual, 0)} images per second")
    for precision, values in ratios.items():
        print(f"  packed x {count}, {precision} / conventional: {spread(values, 1)}")


def table(bench: Bench, seconds: float, out: Path) -> None:
    """The sweep of Table 1 for as long as there is time; its table, if it came to its end."""
    command = [
        *(*RDVAE, "sweep", "--dataset", "mnist", "--protocol", "paper", "--betas", _BETAS),
        *("--objectives", "constant,optimal", "--seeds", "5", "--checkpoints", "last"),
        *("--precision", "bf16", "--device", str(bench.device), "--out", str(out)),
        *("--data-dir", str(bench.data_dir)),
    ]
    gc.collect()  # the GPU is for the sweep now
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
    start = time.perf_counter()
    process = subprocess.Popen(command)
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        code = process.wait()
    took = time.perf_counter() - start
    print(f"  exit code {code} after {took:.0f} s: {' '.join(command)}")
    if code == 0:
        for sigma in ("optimal", "shared"):
            subprocess.run([*RDVAE, "table", str(out), "--sigma", sigma, "--format", "markdown"])
        return
    epochs = _epochs_in(out / "log.jsonl")
    if epochs:
        share = epochs / (50 * _EPOCHS)
        print(f"  {share:.0%} of the epochs; the whole would take about {took / share:.0f} s")


def _epochs_in(log: Path) -> int:
    lines = log.read_text("utf-8").splitlines() if log.exists() else []
    return sum(json.loads(line)["event"] == "epoch" for line in lines)


def _device_name(device: torch.device) -> str:
    if device.type == "cpu":
        return "cpu"
    free, total = torch.cuda.mem_get_info(device)
    return f"{torch.cuda.get_device_name(device)}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data-dir", default=os.environ.get("RDVAE_DATA") or None)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=530.0, help="of the whole program")
    parser.add_argument("--out", type=Path, default=Path("runs/table-1"), help="of `table`")
    parser.add_argument("--quick", action="store_true", help="to see that it runs")
    args = parser.parse_args(arguments)
    start = time.perf_counter()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    bench = Bench(args.device, args.data_dir, quick=args.quick)
    print(f"{_device_name(bench.device)}; torch {torch.__version__}; {os.cpu_count()} CPU cores")
    for part in (ceilings, exact, packed, grouped, conventional):
        print(f"\n{part.__name__} ({time.perf_counter() - start:.0f} s)", flush=True)
        try:
            part(bench)
        except Exception:  # the other parts are worth having
            traceback.print_exc()
    left = args.seconds - (time.perf_counter() - start)
    if args.data_dir and not args.quick and left > 30:
        print(f"\ntable ({time.perf_counter() - start:.0f} s)", flush=True)
        table(bench, left - 20, args.out)
    print(f"\n{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
