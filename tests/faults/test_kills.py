"""Killed at any moment, a sweep goes on by the same command, and nothing differs in the end."""

import json
import os
import platform
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from rdkit_vae.store.paths import Sweep

from .conftest import SWEEP, Start, assert_same, numbers

KILLS = 20


@pytest.mark.faults
def test_twenty_kills_of_the_whole_tree_at_random_moments(
    start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    rng, kills, sweeps = random.Random(5), 0, 0
    while kills < KILLS:
        folder = tmp_path / str(sweeps)
        sweep = start(folder)
        while kills < KILLS:
            moment = time.monotonic() + rng.uniform(0.2, 5.0)
            while time.monotonic() < moment and sweep.process.poll() is None:
                time.sleep(0.01)
            if sweep.process.poll() is not None:
                break
            sweep.kill_all()
            kills += 1
            sweep = start(folder)
        assert sweep.end()[0] == 0
        assert_same(folder, undisturbed)
        sweeps += 1


# Where a process is killed while it commits a checkpoint: at which calls of which function.
MOMENTS = [
    *(
        f"rdkit_vae.sweeps.runner.{function}:{when}:{n}"
        for function in ("write_atomic", "save_resume_file")  # a checkpoint; a resume file
        for when in ("before", "after")
        for n in (1, 3)
    ),
    *(f"rdkit_vae.sweeps.runner.write_evaluation:after:{n}" for n in (1, 3)),
    *(f"rdkit_vae.sweeps.runner.write_results:after:{n}" for n in (1, 4)),
    *(f"os.fsync:before:{n}" for n in range(2, 15)),
    *(f"pathlib.Path.replace:{when}:{n}" for when in ("before", "after") for n in range(2, 9)),
    "pathlib.Path.unlink:before:1",
]
PROGRAM = Path(__file__).with_name("killed_trial.py")


@pytest.mark.faults
def test_killed_between_checkpoint_statistics_and_commit(tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM), str(tmp_path), *MOMENTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    folders = [path for path in tmp_path.iterdir() if path.name != "undisturbed"]
    assert len(folders) == len(MOMENTS)
    for folder in folders:
        assert_same(folder, tmp_path / "undisturbed")


@pytest.mark.faults
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, "memory"])
def test_a_worker_that_dies_three_times_costs_its_trial_only(
    how: "signal.Signals | str", start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    sweep = start(tmp_path / "x", "--jobs", "1", "--pack", "1")
    sweep.wait_for_results()
    (path, *_) = (tmp_path / "x" / "results").iterdir()
    assert b'"ended"' not in _added(sweep.folder, 0)  # it is the first trial that is at work
    victims: list[int] = []
    while len(victims) < 3:
        sweep.wait_for(lambda: set(sweep.workers()) - set(victims))
        (worker,) = set(sweep.workers()) - set(victims)
        if how == "memory":  # once it trains; before, Python itself cannot start
            starts = len(victims) + 1
            sweep.wait_for(lambda: _added(sweep.folder, 0).count(b'"started"') == starts)  # noqa: B023
            used = _virtual_memory(worker)
            resource.prlimit(worker, resource.RLIMIT_AS, (used // 2, used // 2))
        else:
            os.kill(worker, how)
        victims.append(worker)
        sweep.wait_for(lambda: victims[-1] not in sweep.workers())
    code, out, err = sweep.end()
    assert code == 3
    assert out.count("tried again") == 2
    assert "Traceback" not in err
    frame = numbers(tmp_path / "x")
    crashed = frame[frame["status"] == "crashed"]
    assert set(crashed["run_id"]) == {path.stem}
    assert (set(frame["run_id"])) == set(numbers(undisturbed)["run_id"])
    (reason,) = set(crashed["reason"])
    assert reason.endswith(", 3 times")
    if how != "memory":
        assert signal.Signals(how).name in reason
    # What it had reached is kept, and the same command leaves it alone until it is told to.
    assert (frame[frame["run_id"] == path.stem]["status"] == "ok").any()
    again = start(tmp_path / "x").end()
    assert again[0] == 3
    assert "3 of 4 done, 1 failed (retry with --retry-failed), 0 left" in again[1]
    assert start(tmp_path / "x", "--retry-failed").end()[0] == 0
    assert_same(tmp_path / "x", undisturbed)


@pytest.mark.faults
def test_a_group_whose_worker_dies_goes_on_one_by_one(
    start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    """Any of its trials may be why, so none is blamed; only one that dies alone is."""
    sweep = start(tmp_path / "x", "--jobs", "1", "--pack", "4")
    sweep.wait_for_results()
    os.kill(sweep.workers()[0], signal.SIGSEGV)
    code, out, err = sweep.end()
    assert code == 0
    assert out.count("tried again: its process was killed by SIGSEGV") == 4
    assert "Traceback" not in err
    events = [json.loads(line)["event"] for line in _added(tmp_path / "x", 0).splitlines()]
    first = events.index("retried")
    assert events[:first].count("started") == 4
    again = [event for event in events[first:] if event in ("started", "ended")]
    assert again == 4 * ["started", "ended"]
    assert_same(tmp_path / "x", undisturbed)


def _virtual_memory(pid: int) -> int:
    """Bytes of address space."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return pages * resource.getpagesize()


@pytest.mark.faults
def test_a_worker_killed_once_is_not_noticed_in_the_results(
    start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    sweep = start(tmp_path / "x", "--jobs", "2")
    sweep.wait_for_results()
    os.kill(sweep.workers()[0], signal.SIGKILL)
    code, out, _ = sweep.end()
    assert code == 0
    assert "tried again: its process was killed by SIGKILL" in out
    assert_same(tmp_path / "x", undisturbed)


@pytest.mark.faults
def test_nothing_is_lost_of_what_a_worker_said_before_it_died(
    start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    """The parent sleeps while its worker reports and is killed; it must still see the end.

    A file that the worker had begun to write is removed.
    """
    sweep = start(tmp_path / "x", "--jobs", "2")
    sweep.wait_for_results()
    os.kill(sweep.process.pid, signal.SIGSTOP)
    time.sleep(0.5)
    worker = sweep.workers()[0]
    begun = tmp_path / "x" / "partial" / f"0.pt.{platform.node()}-{worker}.part"
    begun.touch()
    os.kill(worker, signal.SIGKILL)
    os.kill(sweep.process.pid, signal.SIGCONT)
    assert sweep.end()[0] == 0
    assert_same(tmp_path / "x", undisturbed)


@pytest.mark.faults
def test_a_scheduler_that_ends_all_processes_at_once_blames_no_trial(
    start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    """As timeout, systemd and Slurm do it: SIGTERM to the whole group."""
    sweep = start(tmp_path / "x")
    sweep.wait_for_results()
    os.killpg(sweep.process.pid, signal.SIGTERM)
    code, _, err = sweep.end()
    assert code == 130
    assert "0 failed" in err or "failed" not in err
    assert list((tmp_path / "x").glob("checkpoints/*/resume.pt"))
    assert start(tmp_path / "x").end()[0] == 0
    assert_same(tmp_path / "x", undisturbed)


@pytest.mark.faults
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_sweep(how: signal.Signals, start: Start, tmp_path: Path) -> None:
    sweep = start(tmp_path / "x")
    sweep.wait_for_results()
    os.kill(sweep.process.pid, how)
    assert sweep.end()[0] == (130 if how == signal.SIGTERM else -9)


LAST_ONLY = (*SWEEP[: SWEEP.index("--checkpoints")], "--checkpoints", "last")


@pytest.mark.faults
def test_ctrl_c_once_writes_where_it_is_and_tells_how_to_go_on(
    start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    """In the middle of an epoch, far from any checkpoint; three times over."""
    folder = tmp_path / "x"
    steps = [0]
    for _ in range(3):
        sweep = start(folder, command=LAST_ONLY)
        sweep.wait_for(lambda: b'"epoch"' in _added(folder, steps[0]))
        os.kill(sweep.process.pid, signal.SIGINT)
        code, _, err = sweep.end()
        assert code == 130
        assert f"rdvae: to continue: rdvae {' '.join(LAST_ONLY)}" in err
        assert "0 of 4 done" in err
        assert list((folder / "checkpoints").rglob("resume.pt"))
        assert not (folder / "results").exists()
        steps[0] = Sweep(folder).log.stat().st_size
    assert start(folder, command=LAST_ONLY).end()[0] == 0
    last = numbers(undisturbed)
    columns = ["objective", "beta", "split", "sigma", "rate", "distortion", "elbo", "mse", "step"]
    found = numbers(folder)
    assert set(found["epoch"]) == {30}
    pd.testing.assert_frame_equal(  # only the name of the run hangs on its checkpoints
        found[columns].sort_values(columns[:4], ignore_index=True),
        last.loc[last["epoch"] == 30, columns].sort_values(columns[:4], ignore_index=True),
        check_exact=True,
    )
    assert not list((folder / "checkpoints").rglob("resume.pt"))


def _added(folder: Path, size: int) -> bytes:
    log = Sweep(folder).log
    return log.read_bytes()[size:] if log.exists() else b""


@pytest.mark.faults
def test_ctrl_c_twice_stops_at_once(start: Start, undisturbed: Path, tmp_path: Path) -> None:
    sweep = start(tmp_path / "x")
    sweep.wait_for_results()
    for pid in sweep.workers():  # they cannot finish their step
        os.kill(pid, signal.SIGSTOP)
    os.kill(sweep.process.pid, signal.SIGINT)
    time.sleep(0.5)
    assert sweep.process.poll() is None
    os.kill(sweep.process.pid, signal.SIGINT)
    code, _, err = sweep.end()
    assert code == 130
    assert "stopped at once; to continue: rdvae sweep" in err
    assert start(tmp_path / "x").end()[0] == 0
    assert_same(tmp_path / "x", undisturbed)


@pytest.mark.faults
def test_ctrl_c_before_the_workers_have_begun(start: Start, tmp_path: Path) -> None:
    """Whatever the moment since it took the folder: exit code 130, some lines, no process left."""
    for i, delay in enumerate((0.0, 0.2, 0.6, 1.2, 2.0)):
        sweep = start(tmp_path / str(i))
        sweep.wait_for((tmp_path / str(i) / "lock").exists)
        time.sleep(delay)
        os.killpg(sweep.process.pid, signal.SIGINT)  # as a terminal does
        code, _, err = sweep.end()
        assert code == 130, err
        assert "Traceback" not in err
        assert "to continue: rdvae sweep" in err


@pytest.mark.faults
def test_ctrl_c_while_failed_trials_are_tried_again(start: Start, tmp_path: Path) -> None:
    """The same command tries those again that it did not come to."""
    wild = ("sweep", "--betas", "0.1,1", "--architecture", "mlp", "--epochs", "3", "--lr", "1e19")
    folder = tmp_path / "x"
    assert start(folder, command=wild).end()[0] == 3
    again = start(folder, "--retry-failed", "--jobs", "1", command=wild)
    again.wait_for(lambda: _added(folder, 0).count(b"sweep started") == 2)
    os.kill(again.process.pid, signal.SIGINT)
    code, out, err = again.end()
    assert "0 of 4 done, 4 failed (to be run again), 4 left" in out
    assert code == 130
    assert "to continue: rdvae sweep" in err
    assert "--retry-failed" in err
