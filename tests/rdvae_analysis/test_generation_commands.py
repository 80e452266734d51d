"""The commands that draw and tabulate distances and rates of priors, as a user runs them."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from rdkit_vae.store.generation import GENERATION_FILES, add_rows
from rdvae_analysis.figures import MEASURED_FIGURES
from rdvae_analysis.generation import load_generation
from rdvae_analysis.load import load_results

Run = Callable[..., subprocess.CompletedProcess[str]]
Into = Callable[[Path, pd.DataFrame], None]


@pytest.fixture(scope="module")
def sweep(
    sweep_folder: Path, measured_into: Into, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The small sweep with made-up measurements of its models."""
    folder = tmp_path_factory.mktemp("measured") / "small"
    shutil.copytree(sweep_folder / "results", folder / "results")
    measured_into(folder, load_results(folder))
    return folder


@pytest.mark.parametrize("name", MEASURED_FIGURES)
@pytest.mark.parametrize("columns", ["1", "2"])
def test_the_figure_is_drawn_in_every_format(
    name: str, columns: str, main: Run, sweep: Path, tmp_path: Path
) -> None:
    files = [f"x.{kind}" for kind in ("png", "pdf", "svg")]
    outs = [part for file in files for part in ("--out", file)]
    done = main("plot", name, sweep, "--columns", columns, *outs, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"drew 12 models: {file}" for file in files]
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", [["plot", name] for name in MEASURED_FIGURES])
def test_never_imports_torch(
    command: list[str], sweep: Path, tmp_path: Path, imported_by: Callable[..., set[str]]
) -> None:
    imported = imported_by(*command, sweep, "--out", tmp_path / "x.png")
    assert "pandas" in imported
    assert "torch" not in imported
    assert (tmp_path / "x.png").exists()


@pytest.mark.parametrize("name", MEASURED_FIGURES)
def test_nothing_to_draw_is_one_line(
    name: str, main: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    for folder in ("missing", ".", sweep_folder):
        done = main("plot", name, folder, cwd=tmp_path)
        assert done.returncode == 4
        assert done.stderr.count("\n") == 1, done.stderr
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["plot", "blur"], ["table"], ["report"]])
def test_a_damaged_file_is_named_once_and_not_used(
    command: list[str], main: Run, sweep: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(sweep, runs)
    first, *_ = sorted(runs.glob("generation/*/*.parquet"))
    first.write_bytes(first.read_bytes()[:-50])
    done = main(*command, "runs", "--out", "x.png" if "plot" in command else "x.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if first.name in line]
    assert len([line for line in lines if first.parent.name in line]) == 1
    if "plot" in command:
        assert done.stdout == "drew 11 models: x.png\n"


def test_the_table_has_distances_where_there_are_some(
    main: Run, sweep: Path, sweep_folder: Path, tmp_path: Path
) -> None:
    text = main("table", sweep, cwd=tmp_path).stdout
    assert "FD classifier 3f2a9c1b, best prior" in text
    assert "FD is the Fréchet distance of 1,000 samples" in text
    assert "FD" not in main("table", sweep_folder, cwd=tmp_path).stdout
    done = main("table", sweep, "--features", "nope", cwd=tmp_path)
    assert done.returncode == 2
    assert "there are distances in classifier 3f2a9c1b" in done.stderr
    done = main("table", sweep_folder, "--features", "classifier", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["plot", "blur"], ["table"]])
def test_features_are_chosen(command: list[str], main: Run, sweep: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(sweep, runs)
    for file in runs.glob("generation/*/*.parquet"):
        rows = load_generation(file).astype(object)
        records = rows.where(rows.notna(), None).to_dict("records")
        other = [row | {"features": "pixels", "features_sha256": ""} for row in records[:-1]]
        add_rows(file, GENERATION_FILES, other)
    done = main(*command, "runs", "--out", "x.svg", cwd=tmp_path)
    assert "of classifier 3f2a9c1b" in done.stderr
    assert "left out pixels, 1,000 pictures against test" in done.stderr
    done = main(*command, "runs", "--features", "pixels", "--out", "y.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "classifier" not in done.stderr
    assert (tmp_path / "x.svg").read_bytes() != (tmp_path / "y.svg").read_bytes()


def test_the_report_has_both_tables_only_if_there_are_measurements(
    main: Run, sweep: Path, sweep_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    for folder, there in ((sweep, True), (sweep_folder, False)):
        done = main("report", folder, "--out", "r.html", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        page = (tmp_path / "r.html").read_text()
        title = "<h3>Generation: distances in the features classifier 3f2a9c1b</h3>"
        assert (title in page) == there
        assert ("<h3>Rate by prior</h3>" in page) == there
        heads = [head.partition("</th>")[0] for head in page.split("<th>")[1:]]
        distances = [head for head in heads if "FD" in head or "KID" in head]
        assert len(distances) == (6 if there else 0)
        assert all(head.endswith("(classifier 3f2a9c1b)") for head in distances)


def test_names_in_the_report_are_no_markup(
    main: Run, sweep: Path, sweep_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    runs = tmp_path / "runs"
    shutil.copytree(sweep, runs)
    for file in runs.glob("generation/*/*.parquet"):
        rows = load_generation(file).astype(object)
        evil = {"features": "<img src=x>", "note": "<b>"}
        records = rows.where(rows.notna(), None).to_dict("records")
        file.unlink()
        add_rows(file, GENERATION_FILES, [row | evil for row in records])
    main("report", "runs", "--out", "r.html", cwd=tmp_path)
    page = (tmp_path / "r.html").read_text()
    assert "img src=x" in page
    assert "<img src=x" not in page
