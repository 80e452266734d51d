"""The plan of a sweep: its trials, images and folder, and how to run them."""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rdkit_vae.config.grid import grid, pairs
from rdkit_vae.config.parsing import (
    merge_repeats,
    parse_betas,
    parse_resources,
    parse_seeds,
    parse_shard,
)
from rdkit_vae.config.trial import Option, Trial, bind, check
from rdkit_vae.datasets import load_dataset
from rdkit_vae.errors import BadInput
from rdkit_vae.models import architecture_of
from rdkit_vae.objectives.losses import OBJECTIVES, objective_name
from rdkit_vae.store.mirror import Mirror
from rdkit_vae.store.objects import is_url
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.executors import ENGINES, Cluster
from rdkit_vae.system.devices import choose_device, choose_jobs
from rdkit_vae.text import one_of

if TYPE_CHECKING:
    from rdkit_vae.datasets.images import Images
    from rdkit_vae.store.ledger import State

DEFAULT_OBJECTIVES = ("constant", "optimal")
_MOST_STACKED = 16  # larger packs gain little, and lose more if a process dies
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sweep to run.

    Attributes:
        trials: all trials, bound to their images.
        images: the dataset.
        sweep: the folder.
        data_dir: folder that the images were read from, which the sweep remembers.
        jobs: largest number of processes, or of workers on a cluster.
        pack: trials in a pack; None: the fastest number.
        device: torch device of every process.
        join: share the trials with processes that are running in the folder.
        retry_failed: run trials that diverged or crashed again.
        fail_fast: stop when a trial has failed.
        shard: k and n: the k-th of n shares of the trials is run here.
        mirror: the sweep lies in an object store, of which `sweep` is a local copy; None: it does
            not.
        engine: what runs the trials, of `executors.ENGINES`.
        cluster: the Ray cluster, with engine `ray`.
    """

    trials: tuple[Trial, ...]
    images: "Images"
    sweep: Sweep
    data_dir: str | None
    jobs: int
    pack: int | None
    device: str
    join: bool
    retry_failed: bool
    fail_fast: bool
    shard: tuple[int, int] = (1, 1)
    mirror: Mirror | None = None
    engine: str = "local"
    cluster: Cluster | None = None

    @property
    def place(self) -> str:
        """Where the sweep is: the path of its folder, or its URL."""
        return self.mirror.store.url if self.mirror else str(self.sweep.root)

    @property
    def share(self) -> tuple[Trial, ...]:
        """The trials that are run here."""
        number, shards = self.shard
        return self.trials[number - 1 :: shards]

    def states(self) -> "dict[str, State]":
        """The state of each trial of the share, by run_id.

        Raises:
            BadData: results cannot be read.
        """
        from rdkit_vae.store.ledger import states_of  # loads NumPy; usage errors do not need it

        return states_of(self.sweep, [trial.run_id for trial in self.share])

    def left(self, states: "Mapping[str, State]") -> list[Trial]:
        """The trials to run, of the share: those that have not ended, and with `retry_failed` the
        failed ones.
        """

        def is_left(status: Status) -> bool:
            return status is Status.LEFT or (status.failed and self.retry_failed)

        return [trial for trial in self.share if is_left(states[trial.run_id].status)]

    def pack_size(self, left: Sequence[Trial]) -> int:
        """The number of trials in a pack.

        Unless the user sets it: up to 16 on a CPU if the networks can be stacked and 1 if not, and
        all trials on a GPU. Packs become smaller if the memory is too small.
        """
        if self.pack is not None or not left:
            return self.pack or 1
        most = len(left)
        if self.device == "cpu":
            most = _MOST_STACKED if architecture_of(left[0].architecture).stacks else 1
        rounds = -(-len(left) // (self.jobs * most))
        return max(1, -(-len(left) // (self.jobs * rounds)))

    def free_bytes(self) -> int:
        """Free bytes on the disk of the folder, which may not exist yet."""
        return shutil.disk_usage(_nearest(self.sweep.root)).free


def plan_sweep(
    *,
    betas: str | Sequence[float] = "1e-4..1e3",
    dataset: str = "digits",
    objectives: str | Sequence[str] | None = None,
    seeds: str | int | Sequence[int] = 1,
    paired: bool = False,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    options: Mapping[str, Option | Sequence[Option]] | None = None,
    jobs: int | None = None,
    pack: int | None = None,
    device: str = "auto",
    join: bool = False,
    shard: str | None = None,
    engine: str = "local",
    ray_address: str | None = None,
    resources: str | Mapping[str, float] | None = None,
    retry_failed: bool = False,
    fail_fast: bool = False,
    decoding: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Plan:
    """Makes the trials of a sweep, loads their images, and checks that they can run.

    Args:
        betas, dataset, objectives, seeds, out, data_dir, options, jobs, pack, device, join, shard,
            engine, ray_address, resources, retry_failed, fail_fast, settings: as for `sweep`.
        paired: make pairs with the same beta x C; see `config.grid.pairs`.
        decoding: called as `decoding(done, total)` while images are decoded.

    Raises:
        BadInput: a setting cannot be used.
        BadData: the images are missing or damaged.
    """
    if paired and objectives is not None:
        raise BadInput("pairs always have objective constant: leave out the objectives")
    for name in ("beta", "objective", "seed"):
        if name in settings:
            raise BadInput(f"a sweep takes {name}s, not {name}")
    for name, value in (("jobs", jobs), ("pack", pack)):
        check(name, value, value is None or (type(value) is int and value >= 1), "at least 1")
    axes: dict[str, Any] = {
        "betas": _once(parse_betas(betas) if isinstance(betas, str) else _listed(betas)),
        "seeds": _once(parse_seeds(str(seeds)) if isinstance(seeds, str | int) else _listed(seeds)),
        "options": {name: _values(value) for name, value in (options or {}).items()},
    }
    if "checkpoints" in settings:
        settings["checkpoints"] = str(settings["checkpoints"])
    if paired:
        trials = pairs(dataset=dataset, **axes, **settings)
    else:
        names = objectives.split(",") if isinstance(objectives, str) else objectives
        known = [objective_name(name.strip()) for name in names or DEFAULT_OBJECTIVES]
        trials = grid(dataset=dataset, objectives=_once(known), **axes, **settings)
    if not trials:
        raise BadInput("a sweep needs at least one beta, one objective and one seed")
    place = str(out or default_folder(dataset, trials[0].architecture, paired))
    mirror = Mirror(place) if is_url(place) else None
    folder = mirror.pull() if mirror else Path(place)
    _check_writable(folder)
    cluster, device = _cluster(engine, ray_address, resources, device, jobs)
    _check_precision(trials[0].precision, device)
    images = load_dataset(
        dataset, data_dir=data_dir, image_size=trials[0].image_size, progress=decoding
    )
    trials = [bind(trial, images.sha256) for trial in trials]
    trials[0].check_images(images)
    _try_out(trials, images)
    remembered = data_dir or os.environ.get("RDVAE_DATA")
    return Plan(
        trials=tuple(trials),
        images=images,
        sweep=Sweep(folder),
        data_dir=str(remembered) if remembered else None,
        jobs=_jobs(jobs, device, engine, cluster),
        pack=pack,
        device=device,
        join=join or shard is not None or mirror is not None,
        retry_failed=retry_failed,
        fail_fast=fail_fast,
        shard=(1, 1) if shard is None else parse_shard(shard),
        mirror=mirror,
        engine=engine,
        cluster=cluster,
    )


def _cluster(
    engine: str,
    address: str | None,
    resources: str | Mapping[str, float] | None,
    device: str,
    most: int | None,
) -> tuple[Cluster | None, str]:
    """The cluster that is asked for, and the device of its workers, or that of this machine."""
    one_of(engine, ENGINES, "engine")
    if engine != "ray":
        if address or resources:
            raise BadInput("--ray-address and --resources need --engine ray")
        return None, choose_device(device)
    default = {"cpu": 1.0} | ({"gpu": 1.0} if device == "cuda" else {})
    cluster = Cluster(address=address, resources=parse_resources(resources or default), most=most)
    if device not in ("auto", cluster.device):
        raise BadInput(
            f"--device {device}: with these resources, the workers have {cluster.device}"
        )
    return cluster, cluster.device


def _jobs(jobs: int | None, device: str, engine: str, cluster: Cluster | None) -> int:
    """How many packs run at once; on a cluster this is not known before it is connected."""
    if engine == "local":
        return choose_jobs(jobs, device)
    return cluster.most or 1 if cluster else 1


def default_folder(dataset: str, architecture: str, paired: bool = False) -> str:
    """The folder of a sweep for which the user names none."""
    words = [re.sub(r"[^A-Za-z0-9]+", "-", word).strip("-") for word in (dataset, architecture)]
    return "runs/" + "-".join([*words, *(["pairs"] if paired else [])])


def _once(values: Iterable[T]) -> tuple[T, ...]:
    return merge_repeats(values)[0]


def _listed(values: Any) -> list[Any]:
    """One value or several, those of NumPy as Python's own."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if not isinstance(values, Iterable) or isinstance(values, str):
        return [values]
    return [value.item() if hasattr(value, "item") else value for value in values]


def _values(values: Option | Sequence[Option]) -> tuple[Option, ...]:
    """Values of an option, each once; 1, 1.0 and True are three."""
    kinds = {(type(value), value): value for value in _listed(values)}
    return tuple(kinds.values())


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(f for f in (folder.absolute(), *folder.absolute().parents) if f.exists())


def _check_writable(folder: Path) -> None:
    nearest = _nearest(folder)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise BadInput(f"--out: {nearest} cannot be written")


def _check_precision(precision: str, device: str) -> None:
    if precision == "tf32" and device == "cpu":
        raise BadInput("precision tf32 needs a GPU; use float32 or bf16")


def _try_out(trials: Sequence[Trial], images: "Images") -> None:
    """Runs the user's own networks and losses once, and networks with options."""
    unproven = {
        (trial.architecture, trial.options, trial.objective): trial
        for trial in trials
        if ":" in trial.architecture or trial.options or trial.objective not in OBJECTIVES
    }
    if unproven:
        from rdkit_vae.training.networks import try_out

        for trial in unproven.values():
            try_out(trial, images.shape)
