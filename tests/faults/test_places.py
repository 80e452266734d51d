"""Disks that are full, folders that are read-only or shared, clocks that jump."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from rdkit_vae.store.paths import Sweep
from rdkit_vae.system import locks

from .conftest import SWEEP, Start, assert_same, numbers

# Root mounts in a namespace of its own; others need one in which they are root.
NAMESPACE = ["unshare", *(["--user", "--map-root-user"] if os.getuid() else []), "--mount"]
FULL_DISK = Path(__file__).with_name("full_disk.py")


@pytest.mark.faults
def test_a_full_disk(undisturbed: Path, tmp_path: Path) -> None:
    """A tmpfs that fills up: twice, at other moments; each time room is made again."""
    command = [*NAMESPACE, sys.executable, str(FULL_DISK), str(tmp_path), *SWEEP]
    if subprocess.run([*NAMESPACE, "true"]).returncode != 0:
        pytest.skip("nothing can be mounted here")
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for code, errors in told["full"]:
        assert code == 4
        assert errors.count("\n") == 1, errors
        assert "No space left on device" in errors
        assert "run the same command to continue" in errors
    assert told["crashed"] == 0  # a disk is no fault of a trial
    assert told["refused"][0] == 4
    assert "about" in told["refused"][1]
    assert "are free; make room" in told["refused"][1]
    assert_same(tmp_path / "x", undisturbed)


READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


@pytest.mark.faults
def test_a_read_only_folder(undisturbed: Path, tmp_path: Path) -> None:
    """Refused before training, in one line; reading and drawing work as ever."""
    folder = tmp_path / "x"
    shutil.copytree(undisturbed, folder)
    next((folder / "results").iterdir()).unlink()

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        mounted = ["sh", "-c", READ_ONLY, str(folder)]
        command = [*NAMESPACE, *mounted, sys.executable, "-m", "rdkit_vae", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    if subprocess.run([*NAMESPACE, "true"]).returncode != 0:
        pytest.skip("nothing can be mounted here")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    for arguments in (SWEEP, (*SWEEP, "--join")):
        done = run(*arguments, "--out", str(folder))
        assert done.returncode in (2, 4)
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1, done.stderr
        assert "cannot be written" in done.stderr
    assert "3 of 4 done, 0 running, 0 failed, 1 left" in run("status", str(folder)).stdout
    drawn = run("plot-rd", str(folder), "--out", "rd.png")
    assert drawn.returncode == 0, drawn.stderr
    assert run("verify", str(folder)).returncode == 4  # results are missing
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.faults
def test_a_second_sweep_is_refused_or_joins(
    start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    """Who joins takes other trials; every trial is trained once, and both see the end."""
    folder = tmp_path / "x"
    first = start(folder, "--jobs", "1", "--pack", "1")
    first.wait_for(lambda: b'"epoch"' in _log(folder))
    refused = start(folder).end()
    assert refused[0] == 2
    assert f"another rdvae is using this folder (process {first.process.pid} on " in refused[2]
    assert refused[2].count("\n") == 1
    os.kill(first.process.pid, signal.SIGSTOP)  # it gives out nothing more for a while
    second = start(folder, "--jobs", "1", "--pack", "1", "--join")
    second.wait_for(lambda: len({line["process"] for line in _started(folder)}) == 2)
    os.kill(first.process.pid, signal.SIGCONT)
    for sweep in (first, second):
        code, out, err = sweep.end()
        assert code == 0, err
        assert "[4/4]" in out
    assert_same(folder, undisturbed)
    started = _started(folder)
    assert set(Counter(line["run_id"] for line in started).values()) == {1}
    assert len({line["process"] for line in started}) == 2


@pytest.mark.faults
def test_who_joined_takes_over_from_the_dead(
    start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "x"
    first = start(folder, "--jobs", "2")
    first.wait_for(lambda: b'"epoch"' in _log(folder))
    second = start(folder, "--jobs", "1", "--join")
    second.wait_for(lambda: f'"{second.process.pid} on'.encode() in _log(folder))
    first.kill_all()
    code, _, err = second.end()
    assert code == 0, err
    assert_same(folder, undisturbed)


@pytest.mark.faults
def test_other_options_are_refused_with_the_differences(start: Start, undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    code, _, err = start(undisturbed, "--epochs", "70", "--latents", "5").end()
    assert code == 2
    assert "epochs 30, not 70" in err
    assert "latents 4, not 5" in err
    assert err.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")} == before


@pytest.mark.faults
def test_a_clock_that_jumps_changes_nothing(
    start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    """Files from the future and from 1970, and a log whose times run backwards."""
    folder = tmp_path / "x"
    sweep = start(folder)
    sweep.wait_for_results()
    sweep.kill_all()
    for i, path in enumerate(sorted(folder.rglob("*"))):
        when = (0, 2**32, time.time())[i % 3]
        os.utime(path, (when, when))
    log = Sweep(folder).log
    log.write_text(log.read_text().replace('"time": "20', '"time": "21'))
    assert start(folder).end()[0] == 0
    assert_same(folder, undisturbed)


@pytest.mark.faults
def test_a_loss_that_is_no_number_is_caught_before_the_step(start: Start, tmp_path: Path) -> None:
    """All trials diverge at once at such a learning rate; --fail-fast leaves the others."""
    wild = ("sweep", "--betas", "0.1,1", "--architecture", "mlp", "--epochs", "3", "--lr", "1e19")
    going = start(tmp_path / "a", "--jobs", "1", command=wild)
    code, out, _ = going.end()
    assert (code, out.count("DIVERGED")) == (3, 4)
    frame = numbers(tmp_path / "a")
    failed = frame[frame["status"] == "diverged"]
    assert failed["run_id"].nunique() == 4
    assert failed["reason"].str.contains(r"step \d+$").all()
    for row in failed.itertuples():
        assert int(row.reason.split()[-1]) in (row.step, row.step + 1)  # before, or after an epoch
    fast = start(tmp_path / "b", "--jobs", "1", "--pack", "1", "--fail-fast", command=wild)
    code, out, err = fast.end()
    assert (code, out.count("DIVERGED")) == (3, 1)
    assert "a trial failed; 3 trials not run" in err
    several = start(tmp_path / "c", "--jobs", "4", "--fail-fast", command=wild)
    code, out, err = several.end()  # several fail together: no second stop
    assert code == 3, err
    assert out.count("DIVERGED") >= 1


@pytest.mark.faults
def test_who_joins_does_not_repeat_what_failed(start: Start, tmp_path: Path) -> None:
    wild = ("sweep", "--betas", "0.1,1", "--architecture", "mlp", "--epochs", "3", "--lr", "1e19")
    folder = tmp_path / "x"
    first = start(folder, "--jobs", "1", command=wild)
    first.wait_for((folder / "log.jsonl").exists)
    second = start(folder, "--jobs", "1", "--join", command=wild)
    assert first.end()[0] == second.end()[0] == 3
    started = [line["run_id"] for line in _started(folder)]
    assert len(started) == len(set(started)) == 4


def test_a_lock_that_a_dead_process_left_holds_nobody(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("process 1 on another-machine\n")
    (tmp_path / "claims").write_text("")
    assert not locks.is_locked(tmp_path)
    with locks.locked(tmp_path), locks.claimed(tmp_path / "claims", ["a"]) as mine:
        assert mine


def test_what_a_dead_writer_left_is_cleared_and_a_living_ones_is_not(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    for name in ("results", "partial"):
        (tmp_path / name).mkdir()
    program = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from rdkit_vae.system import files\n"
        "os.fsync = lambda descriptor: (print('writing', flush=True), time.sleep(60))\n"
        "files.write_atomic(Path(sys.argv[1]) / 'results' / 'a', b'data')\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE
    )
    with writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        (part,) = (tmp_path / "partial").iterdir()
        with locks.locked(tmp_path):
            assert part.exists()
        writer.send_signal(signal.SIGKILL)
    with locks.locked(tmp_path):
        assert not part.exists()
    assert not (tmp_path / "results" / "a").exists()


def _log(folder: Path) -> bytes:
    log = Sweep(folder).log
    return log.read_bytes() if log.exists() else b""


def _started(folder: Path) -> list[dict[str, object]]:
    """The log's lines that tell of a trial's start."""
    lines = [line for line in _log(folder).splitlines() if b'"started"' in line]
    return [json.loads(line) for line in lines]
