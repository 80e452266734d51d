"""An executor on a Ray cluster: each slot is an actor, which trains in a folder of its own node."""

import atexit
import importlib.util
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from rdkit_vae.datasets.images import SCRATCH, shared_folder
from rdkit_vae.errors import BadInput, in_line
from rdkit_vae.store.paths import Sweep, code_version
from rdkit_vae.sweeps.executors import Cluster
from rdkit_vae.sweeps.messages import (
    Assignment,
    Broken,
    Event,
    Free,
    Message,
    Refused,
    WorkerSettings,
)
from rdkit_vae.sweeps.worker import carry_out_in_thread
from rdkit_vae.system.processes import keep_freed_memory

if TYPE_CHECKING:
    from rdkit_vae.datasets.images import Images

_ANSWER_WITHIN = 10.0  # seconds, of a cluster
_LOOK_EVERY = 0.2  # seconds, for an interrupt
_COUNT_EVERY = 10.0  # seconds, the nodes of the cluster
_RAY_NAMES = {"cpu": "num_cpus", "gpu": "num_gpus"}


class OnRay:
    """Actors of a Ray cluster, started as they are needed and ended when nothing is left for them.

    Attributes:
        slots: how many workers the cluster has room for now; nodes may come and go.
    """

    def __init__(self, cluster: Cluster, settings: WorkerSettings, images: "Images") -> None:
        """Hands the images to the cluster, to which `connected` has connected, once."""
        import ray

        self._cluster = cluster
        self._actor = ray.remote(_Worker).options(**_demand(cluster.resources), max_concurrency=2)
        settings = replace(settings, jobs=cluster.sharing)
        self._about = ray.put(settings), ray.put(images), code_version()
        self._busy: dict[int, tuple[Any, Any]] = {}
        self._begun: set[int] = set()  # assignments of which a message has come
        self._idle: list[Any] = []
        self._given_up: list[int] = []  # assignments that were stopped before they began
        self._slots, self._counted = 0, -_COUNT_EVERY

    @property
    def slots(self) -> int:
        if time.monotonic() - self._counted > _COUNT_EVERY:
            self._slots = max(1, _room(self._cluster))
            self._counted = time.monotonic()
        return self._slots

    def submit(self, number: int, assignment: Assignment) -> None:
        """Gives the assignment to an idle actor, or to a new one."""
        worker: Any = self._idle.pop() if self._idle else self._actor.remote(*self._about)
        messages = worker.carry_out.options(num_returns="streaming").remote(assignment)
        self._busy[number] = worker, messages

    def receive(
        self, interrupt: "Connection[Any, Any]", timeout: float | None
    ) -> Iterator[tuple[int, Message]]:
        """As `Executor.receive`."""
        import ray

        if self._given_up:
            given_up, self._given_up = self._given_up, []
            yield from ((number, Free()) for number in given_up)
            return
        while self._idle:  # nothing waits for them, but a new actor may wait for their place
            self._idle.pop().__ray_terminate__.remote()
        numbers = {messages: number for number, (_, messages) in self._busy.items()}
        until = time.monotonic() + (float("inf") if timeout is None else timeout)
        while numbers and not interrupt.poll() and time.monotonic() < until:
            ready, _ = ray.wait([*numbers], num_returns=1, timeout=_LOOK_EVERY)
            if ready:
                yield numbers[ready[0]], self._next_message(numbers[ready[0]])
                return
        if not numbers:
            interrupt.poll(timeout)

    def _next_message(self, number: int) -> Message:
        import ray
        from ray.exceptions import RayError

        worker, messages = self._busy[number]
        message: Message
        try:
            message = ray.get(next(messages))
            self._begun.add(number)
        except (RayError, StopIteration) as error:
            message = _end_of(error)
        match message:
            case Event():
                return replace(message, process=number)
            case Free():
                del self._busy[number]
                self._idle.append(worker)
            case Broken():
                del self._busy[number]
                ray.kill(worker)
        return message

    def stop(self) -> None:
        """As `Executor.stop`. Actors that are still waiting for a place are given up."""
        import ray

        for number, (worker, _) in list(self._busy.items()):
            if number in self._begun:
                worker.stop.remote()
            else:
                del self._busy[number]
                ray.kill(worker)
                self._given_up.append(number)

    def close(self) -> None:
        """Kills all actors."""
        import ray

        for worker in [*(worker for worker, _ in self._busy.values()), *self._idle]:
            ray.kill(worker)


@contextmanager
def connected(cluster: Cluster) -> Iterator[int]:
    """Connects to a cluster, or starts one on the loopback interface of this machine.

    Yields:
        How many workers it has room for.

    Raises:
        BadInput: Ray is not installed, no cluster answers, or no node has the resources.
    """
    if importlib.util.find_spec("ray") is None:
        raise BadInput(
            "--engine ray needs ray: pip install 'rdkit-vae[ray]' (in a clone: pip install "
            "'.[ray]')"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if path := os.environ.get("PYTHONPATH"):  # where the user's own networks are
        options["runtime_env"] = {"env_vars": {"PYTHONPATH": path}}
    given: dict[str, str] = {}
    if cluster.address is None:
        given = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        options |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    else:
        options["address"] = _answering(cluster.address)
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    import ray

    try:
        try:
            ray.init(**options)
        except (RuntimeError, ValueError, OSError) as error:
            raise BadInput(f"Ray: {cluster.address or 'local'}: {in_line(error)}") from error
        if (room := _room(cluster)) == 0:
            raise BadInput(_too_much(cluster.resources))
        yield room
    finally:
        ray.shutdown()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _answering(address: str) -> str:
    """The address HOST:PORT of a cluster, on which somebody listens.

    Raises:
        BadInput: it is no such address, or nobody listens.
    """
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address

        try:
            address = str(canonicalize_bootstrap_address("auto"))
        except (ConnectionError, ValueError):
            raise BadInput(
                "--ray-address auto: no Ray cluster runs on this machine (ray start)"
            ) from None
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdigit()):
        raise BadInput(f"--ray-address {address}: must be auto or HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise BadInput(
            f"--ray-address {address}: no cluster answers there ({in_line(error)})"
        ) from None
    return address


def _demand(resources: Mapping[str, float]) -> dict[str, Any]:
    """What an actor takes, as Ray's options."""
    known = {_RAY_NAMES[name]: value for name, value in resources.items() if name in _RAY_NAMES}
    others = {name: value for name, value in resources.items() if name not in _RAY_NAMES}
    return {"num_cpus": 0, **known, "resources": others}


def _nodes(resources: Mapping[str, float]) -> list[dict[str, float]]:
    """What each node that is alive has in all of these resources."""
    import ray

    of_cluster: Any = ray.nodes
    nodes = [node["Resources"] for node in of_cluster() if node["Alive"]]
    names = {name: name.upper() if name in _RAY_NAMES else name for name in resources}
    return [{name: node.get(names[name], 0.0) for name in resources} for node in nodes]


def _room(cluster: Cluster) -> int:
    """How many workers the nodes of the cluster have room for."""
    room = sum(
        min(int(node[name] / needed + 1e-9) for name, needed in cluster.resources.items())
        for node in _nodes(cluster.resources)
    )
    return min(room, cluster.most or room)


def _too_much(resources: Mapping[str, float]) -> str:
    """That no node has room for a worker, in words."""
    nodes = _nodes(resources)
    asked = ", ".join(f"{name}={value:g}" for name, value in resources.items())
    most = ", ".join(f"{name}={max(node[name] for node in nodes):g}" for name in resources)
    return f"--resources {asked}: no node has that much; the largest nodes have {most}"


def _end_of(error: Exception) -> Message:
    """The last message about an assignment whose actor is no more."""
    from ray.exceptions import RayActorError, RuntimeEnvSetupError

    text = " ".join(str(error).split())
    if isinstance(error, RuntimeEnvSetupError) or getattr(error, "actor_init_failed", False):
        return Refused(BadInput(f"no worker can be started on the cluster ({text[-200:]})"))
    if isinstance(error, RayActorError) and "its node has died" in text:
        return Broken("its node was lost", lost=True)
    return Broken(f"its process on the cluster ended ({text[:120]})")


class _Worker:
    """The actor: trains what it is assigned in a scratch folder, from which files are published."""

    def __init__(self, settings: WorkerSettings, images: "Images", version: str) -> None:
        if (mine := code_version()) != version:
            node = f"node {socket.gethostname()}"
            raise BadInput(f"{node} has rdvae {mine}, but the sweep was started with {version}")
        keep_freed_memory()
        sweep = settings.sweep
        if settings.store:
            folders = ExitStack()
            atexit.register(folders.close)
            sweep = Sweep(folders.enter_context(shared_folder()) / SCRATCH)
        self._settings = replace(settings, sweep=sweep, images=images)
        self._stopped = threading.Event()

    def carry_out(self, assignment: Assignment) -> Iterator[Message]:
        """Yields the messages about an assignment; the last one ends it."""
        messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        carry_out_in_thread(assignment, self._settings, messages.put, self._stopped.is_set)
        while not isinstance(message := messages.get(), Free | Broken | Refused):
            yield message
        yield message

    def stop(self) -> None:
        """Makes training stop after its current step."""
        self._stopped.set()
