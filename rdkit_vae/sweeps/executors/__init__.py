"""Where the packs of a sweep are trained: each executor runs assignments and passes on messages.

`schedule.Schedule` decides what runs next and what becomes of a crash; an executor only runs it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

from rdkit_vae.sweeps.messages import Assignment, Message

ENGINES: Mapping[str, str] = {
    "local": "processes on this machine",
    "inline": "one trial after the other in this process, for debuggers",
    "ray": "workers on a Ray cluster (extra `ray`)",
}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A Ray cluster and what each worker takes of it.

    Attributes:
        address: HOST:PORT, or `auto` for the cluster of this machine; None: one is started here,
            for this sweep alone.
        resources: what a worker takes, by Ray's names in lower case (`cpu`, `gpu`, or others).
        most: the largest number of workers; None: as many as there is room for.
    """

    address: str | None
    resources: Mapping[str, float]
    most: int | None = None

    @property
    def device(self) -> str:
        """The torch device of the workers."""
        return "cuda" if self.resources.get("gpu", 0) > 0 else "cpu"

    @property
    def sharing(self) -> int:
        """How many workers share a device."""
        share = self.resources.get("gpu", 1.0)
        return max(1, int(1 / share)) if 0 < share < 1 else 1


class Executor(Protocol):
    """Runs assignments, each in a worker of its own."""

    @property
    def slots(self) -> int:
        """How many assignments may run at once; it may change."""

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
