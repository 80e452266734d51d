import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rdkit_vae import Trial, make_trial, score
from rdkit_vae.errors import BadData
from rdkit_vae.scoring.interpretations import SIGMAS
from rdkit_vae.scoring.statistics import RateTerms, Statistics
from rdkit_vae.store import evaluations, results, tables
from rdkit_vae.store.evaluations import Evaluation
from rdkit_vae.store.schema import COLUMNS, Status

Stats = dict[str, Statistics]


def _rows(trial: Trial, statistics: Stats) -> list[dict[str, object]]:
    return _evaluation(trial, statistics).rows(["half", "optimal", "shared"])


def _evaluation(trial: Trial, statistics: Stats) -> Evaluation:
    return Evaluation(trial=trial, epoch=4, step=12, checkpoint_sha256="ab", statistics=statistics)


def test_statistics_come_back_bit_for_bit(tmp_path: Path, statistics: Stats) -> None:
    path = tmp_path / "s.parquet"
    evaluations.write_statistics(path, statistics, {"epoch": 3})
    again, about = evaluations.read_statistics(path)
    assert about["epoch"] == 3
    for split, expected in statistics.items():
        assert (again[split].dims, again[split].own_sigma2) == (9, 0.07)
        for name in ("image", "kl", "sse", "log_ratio"):
            np.testing.assert_array_equal(getattr(again[split], name), getattr(expected, name))


def test_a_variance_by_image_and_a_split_rate_come_back(tmp_path: Path, statistics: Stats) -> None:
    path, rng = tmp_path / "s.parquet", np.random.default_rng(0)
    rate = RateTerms(
        unit_variance=rng.uniform(size=3),
        unit_rate=rng.uniform(size=3),
        mutual_information=0.7,
        mutual_information_se=0.01,
    )
    full = {
        split: replace(s, own_sigma2=rng.uniform(size=s.sse.shape), levels=17, rate_terms=rate)
        for split, s in statistics.items()
    }
    evaluations.write_statistics(path, full, {})
    again, _ = evaluations.read_statistics(path)
    for split, expected in full.items():
        found = again[split]
        np.testing.assert_array_equal(found.own_sigma2, expected.own_sigma2)
        assert found.levels == 17
        assert found.rate_terms is not None
        np.testing.assert_array_equal(found.rate_terms.unit_variance, rate.unit_variance)
        assert found.rate_terms.marginal_kl == rate.marginal_kl
    for row in _evaluation(make_trial(), full).rows(["half"]):
        assert row["mutual_information"] + row["marginal_kl"] == pytest.approx(rate.unit_rate.sum())
        assert row["active_units"] == (rate.unit_variance > 0.01).sum()


def test_results_in_pandas_are_the_scores(
    tmp_path: Path, tiny_trial: Trial, statistics: Stats
) -> None:
    folder = tmp_path / "results"
    rows = _rows(tiny_trial, statistics)
    results.write_results(folder / "a.parquet", rows, {"trial": tiny_trial.to_dict()})
    frame = pd.read_parquet(folder)
    assert list(frame) == list(COLUMNS)
    assert len(frame) == 6
    expected = asdict(score(statistics, tiny_trial, ["shared"])[1])
    row = frame[(frame["sigma"] == "shared") & (frame["split"] == "test")].iloc[0]
    for name, value in expected.items():
        assert row[name] == value or (value is None and pd.isna(row[name]))
    assert row["run_id"] == tiny_trial.run_id
    assert math.isnan(row["train_sigma2"])


def test_every_column_says_its_unit_and_meaning(
    tmp_path: Path, tiny_trial: Trial, statistics: Stats
) -> None:
    results.write_results(tmp_path / "a.parquet", _rows(tiny_trial, statistics), {})
    schema = pq.read_schema(tmp_path / "a.parquet")
    for name, column in COLUMNS.items():
        metadata = schema.field(name).metadata
        assert metadata[b"meaning"] == column.meaning.encode()
        assert metadata[b"unit"] == column.unit.encode()


def test_a_diverged_trial_is_a_row_without_numbers(tmp_path: Path, tiny_trial: Trial) -> None:
    rows = evaluations.failed_rows(
        tiny_trial, epoch=2, step=9, status=Status.DIVERGED, reason="nan"
    )
    results.write_results(tmp_path / "a.parquet", rows, {})
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert set(frame["status"]) == {"diverged"}
    assert set(frame["step"]) == {9}
    assert frame[["rate", "distortion", "elbo", "mse"]].isna().all(axis=None)
    assert len(frame) == 2 * len(SIGMAS)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "foreign", "folder"])
def test_what_is_no_results_file_is_named(
    damage: str, tmp_path: Path, tiny_trial: Trial, statistics: Stats
) -> None:
    path = tmp_path / "a.parquet"
    results.write_results(path, _rows(tiny_trial, statistics), {})
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
        results.read_results(path)


def test_a_newer_schema_asks_to_upgrade(
    tmp_path: Path, tiny_trial: Trial, statistics: Stats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SCHEMA", 999)
    results.write_results(tmp_path / "a.parquet", _rows(tiny_trial, statistics), {})
    monkeypatch.undo()
    with pytest.raises(BadData, match=r"newer rdvae.*upgrade"):
        results.read_results(tmp_path / "a.parquet")


def test_an_older_schema_is_read_with_nulls(
    tmp_path: Path, tiny_trial: Trial, statistics: Stats, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {name: column for name, column in COLUMNS.items() if column.since == 1}
    assert len(old) < len(COLUMNS)
    with monkeypatch.context() as past:
        past.setattr(tables, "SCHEMA", 1)
        past.setattr(results, "COLUMNS", old)
        about = {"trial": tiny_trial.to_dict()}
        results.write_results(tmp_path / "a.parquet", _rows(tiny_trial, statistics), about)
    frame = results.read_results(tmp_path / "a.parquet").to_pandas()
    assert list(frame) == list(COLUMNS)
    assert frame["caveat"].isna().all()
    assert frame["elbo"].notna().all()
    assert set(frame["setup"]) == {tiny_trial.setup}  # the file says of which trial it is


def test_statistics_of_the_first_schema_are_read(tmp_path: Path, statistics: Stats) -> None:
    path = tmp_path / "s.parquet"
    evaluations.write_statistics(path, statistics, {})
    table = pq.read_table(path)
    about = {"dims": {"train": 9, "test": 9}, "own_sigma2": {"train": None, "test": 0.5}}
    metadata = {b"kind": b"rdvae-statistics", b"schema": b"1", b"about": json.dumps(about).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    again, _ = evaluations.read_statistics(path)
    np.testing.assert_array_equal(again["test"].sse, statistics["test"].sse)
    assert (again["train"].own_sigma2, again["test"].own_sigma2) == (None, 0.5)
    assert again["test"].rate_terms is None


def test_statistics_are_no_results(tmp_path: Path, statistics: Stats) -> None:
    evaluations.write_statistics(tmp_path / "s.parquet", statistics, {})
    with pytest.raises(BadData, match="not rdvae-results"):
        results.read_results(tmp_path / "s.parquet")


def test_temporary_files_are_hidden_from_readers(
    tmp_path: Path, tiny_trial: Trial, statistics: Stats
) -> None:
    results.write_results(tmp_path / "results" / "a.parquet", _rows(tiny_trial, statistics), {})
    (tmp_path / "results" / ".b.parquet.77.part").write_bytes(b"half a file")
    assert len(pd.read_parquet(tmp_path / "results")) == 6


def test_any_flipped_byte_is_found_whatever_columns_are_read(
    tmp_path: Path, tiny_trial: Trial, statistics: Stats
) -> None:
    """Pages have checksums, but columns that are not read and the footer would go unchecked."""
    path = tmp_path / "a.parquet"
    results.write_results(path, _rows(tiny_trial, statistics), {})
    assert len(results.read_results(path, ["elbo"])) == 6
    content = path.read_bytes()
    places = np.random.default_rng(0).choice(len(content), 300, replace=False)
    for at in [*places.tolist(), *range(len(content) - 12, len(content))]:
        changed = bytearray(content)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        with pytest.raises(BadData, match=r"a\.parquet"):
            results.read_results(path, ["elbo"])


def test_a_file_that_was_written_again_by_other_hands_is_no_longer_trusted(
    tmp_path: Path, tiny_trial: Trial, statistics: Stats
) -> None:
    path = tmp_path / "a.parquet"
    results.write_results(path, _rows(tiny_trial, statistics), {})
    pq.write_table(pq.read_table(path), path)
    with pytest.raises(BadData, match="lost its checksum"):
        results.read_results(path)


def test_the_numbers_of_a_student_t_come_back(tmp_path: Path, statistics: Stats) -> None:
    path = tmp_path / "s.parquet"
    student = {split: replace(s, own_sigma2=0.05, own_nu=3.5) for split, s in statistics.items()}
    evaluations.write_statistics(path, student, {})
    again, _ = evaluations.read_statistics(path)
    assert [(s.own_sigma2, s.own_nu) for s in again.values()] == [(0.05, 3.5)] * 2


def test_names_that_look_like_the_seal_do_not_break_it(tmp_path: Path, statistics: Stats) -> None:
    path = tmp_path / "s.parquet"
    about = {"trial": {"dataset": "npz:rdvae-crc32=00000000 rdvae-crc32\x18\x0800000000"}}
    evaluations.write_statistics(path, statistics, about)
    assert evaluations.read_statistics(path)[1]["trial"] == about["trial"]


@pytest.mark.parametrize(
    "facts",
    [
        *({"dims": dims} for dims in ("9", 0, -1, None, 10**400)),
        *({"levels": levels} for levels in ("17", [1], 1)),
        *({"own_sigma2": own} for own in ("x", -1.0, [1.0])),
        *({"own_nu": nu} for nu in ("x", 0.0, 1e999)),
        {"split_of_rate": {"unit_rate": "x"}},
        {"split_of_rate": 3},
    ],
)
def test_facts_that_are_no_numbers_are_refused(
    tmp_path: Path, statistics: Stats, facts: dict[str, object]
) -> None:
    path = tmp_path / "s.parquet"
    evaluations.write_statistics(path, statistics, {})
    table = tables.read_table(path, evaluations.STATISTICS_KIND)
    about = tables.about_of(table)
    for of in about["splits"].values():
        of.update(facts)
    metadata = tables.file_metadata(evaluations.STATISTICS_KIND, about)
    tables.write_table(path, table.replace_schema_metadata(metadata))
    with pytest.raises(BadData, match=r"s\.parquet: damaged"):
        evaluations.read_statistics(path)


@pytest.mark.parametrize(
    ("name", "values"), [("draw", [-1]), ("sse", ["x"]), ("kl", [[1.0]]), ("draw", [2**62])]
)
def test_columns_that_are_no_statistics_are_refused(
    tmp_path: Path, statistics: Stats, name: str, values: list[object]
) -> None:
    path = tmp_path / "s.parquet"
    evaluations.write_statistics(path, statistics, {})
    table = tables.read_table(path, evaluations.STATISTICS_KIND)
    at = table.column_names.index(name)
    tables.write_table(path, table.set_column(at, name, pa.array(values * len(table))))
    with pytest.raises(BadData, match=r"s\.parquet: (damaged|.*a column of type list)"):
        evaluations.read_statistics(path)


@pytest.mark.parametrize("about", [b"[" * 100_000, b"[1]", b"null", b"{"])
def test_what_stands_beside_the_rows_is_checked(
    tmp_path: Path, statistics: Stats, about: bytes
) -> None:
    path = tmp_path / "s.parquet"
    evaluations.write_statistics(path, statistics, {})
    table = tables.read_table(path, evaluations.STATISTICS_KIND)
    metadata = tables.file_metadata(evaluations.STATISTICS_KIND, {}) | {b"about": about}
    tables.write_table(path, table.replace_schema_metadata(metadata))
    with pytest.raises(BadData, match=r"s\.parquet"):
        evaluations.read_statistics(path)


def test_more_rows_than_bytes_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    table = pa.table({"kl": np.zeros(10_000_000)})
    metadata = tables.file_metadata(evaluations.STATISTICS_KIND, {})
    tables.write_table(path, table.replace_schema_metadata(metadata))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(BadData, match=r"claims 10,000,000 rows"):
        evaluations.read_statistics(path)
