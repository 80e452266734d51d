"""Sweeps to be disturbed, and how they come out undisturbed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

SWEEP = (
    *("sweep", "--betas", "0.1,1", "--architecture", "mlp", "--latents", "4", "--draws", "2"),
    *("--epochs", "30", "--checkpoints", "5", "--batch-size", "64"),
)
DEADLINE = 120.0  # seconds; for what takes a few on a free machine


@dataclass
class Disturbed:
    """A sweep at work in a session of its own, which can be disturbed."""

    folder: Path
    process: "subprocess.Popen[str]"

    def wait_for(self, what: Callable[[], object]) -> None:
        """Waits until something holds, as long as the sweep lives."""
        deadline = time.monotonic() + DEADLINE
        while not what():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def wait_for_results(self) -> None:
        self.wait_for(lambda: list(self.folder.glob("results/*.parquet")))

    def workers(self) -> list[int]:
        """Process numbers of its workers."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children if b"spawn_main" in _command_line(child)]

    def kill_all(self) -> None:
        """SIGKILL to every process of it at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=DEADLINE)

    def end(self) -> tuple[int, str, str]:
        """Its exit code, output and errors, once it has ended and left no process."""
        out, err = self.process.communicate(timeout=DEADLINE)
        deadline = time.monotonic() + 10  # the interpreter's own resource tracker takes a moment
        while self._lives():
            assert time.monotonic() < deadline, "a process outlives the sweep"
            time.sleep(0.05)
        return self.process.returncode, out, err

    def _lives(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


Start = Callable[..., Disturbed]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `rdvae` into a folder; what still runs when the test ends is killed."""
    started: list[Disturbed] = []

    def begin(folder: Path, *arguments: str, command: tuple[str, ...] = SWEEP) -> Disturbed:
        process = subprocess.Popen(
            [sys.executable, "-m", "rdkit_vae", *command, *arguments, "--out", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
            start_new_session=True,
        )
        started.append(Disturbed(folder, process))
        return started[-1]

    yield begin
    for sweep in started:
        if sweep.process.poll() is None:
            sweep.kill_all()


def numbers(folder: Path) -> pd.DataFrame:
    """All rows of a sweep in order, but for when they were made."""
    frame = pd.read_parquet(folder / "results").drop(columns="created_at")
    return frame.sort_values(["run_id", "epoch", "split", "sigma", "status"], ignore_index=True)


def assert_same(folder: Path, expected: Path) -> None:
    """Every row once, each equal to the last bit, and every file traced to its row."""
    found = numbers(folder)
    assert not found.duplicated(["run_id", "epoch", "split", "sigma"]).any()
    pd.testing.assert_frame_equal(found, numbers(expected), check_exact=True)
    for kind in ("checkpoints", "statistics"):
        names = {p.relative_to(folder) for p in (folder / kind).rglob("*") if p.is_file()}
        assert names == {
            p.relative_to(expected) for p in (expected / kind).rglob("*") if p.is_file()
        }
    assert not list((folder / "partial").glob("*"))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`SWEEP`, as it comes out when nothing happens."""
    folder = tmp_path_factory.mktemp("faults") / "undisturbed"
    command = [sys.executable, "-m", "rdkit_vae", *SWEEP, "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * DEADLINE)
    assert done.returncode == 0, done.stderr
    return folder
