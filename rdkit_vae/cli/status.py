"""`rdvae status`."""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rdkit_vae.cli import terminal
from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.store.mirror import is_copy, local
from rdkit_vae.store.models import models_in
from rdkit_vae.store.objects import is_url
from rdkit_vae.store.paths import Sweep, find_sweeps
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.forecast import duration
from rdkit_vae.system.locks import is_claimed, is_locked
from rdkit_vae.text import counted, megabytes

if TYPE_CHECKING:
    from rdkit_vae.store.ledger import State
    from rdkit_vae.sweeps.log import Running

_EVERY = 2.0  # seconds between updates


@click.command("status")
@click.argument("folder")
@click.option("--follow", is_flag=True, help="Keep updating until no sweep is running any more.")
def command(folder: str, follow: bool) -> None:
    """Show how many trials below FOLDER are done, running, failed or left to run.

    Lists running trials with their epoch, loss and time left, and failed trials with the reason.
    The file log.jsonl in each sweep folder records what happened when. Models from elsewhere are
    counted.

    \b
    rdvae status runs/
    rdvae status --follow runs/
    """

    if follow and is_url(folder):
        raise BadInput(
            "--follow needs a local folder: an object store does not record what is running"
        )
    sweeps = {root: _Watched(root) for root in find_sweeps(local(folder))}
    if not sweeps:
        raise BadData(f"{folder}: no sweep below it (no sweep.json)")
    if not follow:
        for sweep in sweeps.values():
            click.echo("\n".join(sweep.lines()))
        return
    _follow(list(sweeps.values()), lambda: any(is_locked(root) for root in sweeps))


def _follow(sweeps: "list[_Watched]", at_work: Callable[[], bool]) -> None:
    """Shows the sweeps until none is running: in place on a terminal, else after each change."""
    from rich.live import Live
    from rich.text import Text

    console, printed = terminal.console(), ""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            last = not at_work()
            text = "\n".join(line for sweep in sweeps for line in sweep.lines())
            if console.is_terminal:
                live.update(Text(text), refresh=True)
            elif text != printed:
                click.echo(text)
            printed = text
            if last:
                return
            time.sleep(_EVERY)


class _Watched:
    """A sweep folder and what was last read of it."""

    def __init__(self, root: Path) -> None:
        from rdkit_vae.store.ledger import State
        from rdkit_vae.store.parts import merged_runs
        from rdkit_vae.sweeps.log import LogReader

        self.sweep = Sweep(root)
        self._log: LogReader = LogReader(self.sweep.log)
        self._done: dict[str, State] = {}  # final
        with contextlib.suppress(BadData):
            self._done = {run_id: State(Status.OK) for run_id in merged_runs(self.sweep)}

    def lines(self) -> Iterator[str]:
        """Its state, in lines of text."""

        try:
            models, run_ids = models_in(self.sweep.root), self.sweep.run_ids()
        except BadData as error:
            click.echo(f"rdvae: left out {error}", err=True)
            return
        size = f"{megabytes(_bytes_below(self.sweep.root))} on disk"
        if models is not None:
            names = counted(len(models), "model")
            yield f"{self.sweep.root}: {names} from elsewhere, nothing to run; {size}"
            return
        running = self._running()
        states = {run_id: self._state(run_id) for run_id in run_ids}
        for run_id in states.keys() & running.keys():
            if states[run_id].status is Status.OK:  # done, but not logged yet
                del running[run_id]
        count = Counter(state.status for name, state in states.items() if name not in running)
        failed, damaged = count[Status.DIVERGED] + count[Status.CRASHED], count[Status.DAMAGED]
        others = f"{len(running)} running, {failed} failed, {count[Status.LEFT]} left"
        if is_copy(self.sweep.root):
            others, size = f"{failed} failed, {count[Status.LEFT]} left or running", "in a store"
        yield (
            f"{self.sweep.root}: {count[Status.OK]} of {len(run_ids)} done, {others}"
            f"{f', {damaged} damaged' if damaged else ''}; {size}"
        )
        for run_id, facts in running.items():
            yield f"  running   {run_id}: {_in_words(facts)}"
        for run_id, state in states.items():
            bad = state.status.failed or state.status is Status.DAMAGED
            if bad and run_id not in running:
                yield f"  {state.status:9} {run_id}: {state.reason or 'for an unknown reason'}"

    def _state(self, run_id: str) -> "State":
        from rdkit_vae.store.ledger import State, state_of

        if run_id in self._done:
            return self._done[run_id]
        try:
            state = state_of(self.sweep, run_id)
        except BadData as error:
            return State(Status.DAMAGED, str(error))
        if state.status is Status.OK:
            self._done[run_id] = state
        return state

    def _running(self) -> "dict[str, Running]":
        """The trials that a process is running now."""

        return {
            run_id: facts
            for run_id, facts in self._log.running().items()
            if is_claimed(self.sweep.claims, run_id)
        }


def _in_words(facts: "Running") -> str:

    if not facts.epoch:
        return f"in its first epoch, by process {facts.process}"
    left = facts.seconds_left()
    return (
        f"epoch {facts.epoch} of {facts.epochs}, loss {facts.loss:.4g}"
        f"{f', {duration(left)} left' if left is not None else ''}, by process {facts.process}"
    )


def _bytes_below(folder: Path) -> int:
    """Size of all files below a folder; files that vanish meanwhile are not counted."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(where, name).lstat().st_size
            except OSError:
                continue
    return total
