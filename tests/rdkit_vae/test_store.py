import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rdkit_vae import Trial, score, store
from rdkit_vae.errors import BadData
from rdkit_vae.sigma import Statistics
from rdkit_vae.store import COLUMNS

Stats = dict[str, Statistics]


def _rows(trial: Trial, statistics: Stats) -> list[dict[str, object]]:
    scores = score(statistics, ["half", "optimal", "shared"], trial)
    return store.result_rows(trial, scores, epoch=4, step=12, checkpoint_sha256="ab")


def test_statistics_come_back_bit_for_bit(tmp_path: Path, statistics: Stats) -> None:
    path = tmp_path / "s.parquet"
    store.write_statistics(path, statistics, {"epoch": 3})
    again, about = store.read_statistics(path)
    assert about["epoch"] == 3
    for split, expected in statistics.items():
        assert (again[split].dims, again[split].own_sigma2) == (9, 0.07)
        for name in ("image", "kl", "sse", "log_ratio"):
            np.testing.assert_array_equal(getattr(again[split], name), getattr(expected, name))


def test_results_in_pandas_are_the_scores(
    tmp_path: Path, tiny_trial: Trial, statistics: Stats
) -> None:
    folder = tmp_path / "results"
    rows = _rows(tiny_trial, statistics)
    store.write_results(folder / "a.parquet", rows, {"trial": tiny_trial.to_dict()})
    frame = pd.read_parquet(folder)
    assert list(frame) == list(COLUMNS)
    assert len(frame) == 6
    expected = asdict(score(statistics, ["shared"], tiny_trial)[1])
    row = frame[(frame["sigma"] == "shared") & (frame["split"] == "test")].iloc[0]
    for name, value in expected.items():
        assert row[name] == value
    assert row["run_id"] == tiny_trial.run_id
    assert math.isnan(row["train_sigma2"])


def test_every_column_says_its_unit_and_meaning(
    tmp_path: Path, tiny_trial: Trial, statistics: Stats
) -> None:
    store.write_results(tmp_path / "a.parquet", _rows(tiny_trial, statistics), {})
    schema = pq.read_schema(tmp_path / "a.parquet")
    for name, column in COLUMNS.items():
        metadata = schema.field(name).metadata
        assert metadata[b"meaning"] == column.meaning.encode()
        assert metadata[b"unit"] == column.unit.encode()


def test_a_diverged_trial_is_a_row_without_numbers(tmp_path: Path, tiny_trial: Trial) -> None:
    rows = store.failed_rows(tiny_trial, ["half", "own"], epoch=2, step=9, status="diverged")
    store.write_results(tmp_path / "a.parquet", rows, {})
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert set(frame["status"]) == {"diverged"}
    assert set(frame["step"]) == {9}
    assert frame[["rate", "distortion", "elbo", "mse"]].isna().all(axis=None)
    assert len(frame) == 4


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "foreign", "folder"])
def test_what_is_no_results_file_is_named(
    damage: str, tmp_path: Path, tiny_trial: Trial, statistics: Stats
) -> None:
    path = tmp_path / "a.parquet"
    store.write_results(path, _rows(tiny_trial, statistics), {})
    content = bytearray(path.read_bytes())
    if damage == "foreign":
        pq.write_table(pa.table({"elbo": [1.0]}), path)
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        middle = len(content) // 8
        content[middle] ^= 0xFF
        changed = {"empty": b"", "text": b"elbo\n1", "cut": content[:-50], "flipped": content}
        path.write_bytes(changed[damage])
    with pytest.raises(BadData, match=r"a\.parquet"):
        store.read_results(path)


def test_a_newer_schema_asks_to_upgrade(
    tmp_path: Path, tiny_trial: Trial, statistics: Stats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SCHEMA", 2)
    store.write_results(tmp_path / "a.parquet", _rows(tiny_trial, statistics), {})
    monkeypatch.undo()
    with pytest.raises(BadData, match=r"newer rdvae.*upgrade"):
        store.read_results(tmp_path / "a.parquet")


def test_statistics_are_no_results(tmp_path: Path, statistics: Stats) -> None:
    store.write_statistics(tmp_path / "s.parquet", statistics, {})
    with pytest.raises(BadData, match="not rdvae-results"):
        store.read_results(tmp_path / "s.parquet")


def test_temporary_files_are_hidden_from_readers(
    tmp_path: Path, tiny_trial: Trial, statistics: Stats
) -> None:
    store.write_results(tmp_path / "results" / "a.parquet", _rows(tiny_trial, statistics), {})
    (tmp_path / "results" / ".b.parquet.77.part").write_bytes(b"half a file")
    assert len(pd.read_parquet(tmp_path / "results")) == 6
