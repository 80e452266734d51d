"""Messages between the processes of a sweep, and the events that a sweep reports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rdkit_vae.config.trial import Trial
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.schema import Status

if TYPE_CHECKING:
    from rdkit_vae.datasets.images import Images
    from rdkit_vae.store.ledger import State  # which brings NumPy
    from rdkit_vae.store.objects import ObjectStore


class EventKind(StrEnum):
    """What can happen: the first four to the whole sweep, the others to one trial."""

    OPENED = "opened"  # the folder is locked, and the trials left to run are known
    PACE = "pace"  # the time that trials take has been measured
    WAITING = "waiting"  # for trials that other processes have claimed
    STOPPING = "stopping"  # after an interrupt
    STARTED = "started"
    EPOCH = "epoch"
    RETRIED = "retried"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long parts of a training take, as measured.

    Attributes:
        epoch: seconds of an epoch of one trial; in a pack, its share of the pack's epoch.
        checkpoint: seconds of the evaluation of one checkpoint.
        pack_size: trials in a pack.
    """

    epoch: float
    checkpoint: float
    pack_size: int

    def seconds(self, trial: Trial, epoch: int = 0) -> float:
        """What a trial takes from the end of an epoch on, including that epoch's checkpoint."""
        checkpoints = sum(at >= max(epoch, 1) for at in trial.checkpoints)
        return (trial.epochs - epoch) * self.epoch + checkpoints * self.checkpoint


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in a sweep.

    Attributes:
        kind: what happened.
        run_id: the trial that it happened to; empty for the whole sweep.
        epoch, loss: epochs done, and the mean loss of the last one in nats (kind `epoch`).
        status: how the trial ended (kind `ended`).
        summary: in words, how it ended, why it is retried, or what the sweep waits for.
        elsewhere: another process has trained it and written all its files.
        process: number of the process that trains it; 0 for this one.
        pace: how long trials take (kind `pace`).
        states: of all trials, by run_id (kind `opened`).
        left: the trials to run (kind `opened`).
        jobs: processes or workers that run them (kind `opened`).
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
    states: Mapping[str, "State"] = field(default_factory=dict)
    left: tuple[Trial, ...] = ()
    jobs: int = 1


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """Settings of a worker, which do not change.

    Attributes:
        jobs: processes that share the device.
        images: the dataset, or a description of it by `datasets.images.share`.
        sweep: the folder for the results.
        device: torch device.
        store: where the files go from there; None: nowhere.
    """

    jobs: int
    images: "Images | dict[str, Any]"
    sweep: Sweep
    device: str
    store: "ObjectStore | None" = None


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """To a worker: trials to train, except those that have ended since.

    Attributes:
        before: values of each trial, with the status it had.
        measure: first report how much the trials will write and how long they take.
    """

    before: list[tuple[dict[str, Any], Status]] = field(default_factory=list)
    measure: bool = False


@dataclass(frozen=True)
class Stop:
    """To a worker: save the trials and start no others."""


@dataclass(frozen=True)
class RoomNeeded:
    """From a worker: the number of bytes that one trial will write."""

    bytes: float


@dataclass(frozen=True)
class Elsewhere:
    """From a worker: another process has claimed a trial."""

    run_id: str


@dataclass(frozen=True)
class Free:
    """From a worker: the assignment is done or was stopped."""


@dataclass(frozen=True)
class Refused:
    """From a worker: an error that the user must fix, so retrying would not help."""

    error: Exception


@dataclass(frozen=True)
class Broken:
    """From a worker, or about one that died: its unfinished trials must be retried.

    Attributes:
        summary: what has happened, in words.
        lost: its machine is gone, which is no fault of the trials.
    """

    summary: str
    lost: bool = False


Message = Event | RoomNeeded | Elsewhere | Free | Refused | Broken  # from a worker
