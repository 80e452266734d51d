"""An executor of one worker in this process, for debuggers and for places that forbid children."""

import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from rdkit_vae.sweeps.messages import Assignment, Message, WorkerSettings
from rdkit_vae.sweeps.worker import carry_out_in_thread


class Inline:
    """Trains in a thread of this process."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.slots = 1
        self._settings = settings
        self._stopped = threading.Event()
        self._here, self._there = Pipe(duplex=False)
        self._thread: threading.Thread | None = None
        self._number = 0

    def submit(self, number: int, assignment: Assignment) -> None:
        """Starts a thread for the assignment."""
        self._join()
        self._number = number
        self._thread = carry_out_in_thread(
            assignment, self._settings, self._there.send, self._stopped.is_set
        )

    def receive(
        self, interrupt: "Connection[Any, Any]", timeout: float | None
    ) -> Iterator[tuple[int, Message]]:
        """As `Executor.receive`."""
        if self._here in wait([interrupt, self._here], timeout):
            yield self._number, self._here.recv()

    def stop(self) -> None:
        """As `Executor.stop`."""
        self._stopped.set()

    def close(self) -> None:
        """Ends training after its current step, with the trial saved."""
        self._stopped.set()
        self._join()

    def _join(self) -> None:
        while self._thread is not None and self._thread.is_alive():
            if self._here.poll(0.05):  # else a full pipe would keep it waiting
                self._here.recv()
