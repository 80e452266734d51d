"""Shows the progress of a sweep: bars on a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import NamedTuple

from rich.console import Console, ConsoleOptions
from rich.live import Live
from rich.text import Text

from rdkit_vae.config.trial import DEFAULT_SIGMA2, Trial
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.forecast import Forecast, duration
from rdkit_vae.sweeps.messages import Event, EventKind

_LINE_EVERY = 60.0  # seconds, at least, between lines if there are no bars
_MOST_BARS = 12  # for running trials; a pack on a GPU would fill the screen
_NARROWEST, _WIDEST = 8, 40  # columns of a bar
_FREE = 5  # columns at the end of a line, for a ^C or two
_LINES = {  # what is printed before the summary of an event
    EventKind.RETRIED: "tried again: ",
    EventKind.WAITING: "waiting for ",
    EventKind.STOPPING: "stopping after this step; press Ctrl-C again to stop at once",
}


class SweepProgress:
    """Shows the events of a sweep; a context manager."""

    def __init__(
        self, trials: Sequence[Trial], left: Sequence[Trial], jobs: int, console: Console
    ) -> None:
        """Starts before any of the trials that are left, which so many processes will run."""
        self._epochs = {trial.run_id: trial.epochs for trial in left}
        self._total, self._ended = len(trials), len(trials) - len(left)
        self._names = _short_names(left)
        self._losses: dict[str, float] = {}
        self._forecast = Forecast(left, min(jobs, len(left)))
        self._printed = time.monotonic()
        self._console = console
        # Another thread draws the bars, which must not wait while this one prints.
        self._lock = threading.Lock()
        bars = left and console.is_terminal and not console.is_dumb_terminal
        self._live = Live(_Bars(self), console=console, transient=True) if bars else None

    def __enter__(self) -> "SweepProgress":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Shows an event."""
        if event.kind in _LINES:
            self._print(f"{event.run_id}: {_LINES[event.kind]}{event.summary}".lstrip(": "))
        if event.status is Status.STOPPED:
            return
        with self._lock:
            is_first_pace = event.pace is not None and not self._forecast.pace
            self._forecast.take(event, time.monotonic())
            if event.kind is EventKind.EPOCH:
                self._losses[event.run_id] = event.loss
            self._ended += event.kind is EventKind.ENDED
        if is_first_pace and event.pace:
            size = event.pace.pack_size
            packs = f"packs of {size} trials, " if size > 1 else ""
            self._print(f"{packs}{self._time_left()}")
        elif event.kind is EventKind.ENDED and event.status:
            status = "" if event.status is Status.OK else f"{event.status.upper()}: "
            left = "" if self._live or self._ended == self._total else f"; {self._time_left()}"
            self._print(f"[{self._count()}] {event.run_id}: {status}{event.summary}{left}")
        elif not self._live and time.monotonic() > self._printed + _LINE_EVERY:
            done, total = self._forecast.epochs_done, sum(self._epochs.values())
            self._print(f"[{self._count()}] {done:,} of {total:,} epochs, {self._standing()}")

    def rows(self, most: int) -> "list[_Row]":
        """What the bars show, on so many lines at most: the whole sweep, and each running trial."""
        with self._lock:
            running = self._forecast.running
            share = self._forecast.epochs_done / sum(self._epochs.values())
            rows = [_Row(label=f"{self._count()} done", share=share, note=self._standing())]
            shown = min(most - 1, _MOST_BARS)
            if len(running) > shown:
                shown -= 1
            for run_id in [name for name in self._names if name in running][: max(0, shown)]:
                epoch, epochs = running[run_id], self._epochs[run_id]
                loss = f", loss {self._losses[run_id]:.4g}" if run_id in self._losses else ""
                note = f"epoch {epoch}/{epochs}{loss}"
                rows.append(_Row(label=self._names[run_id], share=epoch / epochs, note=note))
            if len(running) > len(rows) - 1 and shown >= 0:
                rows.append(_Row(label=f"and {len(running) - len(rows) + 1} more"))
            return rows

    def _print(self, line: str) -> None:
        self._printed = time.monotonic()
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _count(self) -> str:
        return f"{self._ended}/{self._total}"

    def _standing(self) -> str:
        running = len(self._forecast.running)
        if self._ended == self._total:
            return "all trials have ended"
        return f"{running} running, {self._time_left()}" if running else "starting"

    def _time_left(self) -> str:
        seconds = self._forecast.seconds_left(time.monotonic())
        return (
            "time left unknown" if seconds is None else f"about {duration(max(1.0, seconds))} left"
        )


class _Row(NamedTuple):
    label: str  # left of the bar
    share: float | None = None  # of the bar that is filled; None: there is no bar
    note: str = ""  # right of the bar


class _Bars:
    """All bars, which fit the current width of the terminal."""

    def __init__(self, progress: SweepProgress) -> None:
        self._progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        rows = self._progress.rows(most=console.height - 2)
        width = max(1, options.max_width - _FREE)
        notes = max(len(row.note) for row in rows)
        # On a narrow terminal labels get shorter first, then bars; the note has the time left.
        labels = min(max(len(row.label) for row in rows), max(0, width - notes - _NARROWEST - 2))
        bar = min(_WIDEST, max(0, width - notes - labels - 2))
        done, rest = ("#", "-") if options.ascii_only else ("━", "─")
        for row in rows:
            line = Text(no_wrap=True)
            line.append(_cut(row.label, labels).ljust(labels) + " ")
            if row.share is not None:
                filled = round(bar * min(1.0, row.share))
                line.append(done * filled, "bar.complete")
                line.append(rest * (bar - filled), "bar.back")
            line.append(f" {row.note}")
            line.truncate(width)
            yield line


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"[:width]


def _short_names(trials: Sequence[Trial]) -> dict[str, str]:
    """Short names that are unique within a sweep, by run_id."""
    several = len({trial.seed for trial in trials}) > 1
    names = {}
    for trial in trials:
        words = [trial.objective, f"beta={trial.beta:g}"]
        if trial.train_sigma2 not in (None, DEFAULT_SIGMA2):
            words.append(f"C={trial.train_sigma2:g}")
        names[trial.run_id] = " ".join([*words, *([f"seed={trial.seed}"] if several else [])])
    return names
