"""What the processes of a sweep tell each other, and what a sweep tells whoever watches it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rdkit_vae.config.trial import Trial
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.pace import Pace


class EventKind(StrEnum):
    """What can happen; the first three happen to the whole sweep, the others to one trial."""

    OPENED = "opened"  # the folder is ours, and what is left to run is known
    PACE = "pace"  # how long trials take was measured
    WAITING = "waiting"  # for the trials that other processes have claimed
    STOPPING = "stopping"  # after an interrupt
    STARTED = "started"
    EPOCH = "epoch"
    RETRIED = "retried"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in a sweep.

    Attributes:
        kind: what.
        run_id: of the trial it happened to; empty where it happened to the whole sweep.
        epoch, loss: epochs done, and the mean loss of the last in nats (kind `epoch`).
        status: how the trial ended (kind `ended`).
        summary: in words, how it ended, why it is retried, or what is waited for.
        elsewhere: another process has trained it, and has written everything.
        process: the number of the process that trains it; 0 where it is this one.
        pace: how long trials take (kind `pace`).
        left: the trials to run (kind `opened`).
    """

    kind: EventKind
    run_id: str = ""
    epoch: int = 0
    loss: float = 0.0
    status: Status | None = None
    summary: str = ""
    elsewhere: bool = False
    process: int = 0
    pace: Pace | None = None
    left: tuple[Trial, ...] = ()


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What a worker knows from its start.

    Attributes:
        jobs: processes that share the device.
        images: the dataset, as `datasets.images.share` describes it.
        sweep: folder that the results go to.
        device: torch device.
    """

    jobs: int
    images: dict[str, Any]
    sweep: Sweep
    device: str


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """To a worker: trials to train, or to pass over if they have ended since.

    Attributes:
        before: values of each trial, with the status it had.
        measure: tell first how much the trials will write, and how long they take.
    """

    before: list[tuple[dict[str, Any], Status]] = field(default_factory=list)
    measure: bool = False


@dataclass(frozen=True)
class Stop:
    """To a worker: write where the trials are, and start no others."""


@dataclass(frozen=True)
class RoomNeeded:
    """From a worker: the bytes that one trial will write."""

    bytes: float


@dataclass(frozen=True)
class Elsewhere:
    """From a worker: another process has claimed a trial."""

    run_id: str


@dataclass(frozen=True)
class Free:
    """From a worker: the assignment is done, or was stopped."""


@dataclass(frozen=True)
class Refused:
    """From a worker: something that the user must put right; trying again would be of no use."""

    error: Exception


@dataclass(frozen=True)
class Broken:
    """From a worker, or of one that died: trials that have not ended are to be tried again."""

    summary: str
