import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from rdkit_vae.cli import COMMANDS
from rdkit_vae.grammar import SIGMAS

Run = Callable[..., subprocess.CompletedProcess[str]]
HEAVY = {"torch", "numpy", "pandas", "pyarrow", "matplotlib", "scipy", "seaborn", "rich"}


def _imported(*arguments: str | Path, **env: str) -> set[str]:
    """Top-level modules that a command has imported when it ends."""
    program = (
        "import sys\n"
        "sys.argv = ['rdvae', *sys.argv[1:]]\n"
        "from rdkit_vae.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    pass\n"
        "print('MODULES', *{name.partition('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **env},
    )
    return set(done.stdout.rpartition("MODULES")[2].split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        *([command, "--help"] for command in COMMANDS),
        ["sweep", "--betas", "1..0"],
        ["sweep", "--dataset", "nope"],
        ["sweep", "--objectives", "nope"],
        ["sweep", "--architecture", "nope"],
        ["sweep", "--out", "/dev/null/x"],
        ["rescore", "--sigma", "nope", "x.pt"],
        ["plot-rd", "runs", "--xlim", "3"],
        ["nope"],
        ["datasets"],
    ],
)
def test_help_and_usage_errors_import_nothing_heavy(arguments: list[str]) -> None:
    assert not _imported(*arguments) & HEAVY


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_text_has_an_example(rdvae: Run, command: str) -> None:
    done = rdvae(command, "--help")
    assert done.returncode == 0
    assert f"rdvae {command}" in done.stdout


def test_plotting_never_imports_torch(sweep_folder: Path, tmp_path: Path) -> None:
    imported = _imported("plot-rd", sweep_folder, "--out", tmp_path / "rd.png")
    assert "matplotlib" in imported
    assert "torch" not in imported
    assert (tmp_path / "rd.png").exists()


def test_rescoring_stored_statistics_never_imports_torch(sweep_folder: Path) -> None:
    imported = _imported("rescore", "--sigma", "all", _checkpoint(sweep_folder))
    assert "pandas" in imported
    assert "torch" not in imported


def _checkpoint(folder: Path, objective: str = "constant") -> Path:
    return sorted((folder / "checkpoints").glob(f"*-{objective}-beta=1-*/epoch=00003.pt"))[0]


BAD = {
    "betas that run backwards": ["--betas", "1..0"],
    "a negative beta": ["--betas", "-1..1"],
    "a beta of zero": ["--betas", "0..1"],
    "not a number": ["--betas", "nan"],
    "infinity": ["--betas", "inf"],
    "underflow": ["--betas", "1e-400"],
    "an underscore": ["--betas", "1_0"],
    "nothing": ["--betas", ""],
    "unknown dataset": ["--dataset", "imagenet"],
    "unknown objective": ["--objectives", "constant,best"],
    "unknown architecture": ["--architecture", "vit"],
    "unknown protocol": ["--protocol", "dirty"],
    "bad seeds": ["--seeds", "0"],
    "too many trials": ["--seeds", "9999", "--betas", "1..10:9999"],
    "bad checkpoints": ["--checkpoints", "sometimes"],
    "no epochs": ["--epochs", "0"],
    "bad rate": ["--lr", "-1"],
    "bad variance": ["--train-sigma2", "0"],
    "useless variance": ["--objectives", "optimal", "--train-sigma2", "1"],
    "bad jobs": ["--jobs", "many"],
    "bad size": ["--image-size", "9"],
    "missing files": ["--dataset", "mnist", "--data-dir", "missing"],
    "missing folder": ["--dataset", "folder:missing"],
    "missing npz": ["--dataset", "npz:missing.npz"],
    "out is a file": ["--out", "/dev/null/x"],
    "unknown option": ["--momentum", "0.9"],
    "batches that are never full": ["--protocol", "paper", "--batch-size", "2000"],
    "a name that is too long": ["--dataset", "npz:" + "x" * 5000],
    "a data folder that is too long": ["--dataset", "mnist", "--data-dir", "x" * 5000],
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_ends_in_one_line_and_trains_nothing(
    what: str, rdvae: Run, tmp_path: Path
) -> None:
    done = rdvae("sweep", *BAD[what], cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("rdvae: ")
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_list_the_known(rdvae: Run) -> None:
    assert "digits, mnist, fashion-mnist, celeba" in rdvae("sweep", "--dataset", "x").stderr
    assert "constant, optimal" in rdvae("sweep", "--objectives", "x").stderr
    assert ", ".join(SIGMAS) in rdvae("rescore", "--sigma", "x", "y.pt").stderr


def test_repeated_betas_are_named_and_run_once(rdvae: Run, tmp_path: Path) -> None:
    done = rdvae(
        *("sweep", "--betas", "1,1.0,0.1", "--architecture", "linear", "--objectives", "optimal"),
        *("--dry-run", "--out", tmp_path / "x"),
    )
    assert done.returncode == 0, done.stderr
    assert "beta 1 was given more than once" in done.stderr
    assert "2 trials, 2 to run" in done.stdout


def test_a_dry_run_lists_and_estimates_and_writes_nothing(
    rdvae: Run, small_sweep: tuple[str, ...], tmp_path: Path
) -> None:
    done = rdvae(*small_sweep, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("left ") == 12
    assert "12 trials, 12 to run into runs/digits-linear" in done.stdout
    assert "MB of disk" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_ends_with_the_table_of_elbos(
    rdvae: Run, small_sweep: tuple[str, ...], sweep_folder: Path
) -> None:
    done = rdvae(*small_sweep, "--out", sweep_folder)
    lines = [line.split() for line in done.stdout.splitlines()]
    header = next(line for line in lines if line[:1] == ["objective"])
    assert header[-6:] == list(SIGMAS)
    frame = pd.read_parquet(sweep_folder / "results")
    chosen = frame[
        (frame["objective"] == "optimal")
        & (frame["beta"] == 1)
        & (frame["split"] == "test")
        & (frame["epoch"] == 3)
        & (frame["sigma"] == "shared")
    ]
    row = next(line for line in lines if line[:2] == ["optimal", "1"])
    assert row[header.index("shared")] == f"{chosen['elbo'].mean():.2f}"
    assert row[header.index("own")] == "-"


def test_datasets_says_what_is_found_where(rdvae: Run, tmp_path: Path) -> None:
    done = rdvae("datasets", "--data-dir", tmp_path)
    assert done.returncode == 0
    assert "digits.npz" in done.stdout
    assert "not found; to get it: put the IDX files" in done.stdout


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json"])
def test_rescore_gives_the_rows_of_the_sweep(
    rdvae: Run, sweep_folder: Path, tmp_path: Path, suffix: str
) -> None:
    checkpoint, out = _checkpoint(sweep_folder), tmp_path / f"scores.{suffix}"
    done = rdvae("rescore", "--sigma", "all", "--sigma", "constant:0.5", "--out", out, checkpoint)
    assert done.returncode == 0, done.stderr
    readers = {"parquet": pd.read_parquet, "csv": pd.read_csv, "json": pd.read_json}
    found = readers[suffix](out).set_index(["split", "sigma"])
    frame = pd.read_parquet(sweep_folder / "results")
    frame = frame[(frame["run_id"] == checkpoint.parent.name) & (frame["epoch"] == 3)]
    for row in frame.itertuples():
        assert found.loc[(row.split, row.sigma), "elbo"] == pytest.approx(row.elbo, rel=1e-14)
        if row.sigma == "half":
            same = found.loc[(row.split, "constant:0.5"), "elbo"]
            assert same == pytest.approx(row.elbo, rel=1e-14)
    assert len(found) == len(frame) + 2


def test_a_checkpoint_alone_is_evaluated_to_the_same_numbers(
    rdvae: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    checkpoint = _checkpoint(sweep_folder, "optimal")
    alone = tmp_path / "model.pt"
    shutil.copy(checkpoint, alone)
    for path, out in ((checkpoint, "stored.csv"), (alone, "evaluated.csv")):
        assert rdvae("rescore", path, "--out", tmp_path / out).returncode == 0
    stored, evaluated = (pd.read_csv(tmp_path / f"{n}.csv") for n in ("stored", "evaluated"))
    for name in ("rate", "distortion", "elbo", "elbo_se"):
        np.testing.assert_allclose(evaluated[name], stored[name], rtol=1e-6)


def test_statistics_of_a_checkpoint_that_has_changed_are_not_used(
    rdvae: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(sweep_folder, folder)
    checkpoint = _checkpoint(folder)
    content = torch.load(checkpoint, weights_only=True)
    content["model"]["decoder.bias"] += 10
    torch.save(content, checkpoint)
    done = rdvae("rescore", "--sigma", "half", "--out", tmp_path / "new.csv", checkpoint)
    assert done.returncode == 0
    assert "is not the file that" in done.stderr
    new = pd.read_csv(tmp_path / "new.csv")
    rdvae("rescore", "--sigma", "half", "--out", tmp_path / "old.csv", _checkpoint(sweep_folder))
    # Every pixel is off by ten more.
    assert (new["mse"] - pd.read_csv(tmp_path / "old.csv")["mse"]).min() > 50


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut"])
def test_rescore_refuses_what_is_no_checkpoint(rdvae: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    for path in ("x.pt", "missing.pt", "."):
        done = rdvae("rescore", path, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"rdvae: {path}")


def test_a_model_of_no_numbers_is_refused(rdvae: Run, sweep_folder: Path, tmp_path: Path) -> None:
    content = torch.load(_checkpoint(sweep_folder), weights_only=True)
    content["model"]["decoder.bias"] *= float("nan")
    torch.save(content, tmp_path / "x.pt")
    done = rdvae("rescore", tmp_path / "x.pt")
    assert done.returncode == 2
    assert "is not finite" in done.stderr


def test_images_that_moved_are_named_by_the_user(rdvae: Run, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 6, 6), np.uint8)
    np.savez(tmp_path / "here.npz", pixels)
    arguments = ("--architecture", "linear", "--betas", "1", "--epochs", "1", "--out", "x")
    done = rdvae("sweep", "--dataset", "npz:here.npz", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (checkpoint, *_) = (tmp_path / "x" / "checkpoints").rglob("*.pt")
    checkpoint.rename(tmp_path / "moved.pt")
    (tmp_path / "here.npz").rename(tmp_path / "there.npz")
    lost = rdvae("rescore", "moved.pt", cwd=tmp_path)
    assert lost.returncode == 2
    assert "--dataset" in lost.stderr
    found = rdvae("rescore", "moved.pt", "--dataset", "npz:there.npz", cwd=tmp_path)
    assert "evaluated now" in found.stdout
    np.savez(tmp_path / "other.npz", pixels ^ 1)
    other = rdvae("rescore", "moved.pt", "--dataset", "npz:other.npz", cwd=tmp_path)
    assert other.returncode == 2
    assert "images have changed" in other.stderr


def test_a_full_device_on_the_other_side_of_the_screen(rdvae: Run) -> None:
    command = [sys.executable, "-m", "rdkit_vae", "datasets"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "No space left" in done.stderr.splitlines()[0]


def test_a_damaged_statistics_file_is_named_and_done_without(
    rdvae: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(sweep_folder, folder)
    checkpoint = _checkpoint(folder)
    statistics = folder / "statistics" / checkpoint.parent.name / "epoch=00003.parquet"
    statistics.write_bytes(statistics.read_bytes()[:200])
    done = rdvae("rescore", "--sigma", "optimal", checkpoint)
    assert done.returncode == 0
    assert str(statistics) in done.stderr
    assert "optimal" in done.stdout


def test_plot_rd_of_a_folder_of_sweeps(rdvae: Run, sweep_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep_folder, tmp_path / "runs" / "a" / "deep")
    shutil.copytree(sweep_folder, tmp_path / "runs" / "b")
    (tmp_path / "runs" / "b" / "results" / "bad.parquet").write_bytes(b"PAR1")
    done = rdvae(
        *("plot-rd", "runs", "--out", "x.png", "--out", "x.pdf", "--out", "x.svg"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "bad.parquet" in done.stderr
    assert "12 runs lie in more than one place" in done.stderr
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    assert "<svg" in (tmp_path / "x.svg").read_text()
    assert "drew 18 points" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["missing"],
        ["."],
        [".", "--sigma", "best"],
        [".", "--objective", "best"],
        [".", "--ylim", "5,1"],
        [".", "--xlim", "a,b"],
        [".", "--out", "x.docx"],
    ],
)
def test_plot_rd_refuses_in_one_line(rdvae: Run, tmp_path: Path, arguments: list[str]) -> None:
    done = rdvae("plot-rd", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_status_of_no_sweep(rdvae: Run, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        done = rdvae("status", path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1


def test_results_name_the_machine_and_versions(sweep_folder: Path) -> None:
    path = next((sweep_folder / "results").glob("*.parquet"))
    about = json.loads(pq.read_schema(path).metadata[b"about"])
    assert about["environment"]["torch"] == torch.__version__
    assert about["environment"]["threads"] == 1


def test_modules_in_the_working_directory_are_not_imported(rdvae: Run, tmp_path: Path) -> None:
    for name in ("html", "random", "torch", "numpy", "pickle", "struct"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hostile module imported')")
    images = tmp_path / "images"  # more than one process decodes
    images.mkdir()
    for i in range(1030):
        Image.new("L", (4, 4), i % 256).save(images / f"{i}.png")
    arguments = ("sweep", "--betas", "1", "--architecture", "linear", "--epochs", "1")
    arguments += ("--dataset", "folder:images")
    command = [shutil.which("rdvae", path=str(Path(sys.executable).parent)), *arguments]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [*map(str, command), "--out", "x"], cwd=tmp_path, capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr
    assert "hostile" not in done.stdout + done.stderr
