"""`rdvae sweep`."""

import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.cli import terminal
from rdkit_vae.cli.options import check_extra, data_dir_option, positive_option
from rdkit_vae.cli.sweep_run import Run, estimate, nearest, train
from rdkit_vae.config.grid import PAPER_BATCH, PAPER_EPOCHS, grid, pairs
from rdkit_vae.config.parsing import merge_repeats, parse_betas, parse_seeds
from rdkit_vae.config.trial import DEFAULT_PRECISION, PRECISIONS, PROTOCOLS, TRAIN_IMAGES, bind
from rdkit_vae.datasets import DATASETS
from rdkit_vae.models import ARCHITECTURES
from rdkit_vae.objectives.losses import OBJECTIVES
from rdkit_vae.text import one_of

if TYPE_CHECKING:
    from rdkit_vae.datasets.images import Images

DEFAULT_OBJECTIVES = "constant,optimal"


def _count(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    if not re.fullmatch(r"[1-9]\d{0,3}", value, re.ASCII):
        what = "processes" if param.name == "jobs" else "trials"
        raise click.BadParameter(f"must be 'auto' or a number of {what}, got {value!r}")
    return int(value)


def _by_dataset(name: str, paper: int | None = None) -> str:
    """Help that lists a setting's defaults: the commonest one, and where it is another."""
    values = {key.partition(":")[0]: getattr(source, name) for key, source in DATASETS.items()}
    ((common, _),) = Counter(values.values()).most_common(1)
    others: dict[int, list[str]] = {}
    for dataset, value in values.items():
        if value != common:
            others.setdefault(value, []).append(dataset)
    parts = [str(common), *(f"{', '.join(names)}: {value}" for value, names in others.items())]
    parts += [f"protocol paper: {paper}"] if paper else []
    return f"[default: {'; '.join(parts)}]"


@click.command("sweep")
@click.option(
    "--betas",
    metavar="BETAS",
    default="1e-4..1e3",
    show_default=True,
    help="A..B (a point a decade), A..B:N (N points, log-spaced), or a list 0.1,1,10.",
)
@click.option(
    "--dataset",
    metavar="NAME",
    default="digits",
    show_default=True,
    help="As `rdvae datasets` lists them; also folder:PATH and npz:PATH.",
)
@data_dir_option
@click.option("--image-size", type=click.IntRange(4, 1024), help="Resize images of folder:PATH.")
@click.option(
    "--objectives",
    metavar="NAMES",
    help="; ".join(f"{name}: {entry.about}" for name, entry in OBJECTIVES.items())
    + ".  [default: constant,optimal]",
)
@click.option(
    "--pairs",
    "paired",
    is_flag=True,
    help="Lines of constant beta x C instead: each beta with C, beta/10 with 10 C, 10 beta with "
    "C/10, all of objective constant; for rdvae consistency.",
)
@click.option(
    "--train-sigma2",
    metavar="C",
    callback=positive_option,
    help="Variance C of objective constant, in squared pixels of [0,1].  [default: 1/2]",
)
@click.option(
    "--sigma2-floor",
    metavar="F",
    callback=positive_option,
    help="Least value of a fitted variance.  [default: 1e-6]",
)
@click.option(
    "--seeds",
    default="1",
    show_default=True,
    help="A number of seeds (5 is 0 to 4) or a list 0,3,7 ('7,' is seed 7 alone).",
)
@click.option(
    "--architecture",
    metavar="NAME",
    default="conv",
    show_default=True,
    help="; ".join(f"{name}: {entry.about}" for name, entry in ARCHITECTURES.items()),
)
@click.option("--latents", type=click.IntRange(1, 65536), help=_by_dataset("latents"))
@click.option(
    "--protocol",
    metavar="NAME",
    default="clean",
    show_default=True,
    help="; ".join(f"{name}: {entry.about}" for name, entry in PROTOCOLS.items()),
)
@click.option("--epochs", type=click.IntRange(1, 10**6), help=_by_dataset("epochs", PAPER_EPOCHS))
@click.option(
    "--batch-size", type=click.IntRange(1, 10**6), help=_by_dataset("batch_size", PAPER_BATCH)
)
@click.option("--lr", metavar="X", callback=positive_option, help="Of AdamW.  [default: 1e-3]")
@click.option(
    "--checkpoints",
    metavar="WHEN",
    default="log",
    show_default=True,
    help="After epochs 1, 2, 4, ... (log), the last only (last), or every K (a number).",
)
@click.option(
    "--draws",
    type=click.IntRange(1, 127),
    help="Posterior draws per image in evaluation.  [default: 8; paper: 1]",
)
@click.option(
    "--train-images",
    type=click.Choice(TRAIN_IMAGES),
    default="matched",
    show_default=True,
    help="Evaluate as many training images as there are test images, or all.",
)
@click.option("--jobs", default="auto", show_default=True, callback=_count, help="Processes.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
@click.option(
    "--pack",
    default="auto",
    show_default=True,
    callback=_count,
    help="Trials that a process trains at once, in lockstep; auto: small dense networks on a CPU, "
    "all that fit on a GPU. Changes no number beyond rounding.",
)
@click.option(
    "--precision",
    metavar="NAME",
    default=DEFAULT_PRECISION,
    show_default=True,
    help="Of training; evaluation is float32. "
    + "; ".join(f"{name}: {about}" for name, about in PRECISIONS.items())
    + ".",
)
@click.option("--out", metavar="DIR", help="Sweep folder.  [default: runs/DATASET-ARCHITECTURE]")
@click.option(
    "--join",
    is_flag=True,
    help="Share the trials with a sweep at work in the folder; "
    "--pack says how many each process takes at once.",
)
@click.option("--retry-failed", is_flag=True, help="Run trials that diverged or crashed again.")
@click.option(
    "--fail-fast/--keep-going",
    default=False,
    help="Stop when a trial has failed, or run the others.  [default: keep going]",
)
@click.option(
    "--tensorboard", is_flag=True, help="Also write scalars for TensorBoard; needs its extra."
)
@click.option("--dry-run", is_flag=True, help="List the trials, their time and disk; train none.")
def command(
    betas: str,
    objectives: str | None,
    seeds: str,
    paired: bool,
    lr: float | None,
    dataset: str,
    data_dir: str | None,
    out: str | None,
    jobs: int | None,
    pack: int | None,
    device: str,
    join: bool,
    retry_failed: bool,
    fail_fast: bool,
    tensorboard: bool,
    dry_run: bool,
    **settings: Any,
) -> None:
    """Train a grid of VAEs (betas x objectives x seeds) and score every checkpoint.

    Each checkpoint is scored under every interpretation of the decoder variance as it is written.
    The same command again runs what is left, from where it stopped, whatever stopped it; Ctrl-C
    once lets it write where it is, twice stops it at once.

    \b
    rdvae sweep --betas 1e-4..1e3
    rdvae sweep --betas 0.01,0.1,1,10,100 --dataset mnist --data-dir ~/data --seeds 5
    rdvae sweep --betas 1e-2..1e2:9 --dataset folder:photos --image-size 64 --dry-run
    rdvae sweep --betas 0.01,0.1,1 --pairs
    """
    if tensorboard:
        check_extra(["tensorboardX"], "tensorboard", "--tensorboard")
    if paired and objectives is not None:
        raise click.UsageError("--pairs are of objective constant: leave --objectives out")
    axes: dict[str, Any] = {
        "betas": _once(parse_betas(betas), "beta"),
        "seeds": _once(parse_seeds(seeds), "seed"),
    }
    if paired:
        trials = pairs(dataset=dataset, learning_rate=lr, **axes, **settings)
    else:
        names = (objectives or DEFAULT_OBJECTIVES).split(",")
        named = [one_of(name.strip(), OBJECTIVES, "objective") for name in names]
        axes["objectives"] = _once(named, "objective")
        trials = grid(dataset=dataset, learning_rate=lr, **axes, **settings)
    name = _default_out(dataset, settings["architecture"]) + ("-pairs" if paired else "")
    folder = Path(out or name)
    _check_writable(folder)

    from rdkit_vae.store.paths import Sweep
    from rdkit_vae.sweep.run import choose_device, choose_jobs

    images = _load(dataset, data_dir, settings["image_size"])
    trials = [bind(trial, images.sha256) for trial in trials]
    trials[0].check_images(len(images.train), images.shape)
    device = choose_device(device)
    _check_precision(settings["precision"], device)
    run = Run(
        trials=trials,
        images=images,
        data_dir=data_dir or os.environ.get("RDVAE_DATA"),
        sweep=Sweep(folder),
        jobs=choose_jobs(jobs, device),
        pack=pack,
        device=device,
        join=join,
        retry_failed=retry_failed,
        fail_fast=fail_fast,
        tensorboard=tensorboard,
    )
    sys.exit(estimate(run) if dry_run else train(run))


def _once(values: Any, what: str) -> tuple[Any, ...]:
    merged, repeated = merge_repeats(values)
    for value in repeated:
        shown = f"{value:g}" if isinstance(value, float) else value
        click.echo(f"rdvae: {what} {shown} was given more than once; it is run once", err=True)
    return merged


def _check_precision(precision: str, device: str) -> None:
    """Refuses what the device has not, and says where it gains nothing.

    Raises:
        BadParameter: it is of another device.
    """
    if precision == "tf32" and device == "cpu":
        raise click.BadParameter("tf32 is of CUDA devices", param_hint="--precision")
    if precision == "bf16" and device == "cpu" and "amx_bf16" not in _cpu_facts():
        note = "this processor has no fast bf16 (AMX): float32 will be about as fast, or faster"
        click.echo(f"rdvae: {note}", err=True)


def _cpu_facts() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _default_out(dataset: str, architecture: str) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "-", dataset).strip("-")
    return f"runs/{name}-{architecture}"


def _check_writable(folder: Path) -> None:
    there = nearest(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise click.BadParameter(f"{there} cannot be written", param_hint="--out")


def _load(dataset: str, data_dir: str | None, image_size: int | None) -> "Images":
    from rich.progress import Progress

    from rdkit_vae.datasets import load_dataset

    console = terminal.console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"decoding {dataset}", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return load_dataset(dataset, data_dir=data_dir, image_size=image_size, progress=progress)
