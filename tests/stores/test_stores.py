"""Sweeps in an object store are what they are in a folder, whatever the store does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import rdkit_vae as rdv
from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.store.mirror import Mirror
from rdkit_vae.store.objects import ObjectStore, at_once
from rdkit_vae.store.parts import merge

from ..conftest import Run
from .conftest import SECRET, Serve, Server

SWEEP = (
    *("sweep", "--betas", "0.1,1", "--architecture", "linear", "--latents", "4", "--draws", "2"),
    *("--epochs", "4", "--checkpoints", "2", "--batch-size", "256", "--jobs", "2"),
)
User = Callable[[Server], None]


@pytest.fixture(scope="module")
def expected(rdvae: Run, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The rows of the sweep in a folder."""
    folder = tmp_path_factory.mktemp("local") / "small"
    done = rdvae(*SWEEP, "--out", folder)
    assert done.returncode == 0, done.stderr
    return _numbers(rdv.load_results(folder))


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.drop(columns="created_at")
    return frame.sort_values(["run_id", "epoch", "split", "sigma"], ignore_index=True)


@pytest.fixture(params=["file", "s3"])
def store(
    request: pytest.FixtureRequest, serve: Serve, as_user: User, tmp_path: Path
) -> ObjectStore:
    pytest.importorskip("obstore")
    if request.param == "file":
        return ObjectStore(f"file://{tmp_path}/objects")
    server = serve()
    as_user(server)
    return ObjectStore(server.url)


def test_objects_are_put_got_listed_and_removed(store: ObjectStore) -> None:
    assert store.marks() == {}
    assert store.get("a/x") is None
    store.put("a/x", b"one")
    store.put("a/x", b"two")
    store.put("b/y z", b"")
    assert set(store.marks()) == {"a/x", "b/y z"}
    assert list(store.marks("a")) == list(store.marks("a/x")) == ["a/x"]
    assert store.marks("none") == {}
    assert store.level() == ({}, ["a", "b"])
    assert store.level("a") == (store.marks("a"), [])
    mark = store.marks()["a/x"]
    store.put("a/x", b"new")
    assert store.marks()["a/x"] != mark
    names = [*map(str, range(300))]
    for name in names:
        store.put(f"c/{name}", name.encode())
    asked = [*(f"c/{name}" for name in names), "c/none"]
    assert list(at_once(store.get, asked)) == [*(name.encode() for name in names), None]
    store.remove(asked)
    assert set(store.marks()) == {"a/x", "b/y z"}


def test_an_object_is_created_once(store: ObjectStore) -> None:
    assert store.create("x", b"first")
    assert store.create("x", b"first")  # the same again, as after an answer that was lost
    assert not store.create("x", b"second")
    assert store.get("x") == b"first"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://x/y", "unknown scheme; known: s3, gs, az, file"),
        ("s3://", "names no place"),
        (f"s3://somebody:{SECRET}@bucket/x", "must not contain credentials"),
        ("s3:///x", "names no place"),
        ("file:///proc/x", "names no place"),
    ],
)
def test_what_is_no_place_is_refused_in_one_line(url: str, why: str) -> None:
    pytest.importorskip("obstore")
    with pytest.raises(BadInput, match=why) as refused:
        ObjectStore(url)
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("faults", [(), ("500", "slow", "cut")], ids=["calm", "faulty"])
def test_a_sweep_in_a_store_is_that_in_a_folder(
    rdvae: Run,
    serve: Serve,
    as_user: User,
    expected: pd.DataFrame,
    tmp_path: Path,
    faults: tuple[str, ...],
) -> None:
    server = serve(*faults)
    out = f"{server.url}/small"
    env = {**server.env, "RDVAE_CACHE": str(tmp_path / "cache")}
    done = rdvae(*SWEEP, "--out", out, **env)
    assert done.returncode == 0, done.stderr
    assert f"writing to {out}" in done.stdout
    assert f"Draw it: rdvae plot-rd {out}" in done.stdout
    as_user(server)
    rows = rdv.load_results(server.url)
    pd.testing.assert_frame_equal(_numbers(rows), expected, check_exact=True)
    assert not [name for name in ObjectStore(out).marks() if name.startswith("unfinished")]
    assert not list((tmp_path / "cache").rglob("*.pt"))  # nothing is kept twice

    again = rdvae(*SWEEP, "--out", out, **env)
    assert "4 of 4 done, 0 left" in again.stdout
    other = rdvae(*SWEEP, "--epochs", "5", "--out", out, **env)
    assert other.returncode == 2
    assert f"{out} holds another sweep (epochs 4, not 5;" in other.stderr
    assert rdvae("verify", server.url, **env).stdout.endswith("no problems\n")
    refused = rdvae("verify", "--repair", server.url, **env)
    assert "--repair works on folders" in refused.stderr
    checkpoint = f"{out}/checkpoints/{rows['run_id'][0]}/epoch=00004.pt"
    scored = rdvae("rescore", "--sigma", "shared", checkpoint, **env)
    assert scored.returncode == 0, scored.stderr
    assert "stored statistics" in scored.stdout
    assert len(rdv.rescore(checkpoint, sigma="shared")) == 2
    for command in ("plot-rd", "status", "table", "consistency", "lint"):
        said = rdvae(command, server.url, cwd=tmp_path, **env)
        assert said.returncode in (0, 1), said.stderr
    for path in (tmp_path / "cache").rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


def test_objects_that_would_lie_outside_a_folder_are_not_copied(
    serve: Serve, as_user: User, tmp_path: Path
) -> None:
    as_user(serve())
    with pytest.raises(BadData, match="hostile: cannot be listed"):
        rdv.load_results("s3://bucket/hostile")
    assert not list(tmp_path.rglob("sweep.json"))


def test_other_files_are_not_written_to_a_store(
    rdvae: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    for arguments in (("plot-rd", sweep_folder), ("export", sweep_folder)):
        suffix = ".png" if arguments[0] == "plot-rd" else ".csv"
        done = rdvae(*arguments, "--out", f"s3://bucket/x{suffix}", cwd=tmp_path)
        assert done.returncode == 4
        assert "only sweeps can be written to an object store" in done.stderr
        assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_two_drivers_on_one_bucket_write_every_row_once(
    serve: Serve, as_user: User, expected: pd.DataFrame, tmp_path: Path
) -> None:
    server = serve()
    drivers = [
        _start(server, tmp_path / f"cache{number}", "--out", f"{server.url}/small")
        for number in (1, 2)
    ]
    for driver in drivers:
        out, err = driver.communicate(timeout=120)
        assert driver.returncode == 0, err
        assert "[4/4]" in out
    as_user(server)
    rows = rdv.load_results(server.url)
    pd.testing.assert_frame_equal(_numbers(rows), expected, check_exact=True)


def _start(server: Server, cache: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "rdkit_vae", *SWEEP, *arguments],
        env={**os.environ, **server.env, "RDVAE_CACHE": str(cache), "PYTHONSAFEPATH": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_another_machine_goes_on_in_the_middle_of_a_trial(
    rdvae: Run, serve: Serve, as_user: User, tmp_path: Path
) -> None:
    """What was interrupted continues from the store alone; so does what was killed."""
    server = serve()
    long = ("--epochs", "600", "--checkpoints", "200", "--betas", "1", "--out")
    whole = tmp_path / "whole"
    assert rdvae(*SWEEP, *long, whole).returncode == 0
    out = f"{server.url}/long"
    as_user(server)
    for number, ending in enumerate((signal.SIGINT, signal.SIGKILL)):
        driver = _start(server, tmp_path / f"cache{number}", *long, out)
        deadline = time.monotonic() + 60
        before = set(ObjectStore(out).marks())
        while not set(ObjectStore(out).marks()) - before - {"sweep.json"}:
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(driver.pid, ending)
        driver.communicate(timeout=60)
        unfinished = {n for n in ObjectStore(out).marks() if n.startswith("unfinished/")}
        assert unfinished
        if ending == signal.SIGINT:
            assert any(name.endswith("resume.pt") for name in unfinished)
    done = rdvae(*SWEEP, *long, out, **server.env, RDVAE_CACHE=str(tmp_path / "new"))
    assert done.returncode == 0, done.stderr
    rows = _numbers(rdv.load_results(out))
    pd.testing.assert_frame_equal(rows, _numbers(rdv.load_results(whole)), check_exact=True)


def test_merged_results_are_read_as_before(rdvae: Run, tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    url, env = f"file://{tmp_path}/objects/small", {"RDVAE_CACHE": str(tmp_path / "cache")}
    assert rdvae(*SWEEP, "--out", url, **env).returncode == 0
    os.environ["RDVAE_CACHE"] = str(tmp_path / "own")
    try:
        before = _numbers(rdv.load_results(url))
        merge(Mirror(url), trials=3)
        names = [n for n in ObjectStore(url).marks() if n.startswith("results/")]
        assert len(names) == 2  # a part of three, and one that is left over
        pd.testing.assert_frame_equal(_numbers(rdv.load_results(url)), before, check_exact=True)
    finally:
        del os.environ["RDVAE_CACHE"]
    again = rdvae(*SWEEP, "--out", url, **env)
    assert "4 of 4 done, 0 left" in again.stdout
    assert "4 of 4 done" in rdvae("status", url, **env).stdout
    checked = rdvae("verify", url, **env)
    assert "no problems" in checked.stdout, checked.stdout


@pytest.mark.parametrize(
    ("faults", "bucket", "why"),
    [
        ((), "nobucket", "there is no such bucket"),
        (("readonly",), "bucket", "access denied"),
    ],
)
def test_a_store_that_cannot_be_used_is_said_before_training(
    rdvae: Run, serve: Serve, tmp_path: Path, faults: tuple[str, ...], bucket: str, why: str
) -> None:
    server = serve(*faults)
    env = {**server.env, "RDVAE_CACHE": str(tmp_path)}
    done = rdvae(*SWEEP, "--out", f"s3://{bucket}/x", **env)
    assert done.returncode == 4
    assert why in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert SECRET not in done.stderr
    assert "about" not in done.stdout  # no pace was measured
