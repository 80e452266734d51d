import pkgutil
import shutil
from pathlib import Path
from types import ModuleType

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rdkit_vae
import rdvae_analysis
from rdkit_vae.errors import BadData
from rdkit_vae.store.schema import COLUMNS
from rdkit_vae.store.tables import write_table
from rdvae_analysis import load_results
from rdvae_analysis.load import LoadWarning, scan


def test_a_sweep_is_one_tidy_table(sweep_folder: Path) -> None:
    frame = load_results(sweep_folder)
    plain = pd.read_parquet(sweep_folder / "results")
    assert list(frame) == list(COLUMNS)
    assert len(frame) == len(plain)
    assert frame["elbo"].sum() == pytest.approx(plain["elbo"].sum(), rel=1e-12)


def test_what_is_not_ours_is_named_and_counted_out(sweep_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep_folder, tmp_path / "runs")
    results = tmp_path / "runs" / "results"
    pq.write_table(pa.table({"elbo": [999.0]}), results / "foreign.parquet")
    (results / "text.parquet").write_text("no")
    (results / ".hidden.parquet").write_text("half written")
    expected = len(load_results(sweep_folder))
    frame, notes = scan(tmp_path)
    assert len(frame) == expected
    assert frame["elbo"].max() < 999
    assert sorted(Path(note.split()[2].rstrip(":")).name for note in notes) == [
        "foreign.parquet",
        "text.parquet",
    ]
    with pytest.warns(LoadWarning) as warned:
        load_results(tmp_path)
    assert [str(warning.message) for warning in warned] == notes


def test_runs_that_lie_in_two_places_count_once(sweep_folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(sweep_folder / "results", tmp_path / name / "results")
    frame, notes = scan(tmp_path)
    assert len(frame) == len(load_results(sweep_folder))
    assert notes == ["12 runs lie in more than one place; each is counted once"]


def test_rows_scored_again_never_replace_or_mix_with_the_sweeps(
    sweep_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(sweep_folder / "results", tmp_path / "results")
    path = next((tmp_path / "results").iterdir())
    table = pq.read_table(path)
    frame = table.to_pandas()
    again = frame[frame["sigma"].isin(["half", "shared"])].assign(n_draws=3, elbo=-1e6)
    named = again[again["sigma"] == "half"].assign(sigma="constant:0.25")
    both = pa.Table.from_pandas(pd.concat([again, named]), schema=table.schema)
    write_table(tmp_path / "again.parquet", both)
    found, notes = scan(tmp_path)
    assert found["elbo"].min() > -1e6
    assert len(found) == len(load_results(sweep_folder))
    assert (
        f"left out {len(named)} rows with another number of posterior samples than their run"
    ) in notes


def test_a_link_to_nowhere_is_named(sweep_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep_folder / "results", tmp_path / "results")
    (tmp_path / "results" / "link.parquet").symlink_to("nowhere")
    frame, (note,) = scan(tmp_path)
    assert "link.parquet" in note
    assert len(frame) == len(load_results(sweep_folder))


def test_one_file_is_read_too(sweep_folder: Path) -> None:
    path = next((sweep_folder / "results").iterdir())
    assert load_results(path)["run_id"].unique() == [path.stem]


def test_nothing_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BadData):
            load_results(path)


@pytest.mark.parametrize("package", [rdkit_vae, rdvae_analysis])
def test_no_name_of_the_interface_is_that_of_a_submodule(package: ModuleType) -> None:
    """The import of such a submodule would put itself in the place of the function."""
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert len(package.__all__) > 5
    assert not modules & set(package.__all__)
    assert all(getattr(package, name) is not None for name in package.__all__)
