"""A sweep on the screen: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from rdkit_vae.pool import Event
from rdkit_vae.store import OK, STOPPED
from rdkit_vae.trial import Trial

_SAID_EVERY = 60.0  # seconds, at least, where there are no bars
_MOST_BARS = 12  # of trials at work; a group on a GPU would fill the screen
_SAID = {  # what is told of an event that is no end, beside its summary
    "retried": "tried again: ",
    "waiting": "waiting for ",
    "stopping": "stopping after this step; Ctrl-C again stops at once",
}


class SweepProgress:
    """Shows the events of a sweep; a context manager."""

    def __init__(self, trials: Sequence[Trial], finished: Sequence[str], console: Console) -> None:
        """Starts from the trials that were finished before."""
        self._epochs = {trial.run_id: trial.epochs for trial in trials}
        self._done = {run_id: self._epochs[run_id] for run_id in finished}
        self._ended, self._total = len(finished), len(trials)
        self._before = sum(self._done.values())
        self._start = self._said = time.monotonic()
        self._console = console
        self._bars = _bars(console) if console.is_terminal else None
        self._tasks: dict[str, TaskID] = {}
        self._all: TaskID | None = None

    def __enter__(self) -> "SweepProgress":
        if self._bars:
            self._bars.start()
            total = sum(self._epochs.values())
            self._all = self._bars.add_task(
                "all trials", total=total, completed=self._before, note=self._count()
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars:
            self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Shows an event."""
        if event.kind in _SAID:
            self._print(f"{event.run_id}: {_SAID[event.kind]}{event.summary}".lstrip(": "))
        if event.status == STOPPED or event.kind in _SAID:
            return
        if event.kind == "epoch":
            self._done[event.run_id] = event.epoch
        elif event.kind == "ended":
            self._done[event.run_id] = self._epochs[event.run_id]
            self._ended += 1
        if self._bars:
            self._move_bars(self._bars, event)
        if event.kind == "ended":
            self._say(event)
        elif not self._bars and time.monotonic() > self._said + _SAID_EVERY:
            done, total = sum(self._done.values()), sum(self._epochs.values())
            self._print(f"[{self._count()}] {done:,} of {total:,} epochs{self._time_left()}")

    def _move_bars(self, bars: Progress, event: Event) -> None:
        run_id, shown = event.run_id, event.run_id in self._tasks
        if shown and event.kind == "epoch":
            note = f"loss {event.loss:.4g}"
            bars.update(self._tasks[run_id], completed=event.epoch, note=note)
        elif shown:  # it has ended, or is tried again
            bars.remove_task(self._tasks.pop(run_id))
        if event.kind == "started" and len(self._tasks) < _MOST_BARS:
            total = self._epochs[run_id]
            self._tasks[run_id] = bars.add_task(run_id, total=total, note="")
        if self._all is not None:
            bars.update(self._all, completed=sum(self._done.values()), note=self._count())

    def _say(self, event: Event) -> None:
        status = "" if event.status == OK else f"{event.status.upper()}: "
        left = "" if self._bars else self._time_left()
        self._print(f"[{self._count()}] {event.run_id}: {status}{event.summary}{left}")

    def _print(self, line: str) -> None:
        self._said = time.monotonic()
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _count(self) -> str:
        return f"{self._ended}/{self._total}"

    def _time_left(self) -> str:
        done = sum(self._done.values())
        left = sum(self._epochs.values()) - done
        if left == 0 or done == self._before:
            return ""
        seconds = (time.monotonic() - self._start) / (done - self._before) * left
        return f"; {duration(seconds)} left"


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} epochs"),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def duration(seconds: float) -> str:
    """`45 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
