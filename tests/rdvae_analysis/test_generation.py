"""What is loaded of distances and rates of priors: all that is sound, and nothing else."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rdkit_vae import load_results
from rdkit_vae.errors import BadData
from rdkit_vae.store.generation import GENERATION_FILES, PRIOR_FILES, add_rows
from rdkit_vae.store.schema import GENERATION, PRIOR_RATES
from rdvae_analysis import load_generation, load_priors
from rdvae_analysis.generation import remarks, scan_generation, scan_priors
from rdvae_analysis.load import LoadWarning, scan
from rdvae_analysis.pictures import load_pictures


def test_a_folder_of_sweeps_is_one_table_of_each_kind(
    measured: Path, generation: pd.DataFrame, priors: pd.DataFrame
) -> None:
    for path in (measured, measured.parent):
        distances, rates = load_generation(path), load_priors(path)
        assert (list(distances), list(rates)) == (list(GENERATION), list(PRIOR_RATES))
        assert distances["frechet"].sum() == pytest.approx(generation["frechet"].sum(), rel=1e-12)
        assert rates["rate"].sum() == pytest.approx(priors["rate"].sum(), rel=1e-12)
        assert (len(distances), len(rates)) == (len(generation), len(priors))


def test_one_file_is_read_too(measured: Path) -> None:
    file = next(measured.glob("generation/*/*.parquet"))
    assert load_generation(file)["run_id"].unique() == [file.parent.name]


def test_nothing_there(measured: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for load in (load_generation, load_priors):
        for place in ("missing", "empty"):
            with pytest.raises(BadData):
                load(tmp_path / place)
    assert scan_generation(tmp_path / "empty")[0].empty
    with pytest.raises(BadData, match="no results"):
        scan(measured)


def test_files_of_each_kind_are_no_damage_to_the_readers_of_others(
    measured: Path, sweep_folder: Path
) -> None:
    shutil.copytree(sweep_folder / "results", measured / "results")
    assert load_pictures(measured)[1] == []
    assert scan(measured)[1] == []
    assert len(load_results(measured)) == len(load_results(sweep_folder))
    assert scan_generation(measured)[1] == scan_priors(measured)[1] == []
    results = next((sweep_folder / "results").iterdir())
    copied = measured / "generation" / "results.parquet"
    copied.write_bytes(results.read_bytes())
    assert scan_generation(measured)[1] == []


@pytest.mark.parametrize("kind", ["generation", "priors"])
def test_damaged_and_foreign_files_are_named_and_not_used(measured: Path, kind: str) -> None:
    load, scanned = {
        "generation": (load_generation, scan_generation),
        "priors": (load_priors, scan_priors),
    }[kind]
    before = len(load(measured))
    first, *_ = sorted((measured / kind).glob("*/*.parquet"))
    lost = len(load(first))
    data = bytearray(first.read_bytes())
    data[len(data) // 3] ^= 0xFF
    first.write_bytes(data)
    pq.write_table(pa.table({"frechet": [0.0]}), measured / kind / "foreign.parquet")
    frame, notes = scanned(measured)
    assert len(frame) == before - lost
    assert len(notes) == 2
    for name in (str(first), "foreign.parquet"):
        assert any(note.startswith("left out ") and name in note for note in notes)
    with pytest.warns(LoadWarning) as warned:
        load(measured)
    assert [str(warning.message) for warning in warned] == notes


BAD_DISTANCES: dict[str, Any] = {
    **{"frechet": -3.0, "kid_se": -1.0, "precision": 1.2, "recall": -0.1, "coverage": 1.5},
    **{"density": -0.5, "psnr": math.inf, "ssim": 1.7, "kid": math.nan, "beta": 0.0},
    **{"n_samples": 0, "source": "guesses", "features": None, "frechet_infinite": -math.inf},
}


@pytest.mark.parametrize("column", BAD_DISTANCES)
def test_rows_of_impossible_numbers_are_left_out_and_counted(
    column: str, measured: Path, generation: pd.DataFrame
) -> None:
    file = next(measured.glob("generation/*/*.parquet"))
    rows = load_generation(file).astype(object)
    row = rows.where(rows.notna(), None).to_dict("records")[0]
    add_rows(file, GENERATION_FILES, [row | {column: BAD_DISTANCES[column], "sample_seed": 1}])
    frame, (note,) = scan_generation(measured)
    assert len(frame) == len(generation)
    assert note.startswith("left out 1 row of generation ")
    assert file.parent.name in note


def test_good_numbers_of_unusual_size_are_kept(measured: Path, generation: pd.DataFrame) -> None:
    file = next(measured.glob("generation/*/*.parquet"))
    rows = load_generation(file).astype(object)
    row = rows.where(rows.notna(), None).to_dict("records")[0]
    good = {"density": 3.0, "kid": -0.01, "frechet_infinite": -0.5, "frechet": 0.0, "psnr": None}
    add_rows(file, GENERATION_FILES, [row | good | {"sample_seed": 1}])
    frame, notes = scan_generation(measured)
    assert (len(frame), notes) == (len(generation) + 1, [])


@pytest.mark.parametrize("rate", [math.nan, math.inf, -5.0, None])
def test_rates_that_cannot_be_are_left_out(measured: Path, rate: float | None) -> None:
    file = next(measured.glob("priors/*/*.parquet"))
    before = len(load_priors(measured))
    rows = load_priors(file).astype(object)
    row = rows.where(rows.notna(), None).to_dict("records")[0]
    add_rows(file, PRIOR_FILES, [row | {"rate": rate, "fit_seed": 1}])
    frame, (note,) = scan_priors(measured)
    assert len(frame) == before
    assert note.startswith("left out 1 row of priors ")


def test_rows_that_lie_in_two_places_count_once(
    measured: Path, frame: pd.DataFrame, measured_into: Callable[[Path, pd.DataFrame], None]
) -> None:
    before = len(load_generation(measured))
    measured_into(measured.parent / "copy", frame)
    loaded, notes = scan_generation(measured.parent)
    assert len(loaded) == before
    assert notes == [
        f"{before} rows of generation lie in more than one place; each is counted once"
    ]


def test_what_rows_say_about_themselves_is_passed_on(priors: pd.DataFrame) -> None:
    assert remarks(priors) == []
    mixture = priors["prior"] == "mixture"
    noted = priors.assign(note=priors["note"].mask(mixture, "3 latents have collapsed"))
    assert remarks(noted) == ["12 models, prior mixture: 3 latents have collapsed"]
