"""An executor of worker processes on this machine; if one of them dies, the others go on."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from rdkit_vae.sweeps.messages import (
    Assignment,
    Broken,
    Event,
    Free,
    Message,
    Stop,
    WorkerSettings,
)
from rdkit_vae.sweeps.worker import carry_out
from rdkit_vae.system.files import clear_partial
from rdkit_vae.system.processes import (
    end_children,
    keep_freed_memory,
    live_as_child,
    start_child,
)


@dataclass(kw_only=True)
class _Worker:
    process: BaseProcess
    connection: "Connection[Any, Any]"


class Processes:
    """Worker processes, which are started as they are needed and then kept."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.slots = settings.jobs
        self._settings = settings
        self._busy: dict[int, _Worker] = {}
        self._idle: list[_Worker] = []

    def submit(self, number: int, assignment: Assignment) -> None:
        """Gives the assignment to an idle process, or to a new one."""
        if self._idle:
            worker = self._idle.pop()
        else:
            process, connection = start_child(_work, self._settings)
            worker = _Worker(process=process, connection=connection)
        self._busy[number] = worker
        with contextlib.suppress(OSError):  # if it has died, `receive` will notice
            worker.connection.send(assignment)

    def receive(
        self, interrupt: "Connection[Any, Any]", timeout: float | None
    ) -> Iterator[tuple[int, Message]]:
        """As `Executor.receive`."""
        numbers: dict[Any, int] = {w.connection: number for number, w in self._busy.items()}
        for ready in wait([interrupt, *numbers], timeout):
            if ready in numbers:
                yield numbers[ready], self._next_message(numbers[ready])

    def _next_message(self, number: int) -> Message:
        """Takes a message from a process; its death counts as the last one."""
        worker = self._busy[number]
        message: Message
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            message = Broken(_death(worker.process.exitcode))
        match message:
            case Event():
                return replace(message, process=worker.process.pid or 0)
            case Free():
                self._idle.append(self._busy.pop(number))
            case Broken():
                del self._busy[number]
                end_children([(worker.process, worker.connection)])
                clear_partial(self._settings.sweep.root, worker.process.pid)
        return message

    def stop(self) -> None:
        """As `Executor.stop`."""
        for worker in self._busy.values():
            with contextlib.suppress(OSError):
                worker.connection.send(Stop())

    def close(self) -> None:
        """Kills all processes."""
        workers = [*self._busy.values(), *self._idle]
        end_children((worker.process, worker.connection) for worker in workers)


def _work(connection: "Connection[Any, Any]", settings: WorkerSettings) -> None:
    """The main loop of a process, which ends when the connection is closed."""
    live_as_child()
    keep_freed_memory()
    with contextlib.suppress(EOFError, OSError):  # the parent has ended
        while True:
            assignment = connection.recv()
            if isinstance(assignment, Assignment):
                # While it is carried out, the only possible message is `Stop`.
                connection.send(carry_out(assignment, settings, connection.send, connection.poll))


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"its process was killed by {signal.Signals(-exitcode).name}"
    return f"its process ended with exit code {exitcode}"
