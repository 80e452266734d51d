"""`rdvae sweep`."""

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from rdkit_vae.cli import terminal
from rdkit_vae.cli.options import check_extra, data_dir_option, device_option, positive_option
from rdkit_vae.cli.sweep_run import print_estimate, train
from rdkit_vae.config.grid import PAPER_BATCH, PAPER_EPOCHS
from rdkit_vae.config.parsing import (
    merge_repeats,
    parse_betas,
    parse_options,
    parse_resources,
    parse_seeds,
    parse_shard,
)
from rdkit_vae.config.trial import (
    AUGMENTATIONS,
    DEFAULT_PRECISION,
    MOST_DRAWS,
    PRECISIONS,
    PROTOCOLS,
    TRAIN_IMAGES,
)
from rdkit_vae.datasets import DATASETS
from rdkit_vae.models import ARCHITECTURES, check_architecture
from rdkit_vae.objectives.losses import ALIASES, OBJECTIVES, objective_name
from rdkit_vae.sweeps.executors import ENGINES
from rdkit_vae.text import one_of


def _count(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    if not re.fullmatch(r"[1-9]\d{0,3}", value, re.ASCII):
        what = "processes" if param.name == "jobs" else "trials"
        raise click.BadParameter(f"must be 'auto' or a number of {what}, got {value!r}")
    return int(value)


def _by_dataset(name: str, paper: int | None = None) -> str:
    """Help on the defaults of a setting: the most common one, and the datasets with another."""
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
    help="A..B (one per decade), A..B:N (N values, log-spaced), or a list such as 0.1,1,10.",
)
@click.option(
    "--dataset",
    metavar="NAME",
    default="digits",
    show_default=True,
    help="A dataset that `rdvae datasets` lists, folder:PATH or npz:PATH.",
)
@data_dir_option
@click.option(
    "--image-size",
    type=click.IntRange(4, 1024),
    help="Size to which images of folder:PATH are resized.",
)
@click.option(
    "--objectives",
    metavar="NAMES",
    help="; ".join(f"{name}: {entry.about}" for name, entry in OBJECTIVES.items())
    + f"; or MODULE:NAME for your own loss. Aliases: {', '.join(ALIASES)}.  "
    "[default: constant,optimal]",
)
@click.option(
    "--pairs",
    "paired",
    is_flag=True,
    help="Train models with the same beta x C for rdvae consistency to compare: beta with C, "
    "beta/10 with 10 C, and 10 beta with C/10, all with objective constant.",
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
    help="Lower bound of fitted variances.  [default: 1e-6]",
)
@click.option(
    "--seeds",
    default="1",
    show_default=True,
    help="How many seeds (5: the seeds 0 to 4), or a list such as 0,3,7 ('7,' for seed 7 alone).",
)
@click.option(
    "--architecture",
    metavar="NAME",
    default="conv",
    show_default=True,
    help="; ".join(f"{name}: {entry.about}" for name, entry in ARCHITECTURES.items())
    + "; or MODULE:NAME for your own network.",
)
@click.option(
    "--option",
    "options",
    metavar="NAME=VALUE,..",
    multiple=True,
    help="Option of the network, such as width=64; width=32,64 sweeps over both. Repeatable.",
)
@click.option(
    "--latents",
    type=click.IntRange(1, 65536),
    help="Dimensions of the latent space.  " + _by_dataset("latents"),
)
@click.option(
    "--protocol",
    metavar="NAME",
    default="clean",
    show_default=True,
    help="; ".join(f"{name}: {entry.about}" for name, entry in PROTOCOLS.items()),
)
@click.option(
    "--augmentation",
    metavar="NAME",
    help="With protocol paper, which of its augmentations to use for datasets other than mnist and "
    f"celeba: {', '.join(AUGMENTATIONS)}.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 10**6),
    help="Epochs of training.  " + _by_dataset("epochs", PAPER_EPOCHS),
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 10**6),
    help="Images in a training batch.  " + _by_dataset("batch_size", PAPER_BATCH),
)
@click.option(
    "--lr",
    "learning_rate",
    metavar="X",
    callback=positive_option,
    help="Learning rate of AdamW.  [default: 1e-3]",
)
@click.option(
    "--checkpoints",
    metavar="WHEN",
    default="log",
    show_default=True,
    help="Epochs to keep a checkpoint of: 1, 2, 4, ... (log), the last one (last), or every K-th "
    "(a number).",
)
@click.option(
    "--draws",
    type=click.IntRange(1, MOST_DRAWS),
    help="Posterior samples per image for evaluation.  [default: 8; protocol paper: 1]",
)
@click.option(
    "--train-images",
    type=click.Choice(TRAIN_IMAGES),
    help="Training images to evaluate: as many as there are test images (matched), or all.  "
    "[default: matched; protocol paper: all]",
)
@click.option(
    "--jobs",
    metavar="N",
    default="auto",
    show_default=True,
    callback=_count,
    help="Processes or workers to train with; auto: one per core, one on a GPU, or as many as a "
    "cluster has room for.",
)
@device_option
@click.option(
    "--pack",
    metavar="N",
    default="auto",
    show_default=True,
    callback=_count,
    help="Trials in a pack, which one process trains in lockstep; auto: several on a CPU if the "
    "networks are small and dense, and all that fit on a GPU. Results differ only by rounding.",
)
@click.option(
    "--precision",
    metavar="NAME",
    default=DEFAULT_PRECISION,
    show_default=True,
    help="Precision of training; evaluation always uses float32. "
    + "; ".join(f"{name}: {about}" for name, about in PRECISIONS.items())
    + ".",
)
@click.option(
    "--engine",
    metavar="NAME",
    default="local",
    show_default=True,
    help="What runs the trials. "
    + "; ".join(f"{n}: {about}" for n, about in ENGINES.items())
    + ".",
)
@click.option(
    "--ray-address",
    metavar="ADDRESS",
    help="With --engine ray: HOST:PORT of a cluster, or auto for the cluster running on this "
    "machine.  [default: start one here, for this sweep]",
)
@click.option(
    "--resources",
    metavar="LIST",
    help="With --engine ray: what each worker takes, such as gpu=0.25,cpu=1.  [default: cpu=1, and "
    "gpu=1 with --device cuda]",
)
@click.option(
    "--out",
    metavar="DIR",
    help="Folder of the sweep, or a URL such as s3://bucket/runs.  "
    "[default: runs/DATASET-ARCHITECTURE]",
)
@click.option(
    "--join",
    is_flag=True,
    help="Join a sweep that is already running in the folder and share its trials; each process "
    "takes one pack at a time (see --pack).",
)
@click.option(
    "--shard",
    metavar="K/N",
    help="Run only the K-th of N shares of the grid. Any number of shards can run in the same "
    "--out at once, also on several machines that share it.",
)
@click.option("--retry-failed", is_flag=True, help="Run diverged and crashed trials again.")
@click.option(
    "--fail-fast/--keep-going",
    default=False,
    help="Stop as soon as a trial fails, or run the others.  [default: keep going]",
)
@click.option(
    "--tensorboard",
    is_flag=True,
    help="Also write scalars for TensorBoard. Needs the extra `tensorboard`.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only list the trials, and estimate how much time and disk space they take.",
)
def command(
    betas: str,
    objectives: str | None,
    seeds: str,
    options: tuple[str, ...],
    dataset: str,
    architecture: str,
    tensorboard: bool,
    dry_run: bool,
    **settings: Any,
) -> None:
    """Train a grid of VAEs (betas x objectives x seeds) and score every checkpoint.

    Every checkpoint is scored under all interpretations of the decoder variance as soon as it is
    written. If a sweep was interrupted for any reason, run the same command again to continue where
    it stopped. Press Ctrl-C once to save all trials and stop, twice to stop immediately.

    \b
    rdvae sweep --betas 1e-4..1e3
    rdvae sweep --betas 0.01,0.1,1,10,100 --dataset mnist --data-dir ~/data --seeds 5
    rdvae sweep --betas 1e-2..1e2:9 --dataset folder:photos --image-size 64 --dry-run
    rdvae sweep --betas 0.01,0.1,1 --pairs
    rdvae sweep --betas 1e-4..1e3:29 --seeds 5 --shard 3/16 --out runs/grid
    PYTHONPATH=. rdvae sweep --betas 0.1,1 --architecture mynets:SmallVAE --option width=32,64
    """
    if tensorboard:
        check_extra(["tensorboardX"], "tensorboard", "--tensorboard")
    asked: dict[str, Any] = {
        "betas": _once(parse_betas(betas), "beta"),
        "seeds": _once(parse_seeds(seeds), "seed"),
        "options": parse_options(options),
    }
    if objectives is not None:
        names = [objective_name(name.strip()) for name in objectives.split(",")]
        asked["objectives"] = _once(names, "objective")
    if settings["shard"] is not None:
        parse_shard(settings["shard"])
    one_of(settings["engine"], ENGINES, "engine")
    if settings["resources"] is not None:
        parse_resources(settings["resources"])
    check_architecture(architecture)
    one_of(settings["protocol"], PROTOCOLS, "protocol")
    if settings["augmentation"]:
        one_of(settings["augmentation"], AUGMENTATIONS, "augmentation")
    one_of(settings["precision"], PRECISIONS, "precision")

    from rdkit_vae.sweeps.plan import plan_sweep

    with terminal.progress_bar(f"decoding {dataset}") as decoding:
        plan = plan_sweep(
            dataset=dataset, architecture=architecture, decoding=decoding, **asked, **settings
        )
    _warn_of_slow_bf16(settings["precision"], plan.device)
    sys.exit(print_estimate(plan) if dry_run else train(plan, tensorboard=tensorboard))


def _once(values: Any, what: str) -> tuple[Any, ...]:
    merged, repeated = merge_repeats(values)
    for value in repeated:
        shown = f"{value:g}" if isinstance(value, float) else value
        click.echo(f"rdvae: {what} {shown} was given more than once; it is run once", err=True)
    return merged


def _warn_of_slow_bf16(precision: str, device: str) -> None:
    if precision != "bf16" or device != "cpu":
        return
    try:
        processor = Path("/proc/cpuinfo").read_text()
    except OSError:
        return
    if "amx_bf16" not in processor:
        click.echo(
            "rdvae: bf16 is not fast on this processor (no AMX); float32 is as fast or faster",
            err=True,
        )
