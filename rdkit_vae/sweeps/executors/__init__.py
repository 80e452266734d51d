"""Where the packs of a sweep are trained: each executor runs assignments and passes on messages.

`schedule.Schedule` decides what runs next and what becomes of a crash; an executor only runs it.
"""

from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, Protocol

from rdkit_vae.sweeps.messages import Assignment, Message


class Executor(Protocol):
    """Runs assignments, each in a worker of its own.

    Attributes:
        slots: how many assignments may run at once.
    """

    slots: int

    def submit(self, number: int, assignment: Assignment) -> None:
        """Starts an assignment, which the number identifies from now on."""

    def receive(
        self, interrupt: "Connection[Any, Any]", timeout: float | None
    ) -> Iterator[tuple[int, Message]]:
        """Waits until workers have something to say, and yields it with their assignment's number.

        `Free`, `Refused` or `Broken` is the last message of every assignment.

        Args:
            interrupt: if it becomes readable, waiting ends at once.
            timeout: seconds after which waiting ends; None: never.
        """

    def stop(self) -> None:
        """Asks all workers to save their trials and to end their assignments."""

    def close(self) -> None:
        """Ends all workers at once. What they have written is whole."""
