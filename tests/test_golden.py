"""Folders that older releases wrote, `tests/golden`: later ones read them, and all of it."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from rdkit_vae.errors import BadData
from rdkit_vae.store import evaluations
from rdkit_vae.store import results as parquet
from rdkit_vae.store import tables as sealed
from rdkit_vae.store.checkpoints import load_checkpoint
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.schema import COLUMNS, SCHEMA
from rdkit_vae.system.files import sha256_of
from rdvae_analysis.load import scan

Run = Callable[..., subprocess.CompletedProcess[str]]
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(params=range(1, SCHEMA + 1))
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy, so that no command leaves anything behind in the original."""
    return Path(shutil.copytree(GOLDEN / f"schema-{request.param}", tmp_path / "golden"))


def golden_schema(folder: Path) -> int:
    return int(json.loads((folder / "sweep.json").read_text())["schema"])


def test_each_folder_is_of_the_schema_that_it_says() -> None:
    found = {path.name for path in GOLDEN.iterdir() if path.is_dir()}
    assert found == {f"schema-{schema}" for schema in range(1, SCHEMA + 1)}
    for name in found:
        schema = name.removeprefix("schema-")
        files = list((GOLDEN / name).rglob("*.parquet"))
        assert len(files) == 4
        for path in files:
            assert pq.read_schema(path).metadata[b"schema"] == schema.encode()
        assert json.loads((GOLDEN / name / "sweep.json").read_text())["schema"] == int(schema)


def test_its_rows_are_all_there_and_follow_from_its_statistics(golden: Path) -> None:
    frame, notes = scan(golden)
    assert notes == []
    assert list(frame) == list(COLUMNS)
    # Two trials, one checkpoint, two splits; six interpretations, of which `own` needs a variance,
    # and since schema 5 `student`.
    student = 2 if (frame["sigma"] == "student").any() else 0
    rows = frame.groupby("objective").size().to_dict()
    assert rows == {"constant": 12 + student, "optimal": 10 + student}
    assert student == (2 if golden_schema(golden) >= 5 else 0)
    assert frame["setup"].nunique() == 1
    np.testing.assert_array_equal(frame["elbo"], -(frame["rate"] + frame["distortion"]))
    half = frame[frame["sigma"] == "half"]
    assert len(half) == 4
    for row in half.itertuples():
        statistics, about = evaluations.read_statistics(Sweep(golden).statistics(row.run_id, 2))
        measured = statistics[row.split]
        assert measured.sse.shape == (359, 1)
        distortion = measured.sse.mean() + 32 * np.log(np.pi)  # D = 64, variance 1/2
        assert row.distortion == pytest.approx(distortion, rel=1e-12)
        assert row.rate == pytest.approx(measured.kl.mean(), rel=1e-12)
        assert about["checkpoint_sha256"] == row.checkpoint_sha256


def test_its_checkpoints_load_and_are_the_ones_that_were_scored(golden: Path) -> None:
    frame, _ = scan(golden, columns=["checkpoint_sha256"])
    hashes = frame.groupby("run_id")["checkpoint_sha256"].first()
    assert len(hashes) == 2
    for run_id, sha256 in hashes.items():
        path = Sweep(golden).checkpoint(str(run_id), 2)
        found = load_checkpoint(path)
        assert found.sha256 == sha256_of(path) == sha256
        assert (found.epoch, found.trial.run_id) == (2, run_id)
        assert sum(weights.numel() for weights in found.model().parameters()) > 64


def test_the_commands_work_on_it(golden: Path, main: Run) -> None:
    status = main("status", golden, cwd=golden)
    assert "2 of 2 done, 0 running, 0 failed, 0 left" in status.stdout
    drawn = main("plot-rd", golden, "--out", "rd.png", cwd=golden)
    assert drawn.stdout.startswith("drew 6 points")
    assert (golden / "rd.png").stat().st_size > 10_000
    table = main("table", golden, cwd=golden)
    assert table.returncode == 0
    assert "BS-VAE" in table.stdout


def test_its_statistics_are_rescored_without_torch(
    golden: Path, imported_by: Callable[..., set[str]], main: Run
) -> None:
    (checkpoint,) = golden.glob("checkpoints/*-constant-*/epoch=00002.pt")
    assert "torch" not in imported_by("rescore", "--sigma", "half", checkpoint)
    frame, _ = scan(golden)
    row = frame.query("objective == 'constant' and sigma == 'half' and split == 'test'").iloc[0]
    done = main("rescore", "--sigma", "half", checkpoint, cwd=golden)
    (line,) = [line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["test"]]
    assert float(line[6]) == pytest.approx(row["elbo"], abs=0.006)


def test_what_a_newer_release_wrote_asks_to_upgrade(golden: Path) -> None:
    path = next((golden / "results").iterdir())
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, b"schema": b"999"}
    sealed.write_table(path, table.replace_schema_metadata(metadata))
    _, notes = scan(golden)
    assert len(notes) == 1
    assert "newer rdvae (schema 999); upgrade rdvae" in notes[0]
    with pytest.raises(BadData, match="upgrade"):
        parquet.read_results(path)
