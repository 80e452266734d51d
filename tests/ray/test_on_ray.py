"""A sweep on a cluster of a head and two nodes is that of this machine, whoever dies."""

import importlib.util
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

import rdkit_vae as rdv
from rdkit_vae.store.objects import ObjectStore

from ..conftest import Run

if not all(map(importlib.util.find_spec, ("ray", "obstore"))):
    pytest.skip("needs Ray and obstore", allow_module_level=True)

SWEEP = (
    *("sweep", "--betas", "0.1,1,10", "--architecture", "linear", "--latents", "4"),
    *("--draws", "2", "--epochs", "150", "--checkpoints", "50", "--batch-size", "256"),
    *("--pack", "1"),
)
TOKEN = secrets.token_hex(16)  # which only the processes of these tests have
ENV = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass
class Cluster:
    """A cluster in a process of its own, as its C++ parts read the environment once."""

    process: "subprocess.Popen[str]"
    address: str

    def lose_a_node(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "lost\n"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("cluster.py"))],
        env={**os.environ, **ENV},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdout
        yield Cluster(process, process.stdout.readline().strip())
        process.communicate("", timeout=60)


@pytest.fixture(scope="module")
def expected(rdvae: Run, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The rows of the sweep on this machine."""
    folder = tmp_path_factory.mktemp("local") / "small"
    done = rdvae(*SWEEP, "--out", folder)
    assert done.returncode == 0, done.stderr
    return _numbers(folder)


def _numbers(place: "Path | str") -> pd.DataFrame:
    frame = rdv.load_results(place).drop(columns="created_at")
    return frame.sort_values(["run_id", "epoch", "split", "sigma"], ignore_index=True)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts the sweep on the cluster, each time from another machine's cache."""
    monkeypatch.setenv("RDVAE_CACHE", str(tmp_path / "own"))
    drivers: list[subprocess.Popen[str]] = []

    def begin() -> "subprocess.Popen[str]":
        command = [
            *(sys.executable, "-m", "rdkit_vae", *SWEEP, "--engine", "ray"),
            *("--ray-address", cluster.address, "--out", _out(tmp_path)),
        ]
        cache = str(tmp_path / f"cache{len(drivers)}")
        drivers.append(
            subprocess.Popen(
                command,
                env={**os.environ, **ENV, "RDVAE_CACHE": cache, "PYTHONSAFEPATH": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return drivers[-1]

    yield begin
    for driver in drivers:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.communicate()


def _out(tmp_path: Path) -> str:
    return f"file://{tmp_path}/objects/small"


def _wait_for(what: Callable[[], object], driver: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _checkpoints(tmp_path: Path) -> list[str]:
    return [name for name in ObjectStore(_out(tmp_path)).marks() if name.endswith(".pt")]


def _ends_as(expected: pd.DataFrame, driver: "subprocess.Popen[str]", tmp_path: Path) -> str:
    """The driver's output, once it has ended with every row as expected."""
    out, err = driver.communicate(timeout=180)
    assert driver.returncode == 0, err
    rows = _numbers(_out(tmp_path))
    pd.testing.assert_frame_equal(rows, expected, check_exact=True)
    names = ObjectStore(_out(tmp_path)).marks()
    assert not [name for name in names if name.startswith("unfinished/")]
    return out


@pytest.mark.faults
def test_a_lost_worker_and_a_lost_node_change_nothing(
    cluster: Cluster, start: Start, expected: pd.DataFrame, tmp_path: Path
) -> None:
    driver = start()
    _wait_for(lambda: _checkpoints(tmp_path), driver)
    (worker, *_) = _workers()
    os.kill(worker, signal.SIGKILL)
    before = len(_checkpoints(tmp_path))
    _wait_for(lambda: len(_checkpoints(tmp_path)) > before, driver)
    cluster.lose_a_node()
    out = _ends_as(expected, driver, tmp_path)
    assert out.count("tried again: ") >= 1
    assert "2 x cpu of Ray" in out


def _workers() -> list[int]:
    """The processes of the cluster's actors, and of no other cluster on this machine."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command, env = ((place / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            continue
        if command.startswith(b"ray::_Worker") and TOKEN.encode() in env:
            found.append(int(place.name))
    return found


@pytest.mark.faults
def test_a_driver_that_dies_or_is_interrupted_is_followed_by_another(
    start: Start, expected: pd.DataFrame, tmp_path: Path
) -> None:
    for ending in (signal.SIGKILL, signal.SIGINT):
        before = len(_checkpoints(tmp_path))
        driver = start()
        _wait_for(lambda before=before: len(_checkpoints(tmp_path)) > before, driver)
        os.killpg(driver.pid, ending)
        out, err = driver.communicate(timeout=60)
        if ending == signal.SIGINT:
            assert driver.returncode == 130
            assert "to continue: rdvae sweep" in err
            assert "stopping after this step" in out
    _ends_as(expected, start(), tmp_path)


@pytest.mark.faults
def test_an_interrupt_does_not_wait_for_workers_without_a_place(
    cluster: Cluster, start: Start, expected: pd.DataFrame, tmp_path: Path
) -> None:
    """The trial of a lost node waits for the other node, which is busy."""
    driver = start()
    _wait_for(lambda: _checkpoints(tmp_path), driver)
    cluster.lose_a_node()
    (log,) = (tmp_path / "cache0").rglob("log.jsonl")
    _wait_for(lambda: '"retried"' in log.read_text(), driver)
    os.killpg(driver.pid, signal.SIGINT)
    driver.communicate(timeout=60)
    assert driver.returncode == 130
    _ends_as(expected, start(), tmp_path)


def test_what_the_cluster_does_not_have_is_said_before_training(
    cluster: Cluster, rdvae: Run, tmp_path: Path
) -> None:
    asked = (*SWEEP, "--engine", "ray", "--out", _out(tmp_path))
    env = {"RDVAE_CACHE": str(tmp_path), **ENV}
    many = rdvae(*asked, "--ray-address", cluster.address, "--resources", "gpu=4,cpu=1", **env)
    assert many.returncode == 2
    most = "the largest nodes have gpu=0, cpu=1"
    assert f"--resources gpu=4, cpu=1: no node has that much; {most}" in many.stderr
    began = time.monotonic()
    silent = rdvae(*asked, "--ray-address", "127.0.0.1:1", **env)
    assert time.monotonic() - began < 15
    assert silent.returncode == 2
    assert "--ray-address 127.0.0.1:1: no cluster answers there" in silent.stderr
    for done in (many, silent):
        assert done.stderr.count("\n") == 1, done.stderr
    assert not list((tmp_path).rglob("sweep.json"))
