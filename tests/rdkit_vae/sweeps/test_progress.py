"""The progress of a sweep, read from a real terminal; and when it says that the sweep will end."""

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest
from rich.console import Console

from rdkit_vae import Trial, make_trial
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.forecast import Forecast, Stopwatch, seconds_until_done
from rdkit_vae.sweeps.messages import Event, EventKind, Pace
from rdkit_vae.sweeps.progress import SweepProgress

Run = Callable[..., subprocess.CompletedProcess[str]]
SWEEP = (
    *("sweep", "--betas", "0.001,0.1,10,1000", "--architecture", "mlp", "--latents", "4"),
    *("--draws", "2", "--jobs", "2", "--checkpoints", "last"),
)
BAR = re.compile("[━─]{8,}")
TIME_LEFT = re.compile(r"\d+ running, about [\d.]+ (s|min|h) left")
DEADLINE = 120.0
ROWS = 24


class Terminal:
    """A sweep on a pseudo-terminal, and what its screen shows."""

    def __init__(self, columns: int, *arguments: str | Path) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        self._screen = pyte.HistoryScreen(columns, ROWS, history=1000)
        self._stream = pyte.ByteStream(self._screen)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rdkit_vae", *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "LANG": "C.UTF-8",
                "COLUMNS": "",
                "LINES": "",
            },
            preexec_fn=_take_terminal,
        )
        os.close(slave)

    def lines(self) -> list[str]:
        """All that is on the screen, and above it."""
        above = [
            "".join(row[column].data for column in range(self._screen.columns))
            for row in self._screen.history.top
        ]
        return [line.rstrip() for line in [*above, *self._screen.display]]

    def type(self, keys: bytes) -> None:
        """As a user does: the terminal also shows them, and turns ^C into an interrupt."""
        os.write(self._master, keys)

    def wait_for(self, what: Callable[[], object]) -> None:
        """Reads until something holds."""
        deadline = time.monotonic() + DEADLINE
        while not what():
            assert time.monotonic() < deadline, "\n".join(self.lines())
            assert self._read(), "\n".join(self.lines())

    def end(self) -> int:
        """Reads to the end, and returns the exit code."""
        while self._read():
            pass
        return self.process.wait(timeout=DEADLINE)

    def _read(self) -> bool:
        """Reads what comes within a moment; returns whether anything can come any more."""
        if not select.select([self._master], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:  # how Linux says that the other end is closed
            return False
        self._stream.feed(data)
        return bool(data)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)


def _take_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(columns: int, *arguments: str | Path) -> Terminal:
        opened.append(Terminal(columns, *arguments))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def _bars(terminal: Terminal) -> list[str]:
    return [line for line in terminal.lines() if "━" in line or "─" in line]


def _whole(terminal: Terminal) -> str:
    """The bars, unless they are just being drawn."""
    bars = _bars(terminal)
    whole = all(re.search(r"left$|epoch \d+/\d+(, loss \S+)?$", line) for line in bars)
    return "\n".join(bars) if whole else ""


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_bars_and_the_time_left_and_none_of_it_in_the_end(
    columns: int, terminal: Callable[..., Terminal], rdvae: Run, tmp_path: Path
) -> None:
    """One bar of all trials with the time, one of each at work: 8 of them, as `status` says."""
    screen = terminal(columns, *SWEEP, "--epochs", "30", "--out", tmp_path / "x")
    screen.wait_for(lambda: "8 running" in _whole(screen))
    status = rdvae("status", tmp_path / "x").stdout
    assert "0 of 8 done, 8 running" in status
    screen.wait_for(lambda: len(re.findall(r"epoch [1-9]\d*/30, loss", _whole(screen))) == 8)
    first, *others = bars = _bars(screen)
    assert len(others) == 8
    assert all(BAR.search(line) for line in bars)
    assert all(len(line) < columns - 3 for line in bars)  # room for ^C
    assert first.startswith("0/8 done ")
    assert TIME_LEFT.search(first), first
    assert sum("packs of 4 trials, about" in line for line in screen.lines()) == 1
    shown = [line.split() for line in others]
    assert {(words[0], words[1]) for words in shown} == {
        (objective, f"beta={beta}")
        for objective in ("constant", "optimal")
        for beta in ("0.001", "0.1", "10", "1000")
    }
    assert screen.end() == 0
    assert _bars(screen) == []
    said = "\n".join(screen.lines())
    assert all(f"[{number}/8]" in said for number in range(1, 9))
    assert " running, " not in said


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_leaves_no_bar_behind(
    times: int, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    """The terminal shows ^C where the cursor is; on a full line, that would be the next line."""
    screen = terminal(80, *SWEEP, "--epochs", "2000", "--out", tmp_path / "x")
    screen.wait_for(lambda: re.search(r"epoch [1-9]\d*/2000", "".join(_bars(screen))))
    screen.type(times * b"\x03")
    assert screen.end() == 130
    said = "\n".join(screen.lines())
    assert _bars(screen) == [], said
    assert " running, " not in said
    assert "to continue: " in said


TRIALS = [
    make_trial("digits", beta=beta, epochs=10, checkpoints="last") for beta in (1.0, 2.0, 3.0)
]
PACE = Pace(epoch=2.0, checkpoint=5.0, pack_size=1)  # so that a trial takes 25 seconds


def _event(trial: Trial, kind: str, process: int, epoch: int = 0) -> Event:
    return Event(
        run_id=trial.run_id,
        kind=EventKind(kind),
        process=process,
        epoch=epoch,
        status=Status.OK if kind == "ended" else None,
    )


def _happens(slower: float) -> Iterator[tuple[float, Event]]:
    """Three trials on two processes, which take so many times what the pace says; 50 s of it."""
    for process, trials in ((1, (TRIALS[0], TRIALS[2])), (2, (TRIALS[1],))):
        for start, trial in zip((0.0, 25.0), trials, strict=False):
            yield slower * start, _event(trial, "started", process)
            for epoch in range(1, 11):
                yield slower * (start + 2 * epoch), _event(trial, "epoch", process, epoch)
            yield slower * (start + 25.0), _event(trial, "ended", process)


@pytest.mark.parametrize("slower", [1.0, 0.5, 3.0])
def test_the_time_left_comes_true(slower: float) -> None:
    """From the pace at first; where training takes longer or shorter, from what it takes."""
    forecast, total = Forecast(TRIALS, 2), 50.0 * slower
    assert forecast.seconds_left(0.0) is None
    forecast.take(Event(kind=EventKind.PACE, pace=PACE), 0.0)
    assert forecast.seconds_left(0.0) == pytest.approx(50.0)
    for now, event in sorted(_happens(slower), key=lambda found: found[0]):
        before = forecast.seconds_left(now - 1e-6)
        assert before is not None
        assert before > 0
        if now > 0.5 * total:
            assert before == pytest.approx(total - now, rel=0.12, abs=0.6 * slower)
        forecast.take(event, now)
    assert forecast.seconds_left(total) == 0


def test_what_is_late_is_never_almost_done() -> None:
    """The last evaluation takes ten times as long as was thought."""
    forecast = Forecast(TRIALS[:1], 1)
    forecast.take(Event(kind=EventKind.PACE, pace=PACE), 0.0)
    for now, event in list(_happens(1.0))[:11]:
        forecast.take(event, now)
    left = [forecast.seconds_left(20.0 + waited) or 0.0 for waited in (0, 4, 10, 20, 40)]
    assert left[0] == pytest.approx(5.0)
    assert min(left) > 0.9
    assert left[-1] > 3.9


def test_a_trial_that_goes_on_where_it_was_left_is_no_quicker() -> None:
    forecast = Forecast(TRIALS[:1], 1)
    forecast.take(Event(kind=EventKind.PACE, pace=PACE), 0.0)
    forecast.take(_event(TRIALS[0], "started", 1), 0.0)
    forecast.take(_event(TRIALS[0], "epoch", 1, epoch=8), 2.0)
    assert forecast.seconds_left(2.0) == pytest.approx(2 * 2.0 + 5.0)
    assert forecast.epochs_done == 8


def test_processes_take_the_next_pack_when_they_are_free() -> None:
    assert seconds_until_done([], 3, 10.0, 2) == 20.0
    assert seconds_until_done([4.0, 7.0], 1, 10.0, 2) == 14.0
    assert seconds_until_done([4.0, 7.0], 3, 10.0, 2) == 24.0
    assert seconds_until_done([4.0], 1, 10.0, 2) == 10.0
    assert seconds_until_done([4.0, 1.0], 0, 10.0, 2) == 4.0


def test_a_stopwatch_tells_an_epoch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 steps of 0.2 s, but for the first, in which libraries load; and an epoch of one step."""
    clock = iter([0.0, 9.0, *(9.0 + 0.2 * step for step in range(1, 100))])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    watch = Stopwatch(100)
    told = [watch.end_step() for _ in range(3)]
    assert told == [None, None, None]
    assert watch.end_step() == pytest.approx(20.0)
    assert watch.end_epoch() is None
    monkeypatch.setattr(time, "perf_counter", iter([0.0, 3.0]).__next__)
    assert Stopwatch(1).end_epoch() == 3.0


def test_a_pipe_and_a_terminal_are_told_one_time() -> None:
    """Written to either, every line is the same but for the end that bars would show."""
    said = []
    for is_terminal in (False, True):
        out = io.StringIO()
        console = Console(file=out, force_terminal=is_terminal, width=100, _environ={})
        with SweepProgress(TRIALS, TRIALS, 1, console) as progress:
            progress(Event(kind=EventKind.PACE, pace=PACE))
            bars = [row.note for row in progress.rows(20)]
            for trial in TRIALS[:2]:
                progress(_event(trial, "started", 1))
                assert re.fullmatch(r"1 running, about \d+ s left", progress.rows(20)[0].note)
                progress(_event(trial, "ended", 1))
        assert bars == ["starting"]
        screen = pyte.Screen(100, ROWS)
        pyte.Stream(screen).feed(out.getvalue().replace("\n", "\r\n"))
        said.append([line.rstrip() for line in screen.display if line.strip()])
    piped, shown = said
    assert piped[0] == shown[0] == "about 75 s left"
    assert [line.partition(";")[0].rstrip() for line in piped] == shown
    assert all(re.search(r"; about \d+ s left$", line) for line in piped[1:])
