import json
import math
import os
import subprocess
import sys
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
from rdkit_vae.store import COLUMNS, Sweep

Stats = dict[str, Statistics]


def _rows(trial: Trial, statistics: Stats) -> list[dict[str, object]]:
    scores = score(statistics, ["half", "optimal", "shared"], beta=trial.beta)
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
    expected = asdict(score(statistics, ["shared"], beta=0.1)[1])
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


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    """A real limit on file size, as a full disk would set, strikes in the middle of a write."""
    path = tmp_path / "x"
    path.write_bytes(b"old")
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from rdkit_vae.errors import BadData\n"
        "from rdkit_vae.store import write_atomic\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    write_atomic(Path(sys.argv[1]), b'n' * 5000)\n"
        "except BadData as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot be written (File too large)" in done.stdout
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_temporary_files_are_hidden_from_readers(
    tmp_path: Path, tiny_trial: Trial, statistics: Stats
) -> None:
    store.write_results(tmp_path / "results" / "a.parquet", _rows(tiny_trial, statistics), {})
    (tmp_path / "results" / ".b.parquet.77.part").write_bytes(b"half a file")
    assert len(pd.read_parquet(tmp_path / "results")) == 6


def test_one_sweep_at_a_time_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from rdkit_vae.store import Sweep, locked\n"
        "with locked(Sweep(Path(sys.argv[1]))):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    sweep = Sweep(tmp_path)
    assert not store.is_locked(sweep)
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert store.is_locked(sweep)
        with pytest.raises(BadData, match=f"process {holder.pid}"), store.locked(sweep):
            pass
        holder.kill()
    assert not store.is_locked(sweep)
    with store.locked(sweep):
        assert f"process {os.getpid()}" in (tmp_path / "lock").read_text()


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe"])
def test_json_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sweep.json").write_bytes(content)
    with pytest.raises(BadData, match=r"sweep\.json"):
        store.read_json(tmp_path / "sweep.json")


def test_json_round_trip(tmp_path: Path) -> None:
    store.write_json(tmp_path / "a.json", {"a": [1, 2.5]})
    assert store.read_json(tmp_path / "a.json") == {"a": [1, 2.5]}
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, 2.5]}
