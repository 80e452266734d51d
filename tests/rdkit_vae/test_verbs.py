"""What the commands do, as functions of the library."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rdkit_vae as rdv
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData, BadInput

from ..conftest import Run

ASKED = {
    "betas": [0.1, 1.0],
    "objectives": ["optimal"],
    "architecture": "linear",
    "latents": 2,
    "epochs": 2,
    "draws": 2,
    "checkpoints": "last",
}
NOT_NUMBERS = ["created_at"]


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    keys = ["run_id", "epoch", "split", "sigma"]
    return frame.sort_values(keys).reset_index(drop=True).drop(columns=NOT_NUMBERS)


def test_a_sweep_in_python_is_that_of_the_command(rdvae: Run, tmp_path: Path) -> None:
    events = []
    frame = rdv.sweep(**ASKED, out=tmp_path / "python", progress=events.append)
    done = rdvae(
        "sweep", "--betas", "0.1,1", "--objectives", "bs-vae", "--architecture", "linear",
        *("--latents", "2", "--epochs", "2", "--draws", "2", "--checkpoints", "last"),
        *("--out", tmp_path / "command"), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    command = pd.read_parquet(tmp_path / "command" / "results")
    pd.testing.assert_frame_equal(_sorted(frame), _sorted(command), check_dtype=False)
    kinds = [event.kind for event in events]
    assert kinds[0] == "opened"
    assert len(events[0].left) == 2
    assert (kinds.count("started"), kinds.count("epoch"), kinds.count("ended")) == (2, 4, 2)
    assert {path.name for path in (tmp_path / "python").iterdir()} == {
        path.name for path in (tmp_path / "command").iterdir()
    }


def test_the_same_call_again_trains_nothing(tmp_path: Path) -> None:
    first = rdv.sweep(**ASKED, out=tmp_path / "runs")
    events = []
    again = rdv.sweep(**ASKED, out=tmp_path / "runs", progress=events.append)
    pd.testing.assert_frame_equal(first, again)
    assert [event.kind for event in events] == ["opened"]
    with pytest.raises(BadInput, match="holds another sweep"):
        rdv.sweep(**{**ASKED, "epochs": 3}, out=tmp_path / "runs")


def test_numbers_may_be_those_of_numpy(tmp_path: Path) -> None:
    asked = {**ASKED, "betas": np.array([0.1, 1.0]), "seeds": np.arange(1), "checkpoints": 1}
    frame = rdv.sweep(**asked, out=tmp_path / "runs")
    assert sorted(frame["epoch"].unique()) == [1, 2]
    assert len(rdv.sweep(**{**ASKED, "betas": 0.1}, out=tmp_path / "one")) < len(frame)


def test_sweeps_in_several_threads_leave_the_process_as_it_was(tmp_path: Path) -> None:
    before = sys.modules["__main__"], os.environ.get("PYTHONSAFEPATH")
    threads = [
        threading.Thread(target=rdv.sweep, kwargs={**ASKED, "out": tmp_path / str(i), "jobs": 2})
        for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=200)
    assert (sys.modules["__main__"], os.environ.get("PYTHONSAFEPATH")) == before
    assert all(len(list((tmp_path / str(i) / "results").iterdir())) == 2 for i in range(3))


def test_a_sweep_may_run_in_any_thread(tmp_path: Path) -> None:
    """Only the main thread can have handlers of signals."""
    frames: list[pd.DataFrame] = []

    def run() -> None:
        frames.append(rdv.sweep(**ASKED, out=tmp_path / "runs"))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=120)
    assert len(frames) == 1


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    """Its workers do not run it again."""
    (tmp_path / "script.py").write_text(
        "import rdkit_vae as rdv\n"
        f"frame = rdv.sweep(**{ASKED!r}, jobs=2, out='runs')\n"
        "print('ran', frame['run_id'].nunique())\n"
    )
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "ran 2\n"), done.stderr


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"betas": []}, "at least one beta"),
        ({"betas": [-1.0]}, "beta must be positive, got -1.0"),
        ({"betas": "1..0.1"}, "must run from the smaller"),
        ({"objectives": ["optimall"]}, r"did you mean optimal\?"),
        ({"seeds": 0}, "the number of seeds"),
        ({"epochss": 3}, "unknown setting epochss"),
        ({"precision": "tf32"}, "needs a GPU"),
        ({"jobs": 0}, "jobs must be at least 1, got 0"),
        ({"pack": -1}, "pack must be at least 1, got -1"),
        ({"seed": 1}, "a sweep takes seeds, not seed"),
        ({"paired": True}, "leave out the objectives"),
    ],
)
def test_what_cannot_be_swept_is_refused(
    asked: dict[str, object], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=reason):
        rdv.sweep(**{**ASKED, **asked}, out=tmp_path / "runs", device="cpu")
    assert not (tmp_path / "runs").exists()


def test_rescoring_is_that_of_the_command(
    sweep_folder: Path, rdvae: Run, tmp_path: Path, digits: Images
) -> None:
    paths = sorted(sweep_folder.glob("checkpoints/*/epoch=00003.pt"))[:2]
    out = tmp_path / "rows.parquet"
    sigmas = ["shared", "constant:0.02"]
    frame = rdv.rescore(paths, sigma=sigmas)
    done = rdvae("rescore", *(f"--sigma={s}" for s in sigmas), *paths, "--out", out)
    assert done.returncode == 0, done.stderr
    columns = [name for name in frame if name not in NOT_NUMBERS]
    expected = pd.read_parquet(out)[columns]
    pd.testing.assert_frame_equal(frame[columns], expected, check_dtype=False)
    # Away from its sweep a checkpoint is evaluated, here on images that are given.
    moved = tmp_path / "moved.pt"
    shutil.copy(paths[0], moved)
    evaluated = rdv.rescore(moved, sigma=sigmas, images=digits)
    stored = rdv.rescore(paths[0], sigma=sigmas)
    pd.testing.assert_frame_equal(evaluated[columns], stored[columns])
    other = Images(name="npz:x", train=digits.test, test=digits.train, split_rule="other")
    with pytest.raises(BadData, match="the images have changed"):
        rdv.rescore(moved, images=other)


def test_stored_statistics_are_rescored_without_torch(sweep_folder: Path) -> None:
    path = next(sweep_folder.glob("checkpoints/*/epoch=00003.pt"))
    code = (
        "import sys, rdkit_vae as rdv\n"
        f"rows = rdv.rescore({str(path)!r}, sigma='shared')\n"
        "assert len(rows) == 2 and 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_scores_become_a_table(sweep_folder: Path, digits: Images) -> None:
    path = next(sweep_folder.glob("checkpoints/*/epoch=00003.pt"))
    checkpoint = rdv.load_checkpoint(path)
    statistics = rdv.evaluate(checkpoint.model(), digits, checkpoint.trial)
    frame = rdv.score(statistics, checkpoint.trial, sigmas=["optimal", "shared"]).to_frame()
    rows = rdv.rescore(path, sigma=["optimal", "shared"])
    pd.testing.assert_series_equal(frame["elbo"], rows["elbo"])
    results = rdv.load_results(sweep_folder)
    assert set(rows["run_id"]) <= set(results["run_id"])
