"""The log of a sweep: one JSON object per line, written by every process that runs its trials.

Each line has `time` (UTC, ISO 8601), `clock` (seconds of a monotonic clock, for differences within
one `process`), `process` (number and host) and `event`. Events of a trial (`started`, `epoch`,
`retried`, `ended`) also have its `run_id` and the fields of `messages.Event`.
"""

import contextlib
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rdkit_vae.config.trial import Trial
from rdkit_vae.errors import CannotWrite, cause_of
from rdkit_vae.store.paths import utc_now
from rdkit_vae.sweeps.messages import Event, EventKind
from rdkit_vae.system.files import open_regular
from rdkit_vae.text import is_plain_name

_LONGEST = 2**16  # bytes of a line; rdvae writes shorter ones
_MOST_EPOCHS = 10**9


class Log(contextlib.AbstractContextManager["Log"]):
    """Appends lines to a log, each with one write, so that several processes can share it."""

    def __init__(self, path: Path) -> None:
        """Opens the log.

        Raises:
            CannotWrite: it cannot be written.
        """
        self._path = path
        try:
            self._file = open_regular(path, "ab", follow=False, buffering=0)
            if not _ends_a_line(path):  # as a process was killed or the disk was full
                self._file.write(b"\n")
        except OSError as error:
            raise CannotWrite(f"{path}: cannot be written ({cause_of(error)})") from error

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def note(self, event: str, **facts: Any) -> None:
        """Appends an event.

        Raises:
            CannotWrite: it cannot be written.
        """
        line = {
            "time": utc_now(),
            "clock": round(time.monotonic(), 3),
            "process": f"{os.getpid()} on {platform.node()}",
            "event": event,
            **facts,
        }
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise CannotWrite(f"{self._path}: cannot be written ({cause_of(error)})") from error

    def note_event(self, event: Event, trials: Mapping[str, Trial]) -> None:
        """Appends an event of a trial or of the whole sweep."""
        facts: dict[str, Any] = {"run_id": event.run_id} if event.run_id else {}
        if event.kind is EventKind.EPOCH:
            epochs = trials[event.run_id].epochs
            facts |= {"epoch": event.epoch, "epochs": epochs, "loss": event.loss}
        if event.pace:
            facts["pace"] = asdict(event.pace)
        facts |= {k: v for k, v in (("status", event.status), ("summary", event.summary)) if v}
        self.note(event.kind, **facts)


def _ends_a_line(path: Path) -> bool:
    with open_regular(path, follow=False) as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


@dataclass
class Running:
    """What a log says about a running trial.

    Attributes:
        process: the process that trains it.
        epoch, epochs: epochs done and in all; 0 before the first has ended.
        loss: mean of the last epoch, nats per image.
        first, last: epoch and clock at the end of this process's first and last epoch.
    """

    process: str
    epoch: int = 0
    epochs: int = 0
    loss: float = float("nan")
    first: tuple[int, float] | None = None
    last: tuple[int, float] | None = None

    def seconds_left(self) -> float | None:
        """The time left at its pace so far; None before that is known."""
        if self.first is None or self.last is None or self.last[0] == self.first[0]:
            return None
        pace = (self.last[1] - self.first[1]) / (self.last[0] - self.first[0])
        return pace * (self.epochs - self.epoch)


class LogReader:
    """Follows a log: each call of `running` reads the lines that are new."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0
        self._running: dict[str, Running] = {}

    def running(self) -> dict[str, Running]:
        """The trials that were started and have not ended, by run_id; their process may be dead."""
        with contextlib.suppress(OSError), open_regular(self._path, follow=False) as file:
            file.seek(self._offset)
            while line := file.readline(_LONGEST):
                if not line.endswith(b"\n") and len(line) < _LONGEST:
                    break  # not yet complete
                self._offset += len(line)
                self._take(line)
        return self._running

    def _take(self, line: bytes) -> None:
        try:
            facts = json.loads(line)
            run_id, event = facts.get("run_id"), facts["event"]
            if run_id is not None and not is_plain_name(run_id):
                return  # not written by rdvae
            if event == "started":
                self._running[run_id] = Running(process=str(facts["process"]))
            elif event == "ended":
                self._running.pop(run_id, None)
            elif event == "epoch" and run_id in self._running:
                running, at = self._running[run_id], (_count(facts["epoch"]), float(facts["clock"]))
                running.epoch, running.epochs = at[0], _count(facts["epochs"])
                running.loss = float(facts["loss"])
                running.first, running.last = running.first or at, at
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return  # a killed process or a full disk has cut the line short


def _count(value: Any) -> int:
    count = int(value)
    if not 0 <= count <= _MOST_EPOCHS:
        raise ValueError("not a number of epochs")
    return count
