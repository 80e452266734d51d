"""`rdvae sweep`."""

import os
import re
import shlex
import shutil
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.cli import INTERRUPTED
from rdkit_vae.cli.options import check_extra, data_dir_option, positive_option
from rdkit_vae.errors import CannotWrite
from rdkit_vae.grammar import counted, megabytes, merge_repeats, one_of, parse_betas, parse_seeds
from rdkit_vae.grid import grid, pairs
from rdkit_vae.models import ARCHITECTURES
from rdkit_vae.objectives import OBJECTIVES
from rdkit_vae.trial import PROTOCOLS, TRAIN_IMAGES, Trial, bind

if TYPE_CHECKING:
    from rdkit_vae.datasets.images import Images
    from rdkit_vae.ledger import State
    from rdkit_vae.store import Sweep
    from rdkit_vae.workers import Event

TRIALS_FAILED = 3
_RETRY = "retry with --retry-failed"
DEFAULT_OBJECTIVES = "constant,optimal"


def _jobs(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    if not re.fullmatch(r"[1-9]\d{0,3}", value, re.ASCII):
        raise click.BadParameter(f"must be 'auto' or a number of processes, got {value!r}")
    return int(value)


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
@click.option("--latents", type=click.IntRange(1, 65536), help="[default: by dataset]")
@click.option(
    "--protocol",
    metavar="NAME",
    default="clean",
    show_default=True,
    help="; ".join(f"{name}: {entry.about}" for name, entry in PROTOCOLS.items()),
)
@click.option("--epochs", type=click.IntRange(1, 10**6), help="[default: by dataset]")
@click.option("--batch-size", type=click.IntRange(1, 10**6), help="[default: by dataset]")
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
@click.option("--jobs", default="auto", show_default=True, callback=_jobs, help="Processes.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
@click.option("--out", metavar="DIR", help="Sweep folder.  [default: runs/DATASET-ARCHITECTURE]")
@click.option("--join", is_flag=True, help="Share the trials with a sweep at work in the folder.")
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

    from rdkit_vae.store import Sweep
    from rdkit_vae.sweep import choose_device, choose_jobs

    images = _load(dataset, data_dir, settings["image_size"])
    trials = [bind(trial, images.sha256) for trial in trials]
    trials[0].check_images(len(images.train))
    device = choose_device(device)
    run = _Run(
        trials=trials,
        images=images,
        sweep=Sweep(folder),
        jobs=choose_jobs(jobs, device),
        device=device,
        join=join,
        retry_failed=retry_failed,
        fail_fast=fail_fast,
        tensorboard=tensorboard,
    )
    try:
        sys.exit(_estimate(run) if dry_run else _train(run))
    except KeyboardInterrupt:
        click.echo(f"rdvae: stopped at once; to go on: {_this_command()}", err=True)
        sys.exit(INTERRUPTED)
    except CannotWrite as error:
        error.add_note("what was finished is whole; the same command goes on")
        raise


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A sweep to run: its trials, and how."""

    trials: list[Trial]
    images: "Images"
    sweep: "Sweep"
    jobs: int
    device: str
    join: bool
    retry_failed: bool
    fail_fast: bool
    tensorboard: bool

    def states(self) -> "dict[str, State]":
        """How each trial stands, by run_id."""
        from rdkit_vae.ledger import state_of

        return {trial.run_id: state_of(self.sweep, trial.run_id) for trial in self.trials}

    def left(self, states: "dict[str, State]") -> list[Trial]:
        """The trials to run: those that have not ended, and the failed where asked for."""
        from rdkit_vae.ledger import FAILED, LEFT

        wanted = (LEFT, *FAILED) if self.retry_failed else (LEFT,)
        return [trial for trial in self.trials if states[trial.run_id].status in wanted]


def _once(values: Any, what: str) -> tuple[Any, ...]:
    merged, repeated = merge_repeats(values)
    for value in repeated:
        shown = f"{value:g}" if isinstance(value, float) else value
        click.echo(f"rdvae: {what} {shown} was given more than once; it is run once", err=True)
    return merged


def _default_out(dataset: str, architecture: str) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "-", dataset).strip("-")
    return f"runs/{name}-{architecture}"


def nearest(folder: Path) -> Path:
    """The folder, or the first one above it that is there."""
    return next(f for f in (folder.absolute(), *folder.absolute().parents) if f.exists())


def _check_writable(folder: Path) -> None:
    there = nearest(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise click.BadParameter(f"{there} cannot be written", param_hint="--out")


def _load(dataset: str, data_dir: str | None, image_size: int | None) -> "Images":
    from rich.console import Console
    from rich.progress import Progress

    from rdkit_vae.datasets import load_dataset

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"decoding {dataset}", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return load_dataset(dataset, data_dir=data_dir, image_size=image_size, progress=progress)


def _estimate(run: _Run) -> int:
    """Lists the trials, and what is left of them to train, without training."""
    from rdkit_vae.calibrate import estimate
    from rdkit_vae.progress import duration
    from rdkit_vae.sweep import check_same

    check_same(run.sweep, run.trials, run.images)
    states = run.states()
    for run_id, state in states.items():
        click.echo(f"{state.status:8} {run_id}")
    left = run.left(states)
    if not left:
        click.echo(f"{len(run.trials)} trials, none left to run in {run.sweep.root}")
        return 0
    about = estimate(left, run.images, jobs=run.jobs, device=run.device)
    first = left[0]
    click.echo(
        f"{len(run.trials)} trials, {len(left)} to run into {run.sweep.root}: "
        f"{first.epochs} epochs, checkpoints after {', '.join(map(str, first.checkpoints))}\n"
        f"about {duration(about.seconds)} on {run.jobs} x {run.device}, "
        f"about {megabytes(about.bytes)} of disk"
    )
    free = shutil.disk_usage(nearest(run.sweep.root)).free
    if about.bytes > free:
        click.echo(f"rdvae: only {megabytes(free)} are free there", err=True)
    return 0


def _train(run: _Run) -> int:
    """Trains what is left, and says how the sweep stands then."""
    from rich.console import Console

    from rdkit_vae.progress import SweepProgress
    from rdkit_vae.sweep import opened, run_sweep
    from rdkit_vae.tensorboard import Scalars

    with opened(run.sweep, run.trials, run.images, join=run.join):
        states = run.states()
        left = run.left(states)
        _greet(run, states, len(left))
        finished = [trial.run_id for trial in run.trials if trial not in left]
        with (
            SweepProgress(run.trials, finished, Console()) as progress,
            closing(Scalars(run.sweep)) as scalars,
        ):

            def display(event: "Event") -> None:
                progress(event)
                if run.tensorboard:
                    scalars(event)

            if left:
                states |= run_sweep(
                    left,
                    run.images,
                    run.sweep,
                    jobs=run.jobs,
                    device=run.device,
                    display=display,
                    fail_fast=run.fail_fast,
                )
    return _conclude(run, states)


def _greet(run: _Run, states: "dict[str, State]", left: int) -> None:
    first = run.trials[0]
    shape = "x".join(map(str, run.images.shape))
    steps = first.steps_per_epoch(len(run.images.train))
    click.echo(
        f"{first.dataset}: {len(run.images.train):,} train and {len(run.images.test):,} test "
        f"images of {shape}\n"
        f"{first.architecture}, {first.latents} latents, {first.epochs} epochs of {steps} steps\n"
        f"{_standing(run, states, left)} on {run.jobs} x {run.device}, into {run.sweep.root}"
    )


def _standing(run: _Run, states: "dict[str, State]", left: int) -> str:
    """`37 of 60 done, 2 failed (retry with --retry-failed), 21 to go`."""
    from rdkit_vae.ledger import FAILED
    from rdkit_vae.store import OK

    done = sum(state.status == OK for state in states.values())
    failed = sum(state.status in FAILED for state in states.values())
    words = [f"{done} of {len(states)} done"]
    if failed:
        words.append(f"{failed} failed ({'now tried again' if run.retry_failed else _RETRY})")
    return f"{', '.join(words)}, {left} to go"


def _conclude(run: _Run, states: "dict[str, State]") -> int:
    """Says what the sweep has come to; returns the exit code."""
    from rdkit_vae.ledger import FAILED, LEFT

    left = [run_id for run_id, state in states.items() if state.status == LEFT]
    failed = {run_id: state for run_id, state in states.items() if state.status in FAILED}
    if left and not (run.fail_fast and failed):
        click.echo(f"rdvae: stopped; {_standing(run, states, len(left))}", err=True)
        click.echo(f"rdvae: to go on: {_this_command()}", err=True)
        return INTERRUPTED
    _print_elbos(run.sweep, states)
    if left:
        click.echo(f"rdvae: a trial failed, {counted(len(left), 'trial')} not run", err=True)
    return TRIALS_FAILED if failed else 0


def _this_command() -> str:
    return shlex.join(["rdvae", *sys.argv[1:]])


def _print_elbos(sweep: "Sweep", states: "dict[str, State]") -> None:
    """Prints the table of ELBOs, and what is not in it."""
    from rdvae_analysis.load import scan
    from rdvae_analysis.tables import elbo_table, to_text

    frame, notes = scan(sweep.root)
    table, left_out = elbo_table(frame)
    for note in [*notes, *left_out]:
        click.echo(f"rdvae: {note}", err=True)
    if table.empty:
        click.echo(f"no trial of {len(states)} was finished")
        return
    click.echo("\nELBO in nats per image on the test split, by interpretation of the variance:\n")
    click.echo(to_text(table))
    click.echo(f"\nDraw it: rdvae plot-rd {sweep.root}")
