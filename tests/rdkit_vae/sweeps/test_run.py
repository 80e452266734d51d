"""Whole sweeps, run as a user runs them."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import rdkit_vae as rdv
from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.interpretations import SIGMAS
from rdkit_vae.store.evaluations import read_statistics
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.schema import COLUMNS
from rdkit_vae.system.files import sha256_of

Run = Callable[..., subprocess.CompletedProcess[str]]
LONGER = (
    *("sweep", "--betas", "0.1,1", "--architecture", "mlp", "--latents", "4", "--draws", "2"),
    *("--epochs", "60", "--checkpoints", "10", "--jobs", "2"),
)


def _numbers(folder: Path) -> pd.DataFrame:
    frame = pd.read_parquet(folder / "results").drop(columns="created_at")
    return frame.sort_values(["run_id", "epoch", "split", "sigma"]).reset_index(drop=True)


def test_a_row_per_trial_checkpoint_split_and_interpretation(sweep_folder: Path) -> None:
    frame = pd.read_parquet(sweep_folder / "results")
    assert list(frame) == list(COLUMNS)
    runs = {(b, o, s) for b in (0.01, 1, 100) for o in ("constant", "optimal") for s in (0, 1)}
    assert set(zip(frame["beta"], frame["objective"], frame["seed"], strict=True)) == runs
    assert not frame.duplicated(["run_id", "epoch", "split", "sigma"]).any()
    for _, run in frame.groupby("run_id"):
        named = set(SIGMAS) - ({"own"} if run["objective"].iloc[0] == "optimal" else set())
        assert set(run["epoch"]) == {1, 2, 3}
        assert set(run["split"]) == {"train", "test"}
        assert set(run["sigma"]) == named
        assert len(run) == 3 * 2 * len(named)
    assert set(frame["status"]) == {"ok"}
    assert set(frame["n_images"]) == {359}


def test_every_row_follows_from_its_statistics(sweep_folder: Path) -> None:
    frame = pd.read_parquet(sweep_folder / "results")
    sweep = Sweep(sweep_folder)
    np.testing.assert_array_equal(frame["elbo"], -(frame["rate"] + frame["distortion"]))
    for row in frame[frame["sigma"].isin(["half", "shared"])].itertuples():
        statistics, about = read_statistics(sweep.statistics(row.run_id, row.epoch))
        sigma2 = 0.5 if row.sigma == "half" else statistics["train"].sse.mean() / 64
        mean_sse = statistics[row.split].sse.mean()
        expected = mean_sse / (2 * sigma2) + 32 * np.log(2 * np.pi * sigma2)
        assert row.distortion == pytest.approx(expected, rel=1e-12)
        assert row.rate == pytest.approx(statistics[row.split].kl.mean(), rel=1e-14)
        assert about["checkpoint_sha256"] == row.checkpoint_sha256


def test_every_row_is_traced_to_its_checkpoint(sweep_folder: Path) -> None:
    frame = pd.read_parquet(sweep_folder / "results").drop_duplicates(["run_id", "epoch"])
    sweep = Sweep(sweep_folder)
    for row in frame.itertuples():
        assert sha256_of(sweep.checkpoint(row.run_id, row.epoch)) == row.checkpoint_sha256
    written = list((sweep_folder / "checkpoints").rglob("*.pt"))
    assert len(written) == len(frame) == 36


def test_shards_are_together_what_the_whole_is(rdvae: Run, main: Run, tmp_path: Path) -> None:
    """Two at the same time and the third later; the folder is then that of the whole sweep."""
    small = (
        *("sweep", "--betas", "0.1,1,10", "--architecture", "mlp", "--latents", "4"),
        *("--epochs", "2", "--draws", "2", "--jobs", "1", "--pack", "1"),
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert rdvae(*small, "--out", str(whole)).returncode == 0
    at_once = [
        subprocess.Popen(
            [sys.executable, "-m", "rdkit_vae", *small, "--shard", f"{k}/4", "--out", str(parts)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for k in (1, 2)
    ]
    for k, process in enumerate(at_once, 1):
        assert "for 2 of 6 trials (this shard)" in process.communicate(timeout=120)[0]
        assert process.returncode == 0, k
    assert len(list(parts.glob("results/*.parquet"))) == 4
    for k in (3, 4):
        done = rdvae(*small, "--shard", f"{k}/4", "--out", str(parts))
        assert "[1/1]" in done.stdout
        assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(_numbers(parts), _numbers(whole))
    lines = [json.loads(line) for line in (parts / "log.jsonl").read_text().splitlines()]
    assert len([line for line in lines if line["event"] == "started"]) == 6
    assert "6 of 6 done, 0 left" in rdvae(*small, "--out", str(parts)).stdout
    nothing = rdvae(*small, "--shard", "7/7", "--out", str(parts))
    assert nothing.returncode == 0, nothing.stderr
    assert "for 0 of 6 trials (this shard)" in nothing.stdout


def test_in_this_process_it_is_the_same(tmp_path: Path) -> None:
    small = {
        **{"betas": [0.1, 1], "architecture": "linear", "latents": 4, "epochs": 2},
        **{"draws": 2, "pack": 1, "jobs": 1},
    }
    threads = torch.get_num_threads()
    here = rdv.sweep(**small, engine="inline", out=tmp_path / "here")
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    there = rdv.sweep(**small, out=tmp_path / "there")
    made = ["created_at"]
    pd.testing.assert_frame_equal(here.drop(columns=made), there.drop(columns=made))


def test_a_cluster_that_cannot_be_had_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = {"betas": [1], "architecture": "linear", "out": tmp_path / "x"}
    with pytest.raises(BadInput, match="--ray-address and --resources need --engine ray"):
        rdv.sweep(**small, resources="gpu=1")
    with pytest.raises(BadInput, match="unknown engine 'slurm'"):
        rdv.sweep(**small, engine="slurm")
    with pytest.raises(BadInput, match=r"resources 'gpu': must be NAME=AMOUNT"):
        rdv.sweep(**small, engine="ray", resources="gpu")
    with pytest.raises(BadInput, match="with these resources, the workers have cpu"):
        rdv.sweep(**small, engine="ray", device="cuda", resources="cpu=1")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "ray" else found(n))
    with pytest.raises(BadInput, match=r"needs ray: pip install 'rdkit-vae\[ray\]'"):
        rdv.sweep(**small, engine="ray")
    assert not (tmp_path / "x").exists()


def test_what_was_asked_is_recorded(sweep_folder: Path) -> None:
    asked = json.loads((sweep_folder / "sweep.json").read_text())
    assert asked["betas"] == [0.01, 1, 100]
    assert asked["settings"]["epochs"] == 3
    assert asked["data"]["split_rule"].startswith("every fifth")
    assert len(asked["data"]["sha256"]) == 64
    assert len(asked["run_ids"]) == 12
    assert "lock" in {path.name for path in sweep_folder.iterdir()}
    events = [json.loads(line) for line in (sweep_folder / "log.jsonl").read_text().splitlines()]
    ended = [event for event in events if event["event"] == "ended"]
    assert {event["run_id"] for event in ended} == set(asked["run_ids"])
    assert {event["status"] for event in ended} == {"ok"}
    assert sum(event["event"] == "epoch" for event in events) == 12 * 3


def test_the_same_sweep_twice_gives_identical_numbers(
    rdvae: Run, small_sweep: tuple[str, ...], sweep_folder: Path, tmp_path: Path
) -> None:
    done = rdvae(*small_sweep, "--jobs", "1", "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(
        _numbers(sweep_folder), _numbers(tmp_path / "again"), check_exact=True
    )


def test_running_it_again_trains_nothing(
    rdvae: Run, small_sweep: tuple[str, ...], sweep_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(sweep_folder, folder)
    victim = sorted((folder / "results").iterdir())[3]
    victim.unlink()
    before = {path: path.stat().st_mtime_ns for path in (folder / "results").iterdir()}
    done = rdvae(*small_sweep, "--out", folder)
    assert "11 of 12 done, 1 left" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    pd.testing.assert_frame_equal(_numbers(folder), _numbers(sweep_folder), check_exact=True)


def test_grouping_changes_no_number(
    rdvae: Run, small_sweep: tuple[str, ...], sweep_folder: Path, tmp_path: Path
) -> None:
    """To the last bit, with networks whose layers fill the registers of a processor."""
    folder = tmp_path / "alone"
    done = rdvae(*small_sweep, "--pack", "1", "--out", folder)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(_numbers(folder), _numbers(sweep_folder), check_exact=True)
    told = [
        json.loads(path.joinpath("log.jsonl").read_text().splitlines()[0])
        for path in (folder, sweep_folder)
    ]
    assert told[0]["pack"] == 1
    assert told[1]["pack"] > 1


def test_precision_is_part_of_a_trial_and_of_its_device(
    main: Run, small_sweep: tuple[str, ...], tmp_path: Path
) -> None:
    refused = main(*small_sweep, "--precision", "tf32", "--device", "cpu", cwd=tmp_path)
    assert refused.returncode == 2
    assert "tf32 needs a GPU" in refused.stderr
    unknown = main(*small_sweep, "--precision", "fp8", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "known: float32, tf32, bf16" in unknown.stderr
    done = main(
        "sweep", "--betas", "1", "--objectives", "optimal", "--architecture", "linear",
        *("--latents", "2", "--epochs", "1", "--draws", "1", "--precision", "bf16"),
        *("--out", tmp_path / "half"), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(pd.read_parquet(tmp_path / "half" / "results")["run_id"].str.contains("-bf16-")) == {
        True
    }


@pytest.mark.parametrize("what", ["results", "newer"])
def test_results_that_cannot_be_read_are_not_trained_over(
    what: str, main: Run, small_sweep: tuple[str, ...], sweep_folder: Path, tmp_path: Path
) -> None:
    """Days of training may stand behind them; the statistics can make them again."""
    folder = tmp_path / "copy"
    shutil.copytree(sweep_folder, folder)
    path = min((folder / "results").iterdir())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)
    if what == "newer":
        asked = json.loads((folder / "sweep.json").read_text())
        (folder / "sweep.json").write_text(json.dumps({**asked, "schema": 999}))
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "lock"}
    done = main(*small_sweep, "--out", folder, cwd=tmp_path)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    advice = "upgrade rdvae" if what == "newer" else f"rdvae verify --repair {folder}"
    assert advice in done.stderr
    assert {p: p.read_bytes() for p in before} == before
    if what != "newer":
        assert main("verify", "--repair", folder, cwd=tmp_path).returncode == 0
        assert "12 of 12 done, 0 left" in main(*small_sweep, "--out", folder, cwd=tmp_path).stdout


def test_another_sweep_in_the_same_folder_is_refused(
    rdvae: Run, small_sweep: tuple[str, ...], sweep_folder: Path
) -> None:
    for dry in ([], ["--dry-run"]):
        done = rdvae(*small_sweep, "--epochs", "4", "--out", sweep_folder, *dry)
        assert done.returncode == 2
        assert "epochs 3, not 4" in done.stderr
        assert done.stderr.count("\n") == 1


def _start(folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "rdkit_vae", *LONGER, "--out", str(folder)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        start_new_session=True,
    )


def _wait_for_checkpoint(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not list(folder.glob("results/*.parquet")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(rdvae: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long") / "undisturbed"
    done = rdvae(*LONGER, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_sweep_killed_with_all_its_processes_goes_on_bit_for_bit(
    rdvae: Run, undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    running = _start(folder)
    _wait_for_checkpoint(folder)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    states = rdvae("status", folder).stdout
    assert "0 running, 0 failed" in states
    assert "4 of 4 done" not in states
    done = rdvae(*LONGER, "--out", folder)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(_numbers(folder), _numbers(undisturbed), check_exact=True)
    assert rdvae("status", folder).stdout.startswith(f"{folder}: 4 of 4 done")


def test_a_diverged_trial_is_a_row_and_the_sweep_goes_on(rdvae: Run, tmp_path: Path) -> None:
    folder = tmp_path / "wild"
    arguments = ("sweep", "--betas", "1", "--architecture", "linear", "--epochs", "3")
    done = rdvae(*arguments, "--lr", "1e30", "--out", folder)
    assert done.returncode == 3, done.stderr
    assert "DIVERGED" in done.stdout
    assert "left out 2 runs that diverged" in done.stderr
    assert "none of 2 trials has finished" in done.stdout
    frame = pd.read_parquet(folder / "results")
    assert set(frame["status"]) == {"diverged"}
    assert frame["elbo"].isna().all()
    status = rdvae("status", folder).stdout
    assert "2 failed, 0 left" in status
    assert status.count("weights are not finite") + status.count("loss is") == 2
    drawn = rdvae("plot-rd", folder, "--out", tmp_path / "rd.png")
    assert drawn.returncode == 2
    assert "2 runs that diverged" in drawn.stderr
    assert not (tmp_path / "rd.png").exists()
