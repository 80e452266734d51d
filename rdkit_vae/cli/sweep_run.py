"""What `rdvae sweep` prints: an estimate, or the progress and the results of the sweep."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from rdkit_vae.cli import INTERRUPTED, terminal
from rdkit_vae.config.trial import WARPS, Trial
from rdkit_vae.errors import CannotWrite, StoreFails
from rdkit_vae.text import counted, megabytes

if TYPE_CHECKING:
    from rdkit_vae.store.ledger import State
    from rdkit_vae.sweeps.messages import Event
    from rdkit_vae.sweeps.plan import Plan

TRIALS_FAILED = 3
_RETRY = "retry with --retry-failed"


def print_estimate(plan: "Plan") -> int:
    """Lists the trials, and estimates the time and disk space of those that are left."""
    from rdkit_vae.sweeps.estimate import estimate
    from rdkit_vae.sweeps.forecast import duration
    from rdkit_vae.sweeps.run import check_same, workers_of

    check_same(plan)
    states = plan.states()
    for run_id, state in states.items():
        click.echo(f"{state.status:8} {run_id}")
    left, folder = plan.left(states), plan.place
    if not left:
        click.echo(f"{_trials_of(plan)}, none left to run in {folder}")
        return 0
    with workers_of(plan) as jobs:
        plan = replace(plan, jobs=jobs)
    about, first = estimate(plan, left), left[0]
    checkpoints = "checkpoint" if len(first.checkpoints) == 1 else "checkpoints"
    epochs = ", ".join(map(str, first.checkpoints))
    click.echo(
        f"{_trials_of(plan)}, {len(left):,} to run into {folder}: "
        f"{counted(first.epochs, 'epoch')}, {checkpoints} after {epochs}\n"
        f"{_warp_in_words(plan)}"
        f"about {duration(about.seconds)} on {_where(plan)}, "
        f"about {megabytes(about.bytes)} of disk"
    )
    free = plan.free_bytes()
    if about.bytes > free:
        click.echo(f"rdvae: only {megabytes(free)} of disk space is free", err=True)
    return 0


def train(plan: "Plan", *, tensorboard: bool) -> int:
    """Runs what is left, prints the progress and the results, and returns the exit code.

    Raises:
        BadInput: the folder belongs to another sweep, or another process is using it.
        CannotWrite: a file cannot be written.
    """
    from rdkit_vae.sweeps.run import run

    try:
        with _Display(plan, tensorboard) as display:
            interrupted = run(plan, display)
    except KeyboardInterrupt:
        click.echo(f"rdvae: stopped at once; to continue: {_this_command()}", err=True)
        return INTERRUPTED
    except (CannotWrite, StoreFails) as error:
        error.add_note("finished checkpoints are safe; run the same command to continue")
        raise
    if not interrupted:
        return _conclude(plan)
    states = plan.states()
    click.echo(f"rdvae: stopped; {_standing(plan, states, plan.left(states))}", err=True)
    click.echo(f"rdvae: to continue: {_this_command()}", err=True)
    return INTERRUPTED


class _Display(ExitStack):
    """Shows the events of a sweep, with each of which it is called: a greeting, then progress."""

    def __init__(self, plan: "Plan", tensorboard: bool) -> None:
        super().__init__()
        self._plan, self._tensorboard = plan, tensorboard
        self._listeners: list[Callable[[Event], None]] = []

    def __call__(self, event: "Event") -> None:
        from rdkit_vae.sweeps.messages import EventKind

        if event.kind is EventKind.OPENED:
            self._open(event)
        for listener in self._listeners:
            listener(event)

    def _open(self, event: "Event") -> None:
        from rdkit_vae.sweeps.progress import SweepProgress
        from rdkit_vae.sweeps.tensorboard import Scalars

        plan = replace(self._plan, jobs=event.jobs)
        click.echo(_greeting(plan, event.states, event.left))
        progress = SweepProgress(plan.share, event.left, plan.jobs, terminal.console())
        self._listeners.append(self.enter_context(progress))
        if self._tensorboard:
            self._listeners.append(self.enter_context(closing(Scalars(plan.sweep))))


def _greeting(plan: "Plan", states: "Mapping[str, State]", left: Sequence[Trial]) -> str:
    first, images = plan.trials[0], plan.images
    steps = first.steps_per_epoch(len(images.train))
    options = "".join(f", {name} = {value}" for name, value in first.options)
    swept = len({trial.options for trial in plan.trials}) > 1
    return (
        f"{first.dataset}: {len(images.train):,} train and "
        f"{counted(len(images.test), 'test image')} of {'x'.join(map(str, images.shape))}\n"
        f"{first.architecture}{'' if swept else options}, {counted(first.latents, 'latent')}, "
        f"{counted(first.epochs, 'epoch')} of {counted(steps, 'step')}\n"
        f"{_warp_in_words(plan)}"
        f"{_standing(plan, states, left)}, on {_where(plan)}, "
        f"writing to {plan.place}{'' if _is_whole(plan) else f', for {_trials_of(plan)}'}"
    )


def _where(plan: "Plan") -> str:
    """`2 x cpu`, or `16 x cuda of Ray`."""
    return f"{plan.jobs} x {plan.device}{' of Ray' if plan.cluster else ''}"


def _is_whole(plan: "Plan") -> bool:
    return len(plan.share) == len(plan.trials)


def _trials_of(plan: "Plan") -> str:
    """`16 trials`, or `5 of 80 trials (this shard)`."""
    trials = counted(len(plan.trials), "trial")
    return trials if _is_whole(plan) else f"{len(plan.share):,} of {trials} (this shard)"


def _warp_in_words(plan: "Plan") -> str:
    """A line about how the protocol warps the images; empty if it does not."""
    first = plan.trials[0]
    warp = first.warp(plan.images.shape)
    if warp is None:
        return ""
    return f"protocol {first.protocol}: for training and test, images are {WARPS[warp]}\n"


def _standing(plan: "Plan", states: "Mapping[str, State]", left: Sequence[Trial]) -> str:
    """`37 of 60 done, 2 failed (retry with --retry-failed), 21 left`."""
    from rdkit_vae.store.schema import Status

    statuses = [state.status for state in states.values()]
    words = [f"{statuses.count(Status.OK)} of {len(statuses)} done"]
    failed = sum(status.failed for status in statuses)
    if failed:
        words.append(f"{failed} failed ({'to be run again' if plan.retry_failed else _RETRY})")
    return f"{', '.join(words)}, {len(left)} left"


def _conclude(plan: "Plan") -> int:
    """Prints the results of the sweep and returns the exit code."""
    from rdkit_vae.store.schema import Status

    states = plan.states()
    _print_elbos(plan)
    statuses = [state.status for state in states.values()]
    left = statuses.count(Status.LEFT)
    if left:
        click.echo(f"rdvae: a trial failed; {counted(left, 'trial')} not run", err=True)
    return TRIALS_FAILED if any(status.failed for status in statuses) else 0


def _this_command() -> str:
    return shlex.join(["rdvae", *sys.argv[1:]])


def _print_elbos(plan: "Plan") -> None:
    """Prints the table of ELBOs, and notes on what is missing from it."""
    from rdvae_analysis.load import scan
    from rdvae_analysis.tables import elbo_table, to_text

    folder = plan.sweep.root
    if not plan.share:
        return
    frame, notes = scan(folder)
    frame = frame[frame["run_id"].isin({trial.run_id for trial in plan.share})]
    table, left_out = elbo_table(frame)
    terminal.print_notes([*notes, *left_out])
    if table.empty:
        count = len(plan.share)
        what = "the trial has not" if count == 1 else f"none of {count:,} trials has"
        click.echo(f"{what} finished; to see why: rdvae status {plan.place}")
        return
    without = ""
    if {"mixture", "student"} <= set(table):  # both would be wider than 80 columns
        table, without = table.drop(columns="mixture"), "\n(rdvae consistency also shows mixture)"
    what = "ELBO in nats per image on the test split, by interpretation of the variance"
    click.echo(f"\n{what}{without}:\n")
    click.echo(to_text(table))
    click.echo(f"\nDraw it: rdvae plot-rd {plan.place}")
