"""What benchmarks share: medians with their spread, running commands, memory of processes."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RDVAE = (sys.executable, "-m", "rdkit_vae")
_EVERY = 0.05  # seconds between two looks at the memory


def spread(values: Sequence[float], digits: int = 2) -> str:
    """`median (min..max)`."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}..{high:.{digits}f})"


def seconds_to(work: Callable[[], object]) -> float:
    """Wall clock of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def against_forward(
    evaluate: Callable[[], object], forward: Callable[[], object], images: int, repeats: int
) -> str:
    """The speed of an evaluation over that of the bare forward passes, which take turns.

    Args:
        evaluate, forward: do the work once.
        images: how many each of them works on.
        repeats: how often.
    """
    pairs = []
    for number in range(repeats):
        order = (evaluate, forward) if number % 2 == 0 else (forward, evaluate)
        seconds = {work: seconds_to(work) for work in order}
        pairs.append((images / seconds[evaluate], images / seconds[forward]))
    return (
        f"evaluate / forward {spread([ours / bare for ours, bare in pairs])}; images per second: "
        f"evaluate {spread([ours for ours, _ in pairs], 0)}, "
        f"forward {spread([bare for _, bare in pairs], 0)}"
    )


def seconds_of(command: Sequence[str]) -> float:
    """Wall clock of a command that must end well; what it prints is shown only if it does not."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return seconds


@dataclass
class Memory:
    """The largest values seen of a line of /proc/PID/status, of a process and of all below it.

    Attributes:
        root: the process.
        line: `VmHWM` (peak resident, with what is mapped from files) or `RssAnon` (without).
        peaks: MB by process.
    """

    root: int
    line: str
    peaks: dict[int, float] = field(default_factory=dict)

    def sample(self) -> None:
        """Looks once."""
        for pid in (self.root, *_below(self.root)):
            self.peaks[pid] = max(self.peaks.get(pid, 0.0), _megabytes(pid, self.line))

    def below(self) -> list[float]:
        """Peaks of the processes below the root, MB, largest first."""
        found = (peak for pid, peak in self.peaks.items() if pid != self.root)
        return sorted(found, reverse=True)


def watch(command: Sequence[str], line: str) -> tuple[float, Memory]:
    """Runs a command that must end well; its wall clock in seconds, and its memory."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        memory = Memory(process.pid, line)
        while process.poll() is None:
            memory.sample()
            time.sleep(_EVERY)
        seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return seconds, memory


def _below(pid: int) -> list[int]:
    """Processes that a process started, and those that they started."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in path.read_text().split()]
        except OSError:  # the thread has ended
            continue
        for child in children:
            found += [child, *_below(child)]
    return found


def _megabytes(pid: int, line: str) -> float:
    """A line of a process's status; 0 where the process has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    kilobytes = next((x.split()[1] for x in text.splitlines() if x.startswith(f"{line}:")), "0")
    return int(kilobytes) / 1000
