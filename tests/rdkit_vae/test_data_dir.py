"""Where a sweep found its images is remembered: later commands find them again by themselves."""

import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rdkit_vae.datasets import IDX_IMAGES
from rdkit_vae.evaluation import checkpoints

Run = Callable[..., subprocess.CompletedProcess[str]]


def _write_idx(folder: Path, seed: int = 0) -> None:
    """MNIST in small."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for name, count in zip(IDX_IMAGES.values(), (60, 20), strict=True):
        pixels = rng.integers(0, 256, (count, 6, 5), np.uint8)
        data = struct.pack(">4I", 0x803, *pixels.shape) + pixels.tobytes()
        (folder / name).write_bytes(data)


@pytest.fixture(scope="module")
def trained(rdvae: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data`, and a sweep on it in `runs/x` that was told so."""
    home = tmp_path_factory.mktemp("home")
    _write_idx(home / "data")
    done = rdvae(
        *("sweep", "--dataset", "mnist", "--data-dir", "data", "--betas", "0.1,1"),
        *("--architecture", "linear", "--latents", "2", "--epochs", "1", "--draws", "1"),
        *("--out", "runs/x"),
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of its own."""
    monkeypatch.setenv("RDVAE_DATA", "")
    checkpoints._load.cache_clear()  # a command's images, kept for its process
    home = tmp_path / "home"
    shutil.copytree(trained, home)
    asked = home / "runs" / "x" / "sweep.json"
    held = json.loads(asked.read_text())
    assert held["data_dir"] == str(trained / "data")
    asked.write_text(json.dumps({**held, "data_dir": str(home / "data")}))
    return home


def _checkpoint(home: Path) -> Path:
    return min((home / "runs" / "x" / "checkpoints").glob("*/epoch=*.pt"))


def test_pictures_scores_and_repairs_need_no_data_dir(
    main: Run, home: Path, tmp_path: Path
) -> None:
    """From another folder, too."""
    done = main("sample", home / "runs" / "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scores = tmp_path / "scores.csv"
    done = main("rescore", "--evaluate", "--out", scores, _checkpoint(home), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(home / "runs" / "x" / "results")
    row = frame[(frame["run_id"] == _checkpoint(home).parent.name) & (frame["split"] == "test")]
    again = pd.read_csv(scores)
    again = again[again["split"] == "test"]
    np.testing.assert_allclose(again["elbo"], row["elbo"], rtol=1e-6)
    shutil.rmtree(home / "runs" / "x" / "statistics")
    done = main("verify", "--repair", home / "runs" / "x", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "measured again" in done.stdout


def test_what_the_user_says_wins(
    main: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others' images are refused by their fingerprint, wherever they were named."""
    _write_idx(tmp_path / "others", seed=1)
    command = ("rescore", "--evaluate", _checkpoint(home))
    said = main(*command, "--data-dir", tmp_path / "others", cwd=tmp_path)
    assert said.returncode == 4
    assert "images have changed" in said.stderr
    elsewhere = tmp_path / "elsewhere"
    (home / "data").rename(elsewhere)
    assert main(*command, cwd=tmp_path).returncode == 4
    assert main(*command, "--data-dir", elsewhere, cwd=tmp_path).returncode == 0
    monkeypatch.setenv("RDVAE_DATA", str(elsewhere))
    assert main(*command, cwd=tmp_path).returncode == 0
    elsewhere.rename(home / "data")
    checkpoints._load.cache_clear()
    monkeypatch.setenv("RDVAE_DATA", str(tmp_path / "others"))
    assert "images have changed" in main(*command, cwd=tmp_path).stderr
    monkeypatch.setenv("RDVAE_DATA", str(tmp_path))  # where there are none
    assert main(*command, cwd=tmp_path).returncode == 0


def test_images_that_are_gone_are_said_once(main: Run, home: Path, tmp_path: Path) -> None:
    """Not for each of the four checkpoints."""
    shutil.rmtree(home / "data")
    done = main("sample", home / "runs", cwd=tmp_path)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"not found in {home / 'data'}; use --data-dir" in done.stderr
    assert done.stderr.endswith("; so do 3 other checkpoints\n")
    shutil.rmtree(home / "runs" / "x" / "statistics")
    repaired = main("verify", "--repair", home / "runs", cwd=tmp_path)
    assert repaired.returncode == 4
    assert (repaired.stdout + repaired.stderr).count("not found in") == 1


@pytest.mark.parametrize("folder", [None, 7, "", "a\x1b[2Jb", ["x"], "/dev/null", "x" * 5000])
def test_a_folder_that_is_none_is_not_taken(
    folder: object, main: Run, home: Path, tmp_path: Path
) -> None:
    asked = home / "runs" / "x" / "sweep.json"
    asked.write_text(json.dumps({**json.loads(asked.read_text()), "data_dir": folder}))
    done = main("rescore", "--evaluate", _checkpoint(home), cwd=tmp_path)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr
    assert "use --data-dir" in done.stderr
