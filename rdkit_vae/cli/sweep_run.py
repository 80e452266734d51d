"""What `rdvae sweep` does once its options are read: estimate, or train and tell."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rdkit_vae.cli import INTERRUPTED, terminal
from rdkit_vae.config.trial import Trial
from rdkit_vae.errors import CannotWrite
from rdkit_vae.text import counted, megabytes

if TYPE_CHECKING:
    from rdkit_vae.datasets.images import Images
    from rdkit_vae.store.ledger import State
    from rdkit_vae.store.paths import Sweep
    from rdkit_vae.sweep.pool import Event
    from rdkit_vae.system.processes import Interrupts

TRIALS_FAILED = 3
_RETRY = "retry with --retry-failed"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A sweep to run: its trials, and how."""

    trials: list[Trial]
    images: "Images"
    data_dir: str | None
    sweep: "Sweep"
    jobs: int
    pack: int | None
    device: str
    join: bool
    retry_failed: bool
    fail_fast: bool
    tensorboard: bool

    def states(self) -> "dict[str, State]":
        """How each trial stands, by run_id."""
        from rdkit_vae.store.ledger import state_of

        return {trial.run_id: state_of(self.sweep, trial.run_id) for trial in self.trials}

    def left(self, states: "dict[str, State]") -> list[Trial]:
        """The trials to run: those that have not ended, and the failed where asked for."""
        from rdkit_vae.store.ledger import FAILED, LEFT

        wanted = (LEFT, *FAILED) if self.retry_failed else (LEFT,)
        return [trial for trial in self.trials if states[trial.run_id].status in wanted]

    def packed(self, left: "Sequence[Trial]") -> int:
        """How many of them a process trains at once."""
        from rdkit_vae.sweep.run import choose_pack

        return choose_pack(self.pack, left, self.jobs, self.device)


def train(run: Run) -> int:
    """Trains what is left, and says how the sweep stands then; returns the exit code.

    Raises:
        BadInput: the folder is another sweep's, or at work.
        CannotWrite: a file cannot be written.
    """
    try:
        return _train(run)
    except KeyboardInterrupt:
        click.echo(f"rdvae: stopped at once; to go on: {_this_command()}", err=True)
        return INTERRUPTED
    except CannotWrite as error:
        error.add_note("what was finished is whole; the same command goes on")
        raise


def nearest(folder: Path) -> Path:
    """The folder, or the first one above it that is there."""
    return next(f for f in (folder.absolute(), *folder.absolute().parents) if f.exists())


def estimate(run: Run) -> int:
    """Lists the trials, and what is left of them to train, without training."""
    from rdkit_vae.sweep.estimate import estimate as estimate_of
    from rdkit_vae.sweep.progress import duration
    from rdkit_vae.sweep.run import check_same

    check_same(run.sweep, run.trials, run.images)
    states = run.states()
    for run_id, state in states.items():
        click.echo(f"{state.status:8} {run_id}")
    left = run.left(states)
    if not left:
        click.echo(f"{counted(len(run.trials), 'trial')}, none left to run in {run.sweep.root}")
        return 0
    about = estimate_of(left, run.images, jobs=run.jobs, pack=run.packed(left), device=run.device)
    first = left[0]
    checkpoints = "checkpoint" if len(first.checkpoints) == 1 else "checkpoints"
    epochs = ", ".join(map(str, first.checkpoints))
    click.echo(
        f"{counted(len(run.trials), 'trial')}, {len(left):,} to run into {run.sweep.root}: "
        f"{counted(first.epochs, 'epoch')}, {checkpoints} after {epochs}\n"
        f"{_warp_in_words(run)}"
        f"about {duration(about.seconds)} on {run.jobs} x {run.device}, "
        f"about {megabytes(about.bytes)} of disk"
    )
    free = shutil.disk_usage(nearest(run.sweep.root)).free
    if about.bytes > free:
        click.echo(f"rdvae: only {megabytes(free)} are free there", err=True)
    return 0


def _train(run: Run) -> int:
    from rdkit_vae.system.processes import Interrupts

    # From here on they are counted: one that breaks into the import of a module may be swallowed.
    with Interrupts() as interrupts:
        interrupted = _train_left(run, interrupts)
    return _interrupted(run) if interrupted else _conclude(run)


def _train_left(run: Run, interrupts: "Interrupts") -> bool:
    """Trains what is left, and returns whether an interrupt ended it."""
    from rdkit_vae.store.paths import OK
    from rdkit_vae.sweep.progress import SweepProgress
    from rdkit_vae.sweep.run import opened, run_sweep
    from rdkit_vae.sweep.tensorboard import Scalars

    with opened(run.sweep, run.trials, run.images, data_dir=run.data_dir, join=run.join):
        before = run.states()
        left = {trial: before[trial.run_id] for trial in run.left(before)}
        pack = run.packed([*left])
        _greet(run, before, len(left))
        for run_id, state in before.items():
            if state.status == OK:  # a process may have died as it was to do this
                run.sweep.resume_file(run_id).unlink(missing_ok=True)
        with (
            SweepProgress(run.trials, [*left], run.jobs, terminal.console()) as progress,
            closing(Scalars(run.sweep)) as scalars,
        ):

            def display(event: "Event") -> None:
                progress(event)
                if run.tensorboard:
                    scalars(event)

            return bool(left) and run_sweep(
                left,
                run.images,
                run.sweep,
                interrupts,
                jobs=run.jobs,
                pack=pack,
                device=run.device,
                display=display,
                fail_fast=run.fail_fast,
            )


def _greet(run: Run, states: "dict[str, State]", left: int) -> None:
    first = run.trials[0]
    shape = "x".join(map(str, run.images.shape))
    steps = first.steps_per_epoch(len(run.images.train))
    click.echo(
        f"{first.dataset}: {len(run.images.train):,} train and "
        f"{counted(len(run.images.test), 'test image')} of {shape}\n"
        f"{first.architecture}, {counted(first.latents, 'latent')}, "
        f"{counted(first.epochs, 'epoch')} of {counted(steps, 'step')}\n"
        f"{_warp_in_words(run)}"
        f"{_standing(run, states, left)} on {run.jobs} x {run.device}, into {run.sweep.root}"
    )


def _warp_in_words(run: Run) -> str:
    """The line that says what the protocol does to the images; "" if nothing."""
    first = run.trials[0]
    warp = first.warp(run.images.shape)
    if warp is None:
        return ""
    return f"protocol {first.protocol}: in training and in test, images are {warp.about}\n"


def _standing(run: Run, states: "dict[str, State]", left: int) -> str:
    """`37 of 60 done, 2 failed (retry with --retry-failed), 21 to go`."""
    from rdkit_vae.store.ledger import FAILED
    from rdkit_vae.store.paths import OK

    done = sum(state.status == OK for state in states.values())
    failed = sum(state.status in FAILED for state in states.values())
    words = [f"{done} of {len(states)} done"]
    if failed:
        words.append(f"{failed} failed ({'to be tried again' if run.retry_failed else _RETRY})")
    return f"{', '.join(words)}, {left} to go"


def _interrupted(run: Run) -> int:
    """Says how the sweep stands and how it goes on; returns the exit code."""
    states = run.states()
    click.echo(f"rdvae: stopped; {_standing(run, states, len(run.left(states)))}", err=True)
    click.echo(f"rdvae: to go on: {_this_command()}", err=True)
    return INTERRUPTED


def _conclude(run: Run) -> int:
    """Says what the sweep has come to; returns the exit code."""
    from rdkit_vae.store.ledger import FAILED, LEFT

    states = run.states()
    _print_elbos(run.sweep, states)
    left = sum(state.status == LEFT for state in states.values())
    if left:
        click.echo(f"rdvae: a trial failed, {counted(left, 'trial')} not run", err=True)
    failed = any(state.status in FAILED for state in states.values())
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
        what = "the trial was not" if len(states) == 1 else f"no trial of {len(states):,} was"
        click.echo(f"{what} finished; why: rdvae status {sweep.root}")
        return
    click.echo("\nELBO in nats per image on the test split, by interpretation of the variance:\n")
    click.echo(to_text(table))
    click.echo(f"\nDraw it: rdvae plot-rd {sweep.root}")
