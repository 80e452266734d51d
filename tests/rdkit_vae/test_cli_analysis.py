"""The commands that draw and tabulate, run as a user runs them."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rdkit_vae.store.results import read_results, write_results
from rdvae_analysis.figures import FIGURES

Run = Callable[..., subprocess.CompletedProcess[str]]
PLOTS = [["plot", name] for name in ("rd", *FIGURES)]


@pytest.mark.parametrize("command", [["plot-rd"], *PLOTS, ["table"]])
def test_never_imports_torch(
    command: list[str],
    sweep_folder: Path,
    tmp_path: Path,
    imported_by: Callable[..., set[str]],
) -> None:
    out = tmp_path / "x.png"
    imported = imported_by(*command, sweep_folder, "--out", out)
    assert "pandas" in imported
    assert "torch" not in imported
    assert out.exists()


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_in_every_format(
    name: str, main: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    files = [f"x.{kind}" for kind in ("png", "pdf", "svg")]
    done = main(
        *("plot", name, sweep_folder, "--columns", "1"),
        *(part for file in files for part in ("--out", file)),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"drew 12 models: {file}" for file in files]
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert b"FontFile2" in (tmp_path / "x.pdf").read_bytes()
    assert (tmp_path / "x.svg").read_text().startswith("<?xml")


def test_pictures_are_made_and_drawn(main: Run, sweep_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep_folder, tmp_path / "small")
    done = main("plot", "samples", "small", cwd=tmp_path)
    assert done.returncode == 4
    assert done.stderr == "rdvae: small: no pictures in it; make them with 'rdvae sample small'\n"
    made = main("sample", "small", cwd=tmp_path).stdout
    folder = tmp_path / "small" / "samples"
    told = f"pictures of 12 checkpoints, seed 0: {folder}\nDraw them: rdvae plot samples small\n"
    assert made == told
    one = next((tmp_path / "small" / "checkpoints").glob("*/epoch=00003.pt"))
    said = main("sample", one, "--out", "one", cwd=tmp_path).stdout
    (picture,) = (tmp_path / "one").iterdir()
    assert f"pictures of 1 checkpoint, seed 0: one/{picture.name}\n" in said
    (drawing,) = re.findall("Draw them: rdvae (.*)", said)
    assert main(*drawing.split(), cwd=tmp_path).stdout == "drew 1 model: figures/samples.png\n"
    done = main("plot", "samples", "small", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == "rdvae: left out the pictures of 6 checkpoints with other seeds\n"
    assert done.stdout == "drew 6 models: figures/samples.png\n"  # of two seeds, the first
    assert "12 runs" not in main("plot-rd", "small", cwd=tmp_path).stderr


def test_setups_are_drawn_apart(main: Run, sweep_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep_folder / "results", tmp_path / "runs" / "results")
    for path in (tmp_path / "runs" / "results").iterdir():
        rows = [
            row | {"setup": "other", "run_id": row["run_id"] + "x"}
            for row in read_results(path).to_pylist()
        ]
        write_results(path.with_name(f"{path.stem}x.parquet"), rows, {})
    done = main("plot", "units", "runs", "--out", "u.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files = sorted(path.name for path in tmp_path.glob("*.png"))
    assert len(files) == 2
    assert "u-other.png" in files


def test_training_of_chosen_runs(main: Run, sweep_folder: Path, tmp_path: Path) -> None:
    done = main("plot", "training", sweep_folder, "--run", "beta=1-seed=0", cwd=tmp_path)
    assert done.stdout == "drew 2 models: figures/training.png\n"
    done = main("plot", "training", sweep_folder, "--run", "nope", cwd=tmp_path)
    assert done.returncode == 2
    assert "no run has nope in its name" in done.stderr


BAD = [*PLOTS, ["plot", "samples"], ["plot-rd"], ["table"]]


@pytest.mark.parametrize("command", BAD)
def test_nothing_to_draw_is_one_line(command: list[str], main: Run, tmp_path: Path) -> None:
    for folder in ("missing", "."):
        done = main(*command, folder, cwd=tmp_path)
        assert done.returncode == 4
        assert done.stderr.count("\n") == 1, done.stderr
        assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="session")
def spoilt(sweep_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep beside a foreign file, a damaged one, and one of a newer rdvae."""
    runs = tmp_path_factory.mktemp("spoilt") / "runs"
    shutil.copytree(sweep_folder / "results", runs / "small" / "results")
    results = sorted((runs / "small" / "results").iterdir())
    pq.write_table(pa.table({"elbo": [1e9]}), runs / "foreign.parquet")
    data = bytearray(results[0].read_bytes())
    data[len(data) // 3] ^= 0xFF
    (runs / "flipped.parquet").write_bytes(data)
    table = pq.read_table(results[0])
    newer = {**table.schema.metadata, b"schema": b"999"}
    pq.write_table(table.replace_schema_metadata(newer), runs / "newer.parquet")
    return runs


@pytest.mark.parametrize("command", [*PLOTS, ["plot-rd"], ["table"]])
def test_what_cannot_be_read_is_named_and_never_drawn(
    command: list[str], main: Run, spoilt: Path, sweep_folder: Path, tmp_path: Path
) -> None:
    done = main(*command, spoilt, "--out", "spoilt.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name, reason in (
        ("foreign", "a Parquet file, but not rdvae-results"),
        ("flipped", ""),
        ("newer", "upgrade rdvae"),
    ):
        (line,) = (line for line in done.stderr.splitlines() if f"{name}.parquet" in line)
        assert line.startswith("rdvae: left out ")
        assert reason in line
    assert main(*command, sweep_folder, "--out", "clean.png", cwd=tmp_path).returncode == 0
    assert (tmp_path / "spoilt.png").read_bytes() == (tmp_path / "clean.png").read_bytes()


@pytest.mark.parametrize("command", [*PLOTS, ["table"]])
def test_one_single_model(
    command: list[str], main: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    results = tmp_path / "one" / "results"
    results.mkdir(parents=True)
    shutil.copy(next((sweep_folder / "results").glob("*-constant-*")), results)
    done = main(*command, "one", "--out", "x.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.png").exists()


@pytest.mark.parametrize("command", [*PLOTS, ["table"]])
def test_all_runs_diverged(
    command: list[str], main: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    numbers = ("rate", "distortion", "elbo", "mse", "psnr", "sigma2", "mutual_information")
    for path in (sweep_folder / "results").iterdir():
        rows = [
            row | dict.fromkeys(numbers) | {"status": "diverged"}
            for row in read_results(path).to_pylist()
        ]
        write_results(tmp_path / "gone" / "results" / path.name, rows, {})
    done = main(*command, "gone", "--out", "x.png", cwd=tmp_path)
    assert "12 runs" in done.stderr or "training" in command
    if "training" in command:  # the figure says so
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode in (2, 4)  # nothing of that reading, or nothing at all
        assert "diverged" in done.stderr
        assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("command", [*PLOTS, ["table"], ["report"], ["consistency"]])
def test_a_split_that_is_not_there(
    command: list[str], main: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    for path in (sweep_folder / "results").iterdir():
        rows = [row for row in read_results(path).to_pylist() if row["split"] == "train"]
        write_results(tmp_path / "runs" / "results" / path.name, rows, {})
    done = main(*command, "runs", cwd=tmp_path)
    if command == ["table"]:
        assert done.returncode == 0
        assert "no rows of the test split" in done.stderr
        return
    assert done.returncode in (2, 4)  # nothing of that reading, or nothing at all
    assert len(list(tmp_path.iterdir())) == 1


def test_pictures_that_lie_among_results_are_no_damage(
    main: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(sweep_folder, tmp_path / "runs" / "small")
    assert main("sample", "runs", "--out", "runs/pictures", cwd=tmp_path).returncode == 0
    assert "left out" not in main("table", "runs", cwd=tmp_path).stderr


def test_a_dollar_in_a_name_is_a_dollar(main: Run, sweep_folder: Path, tmp_path: Path) -> None:
    for path in (sweep_folder / "results").iterdir():
        rows = [
            row | {"dataset": "npz:/a $x_1% b$c^d.npz"} for row in read_results(path).to_pylist()
        ]
        write_results(tmp_path / "runs" / "results" / path.name, rows, {})
    done = main("consistency", "runs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def _written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_consistency_of_one_sweep_overwrites_no_other(
    main: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    """Sweeps of one setup too, and sweeps that come to lie beside those of before."""
    shutil.copytree(sweep_folder / "results", tmp_path / "runs" / "small" / "results")
    assert main("consistency", "runs/small", cwd=tmp_path).returncode == 0
    before = _written(tmp_path / "figures")
    assert all(name.startswith("consistency-small-digits-linear-") for name in before)
    for path in (tmp_path / "runs" / "small" / "results").iterdir():
        for changed in ({}, {"setup": "../up", "seed": 7}):
            rows = [
                row | changed | {"run_id": row["run_id"] + "x"}
                for row in read_results(path).to_pylist()
            ]
            folder = "far" if changed else "again"
            write_results(tmp_path / "runs" / folder / "results" / path.name, rows, {})
    for folder in ("runs/again", "runs/far", "runs"):
        assert main("consistency", folder, cwd=tmp_path).returncode == 0
    after = _written(tmp_path / "figures")
    assert {name: after[name] for name in before} == before
    assert len(after) > 3 * len(before)
    assert not list(tmp_path.glob("*up*"))


def test_files_of_an_earlier_consistency_are_said(
    main: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    """Runs of pairs that are no longer there leave their table of pairs."""
    shutil.copytree(sweep_folder / "results", tmp_path / "runs" / "results")
    others = tmp_path / "runs" / "more"
    for path in (sweep_folder / "results").glob("*-constant-*"):
        rows = [
            row
            | {"beta": row["beta"] * 10, "train_sigma2": 0.05}
            | {"run_id": row["run_id"] + "x", "curve": row["curve"] + "x"}
            for row in read_results(path).to_pylist()
        ]
        write_results(others / "results" / path.name, rows, {})
    first = main("consistency", "runs", cwd=tmp_path)
    assert "is from an earlier run" not in first.stderr
    (picture,) = (tmp_path / "figures").glob("*-pairs.png")
    lines = [line.split() for line in first.stdout.splitlines()]
    assert ["seed", "product"] in [words[:2] for words in lines]  # as there are several seeds
    shutil.rmtree(others)
    second = main("consistency", "runs", cwd=tmp_path)
    assert second.returncode == 0
    told = [line for line in second.stderr.splitlines() if "is from an earlier run" in line]
    assert [line.split()[1] for line in told] == [
        str(file.relative_to(tmp_path)) for file in (picture, picture.with_suffix(".csv"))
    ]


def test_figures_are_listed(main: Run, tmp_path: Path) -> None:
    assert "Commands:" in main("plot", cwd=tmp_path).stdout
    done = main("plot", "nope", "runs", cwd=tmp_path)
    assert done.returncode == 2
    for name in ("rd", "samples", *FIGURES):
        assert name in done.stderr


def test_what_has_no_rows_is_said(main: Run, sweep_folder: Path, tmp_path: Path) -> None:
    asked = ("--sigma", "shared", "--sigma", "constant:0.02")
    done = main("plot", "rd", sweep_folder, *asked, cwd=tmp_path)
    assert "no rows of constant:0.02" in done.stderr
    done = main("plot", "rd", sweep_folder, "--objective", "learned", cwd=tmp_path)
    assert done.returncode == 2
    assert "constant, optimal" in done.stderr


def test_a_sweep_whose_trials_all_crashed_offers_nothing(
    main: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    for path in (sweep_folder / "results").iterdir():
        rows = [row | {"status": "crashed"} for row in read_results(path).to_pylist()]
        write_results(tmp_path / "runs" / "results" / path.name, rows, {})
    done = main("plot-rd", "runs", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("rdvae: nothing to draw: no run has finished; left out 12 runs")
    assert "rows are there" not in done.stderr


def test_one_is_no_plural(main: Run, sweep_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("model,elbo,variance\na,1,0.1\n")
    assert "1 claim of 1 model\n" in main("lint", "t.csv", cwd=tmp_path).stdout
    checkpoint = next((sweep_folder / "checkpoints").glob("*/epoch=00003.pt"))
    done = main("rescore", "--sigma", "half", "--draws", "1", checkpoint, cwd=tmp_path)
    assert "359 train and 359 test images, 1 posterior sample," in done.stdout
    arguments = ("--betas", "1", "--objectives", "optimal", "--architecture", "linear")
    small = ("--latents", "1", "--epochs", "1", "--batch-size", "5000", "--draws", "1")
    done = main("sweep", *arguments, *small, "--dry-run", "--out", "x", cwd=tmp_path)
    assert "1 trial, 1 to run into x: 1 epoch, checkpoint after 1\n" in done.stdout
    done = main("sweep", *arguments, *small, "--out", "x", cwd=tmp_path)
    assert "linear, 1 latent, 1 epoch of 1 step\n" in done.stdout
    results = next((tmp_path / "x" / "results").iterdir())
    rows = [row | {"status": "crashed"} for row in read_results(results).to_pylist()]
    write_results(results, rows, {})
    done = main("sweep", *arguments, *small, "--out", "x", cwd=tmp_path)
    assert done.returncode == 3
    assert "the trial has not finished; to see why: rdvae status x\n" in done.stdout
    assert "Draw it" not in done.stdout
