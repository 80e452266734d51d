"""Damage of every kind is found, named and mended; the numbers come back to the last bit."""

import json
import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from rdkit_vae.config.trial import Trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.store import tables as sealed
from rdkit_vae.store.checkpoints import load_checkpoint
from rdkit_vae.store.evaluations import read_statistics, write_statistics
from rdkit_vae.store.ledger import record_crash, state_of
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.results import read_results, write_results
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.runner import run_trial
from rdkit_vae.sweeps.verify import verify
from rdkit_vae.system.locks import locked
from rdvae_analysis.load import scan

Run = Callable[..., subprocess.CompletedProcess[str]]


def _numbers(folder: Path) -> pd.DataFrame:
    frame = pd.read_parquet(folder / "results").drop(columns=["created_at", "code_version"])
    return frame.sort_values(["run_id", "epoch", "split", "sigma"], ignore_index=True)


@pytest.fixture
def copy(sweep_folder: Path, tmp_path: Path) -> Sweep:
    shutil.copytree(sweep_folder, tmp_path / "x")
    return Sweep(tmp_path / "x")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _first(folder: Path, pattern: str) -> Path:
    return min(folder.glob(pattern))


def _change_a_number(path: Path) -> None:
    """As another hand would: a file that is whole, with a number that is wrong."""
    table = read_results(path)
    rows = table.to_pylist()
    rows[3]["elbo"] += 0.001
    write_results(path, rows, {"trial": _trial_of(path)})


def _trial_of(path: Path) -> dict[str, object]:
    return json.loads(pq.read_schema(path).metadata[b"about"])["trial"]


def _double(path: Path) -> None:
    rows = read_results(path).to_pylist()
    write_results(path, [*rows, rows[0]], {"trial": _trial_of(path)})


def _swap(path: Path) -> None:
    """The statistics of another checkpoint in the place of these."""
    shutil.copy(max(path.parent.glob("*.parquet")), path)


def _lose_a_number(path: Path) -> None:
    """A file that is whole, in which a squared error is no number."""
    statistics, about = read_statistics(path)
    statistics["test"].sse[3] = math.nan
    write_statistics(path, statistics, about)


def _turn_an_error_negative(path: Path) -> None:
    """What no image and no network give, in a file that is whole."""
    statistics, about = read_statistics(path)
    statistics["test"].sse[3] = -1.0
    write_statistics(path, statistics, about)


RESULTS, STATISTICS = "results/*.parquet", "statistics/*/epoch=00002.parquet"
CHECKPOINT, LAST = "checkpoints/*/epoch=00002.pt", "checkpoints/*/epoch=00003.pt"
DAMAGES = {
    "flipped results": (RESULTS, _flip, "checksum"),
    "truncated results": (RESULTS, lambda p: p.write_bytes(p.read_bytes()[:-30]), "checksum"),
    "empty results": (RESULTS, lambda p: p.write_bytes(b""), "Parquet"),
    "no results": (RESULTS, Path.unlink, "there is no results file"),
    "a wrong number": (RESULTS, _change_a_number, "elbo is"),
    "a row twice": (RESULTS, _double, "1 row is duplicated"),
    "flipped statistics": (STATISTICS, _flip, "checksum"),
    "no statistics": (STATISTICS, Path.unlink, "No such file"),
    "other statistics": (STATISTICS, _swap, "measured on another checkpoint"),
    "statistics of no number": (STATISTICS, _lose_a_number, "sse of the test split is not finite"),
    "a negative error": (STATISTICS, _turn_an_error_negative, "a squared error is negative"),
    "a flipped checkpoint": (CHECKPOINT, _flip, "its SHA-256 is not the one"),
    "a flipped last checkpoint": (LAST, _flip, "its SHA-256 is not the one"),
    "an orphan": (CHECKPOINT, lambda p: shutil.copy(p, p.with_name("epoch=00007.pt")), "no row"),
}


def test_a_sound_sweep_agrees_with_itself(main: Run, sweep_folder: Path) -> None:
    done = main("verify", sweep_folder, cwd=sweep_folder)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(": 36 checkpoints, 468 rows: no problems\n")


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_named_and_mended(
    what: str, copy: Sweep, main: Run, digits: Images, sweep_folder: Path
) -> None:
    pattern, damage, cause = DAMAGES[what]
    path = _first(copy.root, pattern)
    damage(path)
    found = main("verify", copy.root, cwd=copy.root)
    assert found.returncode == 4
    lines = [line for line in found.stdout.splitlines() if cause in line]
    assert lines, found.stdout
    assert all("--repair: " in line for line in lines)
    kept = {path: path.read_bytes() for path in copy.root.rglob("*") if path.is_file()}
    assert main("verify", copy.root, cwd=copy.root).stdout == found.stdout
    assert {path: path.read_bytes() for path in kept} == kept  # looking changes nothing

    mended = main("verify", "--repair", copy.root, cwd=copy.root)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert main("verify", copy.root, cwd=copy.root).returncode == 0
    if "checkpoint" in what:  # what is lost is trained again
        assert "trained again" in mended.stdout
        (run_id,) = (r for r in copy.run_ids() if state_of(copy, r).status is Status.LEFT)
        first = copy.checkpoint(run_id, 1)
        assert run_trial(load_checkpoint(first).trial, digits, copy).status == "ok"
    pd.testing.assert_frame_equal(_numbers(copy.root), _numbers(sweep_folder), check_exact=True)
    assert verify(copy).findings == []


def test_a_repair_deletes_nothing(main: Run, copy: Sweep) -> None:
    paths = [_first(copy.root, pattern) for pattern in (RESULTS, STATISTICS, LAST)]
    for path in paths:
        _flip(path)
    damaged = {path.read_bytes() for path in paths}
    assert main("verify", "--repair", copy.root, cwd=copy.root).returncode == 0
    aside = {path.read_bytes() for path in (copy.root / "damaged").rglob("*") if path.is_file()}
    assert damaged == aside


def test_a_checkpoint_that_is_not_there_is_said_and_its_rows_stand(
    main: Run, copy: Sweep, sweep_folder: Path
) -> None:
    """Somebody may have wanted the room; the numbers are no worse for it."""
    _first(copy.root, CHECKPOINT).unlink()
    for arguments in ((), ("--repair",)):
        done = main("verify", *arguments, copy.root, cwd=copy.root)
        assert done.returncode == 4
        assert "epoch=00002.pt: cannot be read (No such file" in done.stdout
        assert "1 problem\n" in done.stdout
    pd.testing.assert_frame_equal(_numbers(copy.root), _numbers(sweep_folder), check_exact=True)


def test_what_was_put_aside_is_not_read(main: Run, copy: Sweep, sweep_folder: Path) -> None:
    damage_path = _first(copy.root, RESULTS)
    _change_a_number(damage_path)
    _flip(_first(copy.root, CHECKPOINT))
    assert main("verify", "--repair", copy.root, cwd=copy.root).returncode == 0
    assert (copy.root / "damaged" / "results" / damage_path.name).exists()
    frame, notes = scan(copy.root)
    assert notes == []
    assert set(frame.loc[frame["run_id"] == damage_path.stem, "epoch"]) == {1}


def test_the_resume_file_of_a_trial_that_failed_is_left(main: Run, copy: Sweep) -> None:
    path = _first(copy.root, RESULTS)
    trial = Trial.from_dict(_trial_of(path))
    rows = [row for row in read_results(path).to_pylist() if row["epoch"] == 1]
    write_results(path, rows, {"trial": trial.to_dict()})
    record_crash(copy, trial, "its process was killed by SIGKILL")
    shutil.copy(copy.checkpoint(path.stem, 1), copy.resume_file(path.stem))
    done = main("verify", "--repair", copy.root, cwd=copy.root)
    assert done.returncode == 0, done.stdout
    assert copy.resume_file(path.stem).exists()
    assert copy.checkpoint(path.stem, 2).exists()  # it may be on its way to a row
    assert state_of(copy, path.stem).status == "crashed"


def test_the_rows_of_a_failure_are_kept(main: Run, copy: Sweep) -> None:
    path = _first(copy.root, RESULTS)
    trial = Trial.from_dict(_trial_of(path))
    for place in (path, *copy.root.glob(f"*/{path.stem}/epoch=*")):
        place.unlink()
    record_crash(copy, trial, "its process was killed by SIGKILL")
    rows = read_results(path).to_pylist()
    _double(path)
    assert "1 row is duplicated" in main("verify", copy.root, cwd=copy.root).stdout
    done = main("verify", "--repair", copy.root, cwd=copy.root)
    assert done.returncode == 0, done.stdout
    assert read_results(path).to_pylist() == rows


def test_results_of_a_newer_release_are_left(
    main: Run, copy: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _first(copy.root, RESULTS)
    table = read_results(path)
    with monkeypatch.context() as later:
        later.setattr(sealed, "SCHEMA", 999)
        write_results(path, table.to_pylist(), {"trial": _trial_of(path)})
    content = path.read_bytes()
    done = main("verify", "--repair", copy.root, cwd=copy.root)
    assert done.returncode == 4
    assert "upgrade rdvae" in done.stdout
    assert path.read_bytes() == content


def test_pictures_are_checked_too(main: Run, copy: Sweep) -> None:
    (run_id, other) = copy.run_ids()[:2]
    assert main("sample", copy.checkpoint(run_id, 3), cwd=copy.root).returncode == 0
    assert main("verify", copy.root, cwd=copy.root).returncode == 0
    (path,) = (copy.root / "samples").rglob("*.parquet")
    sound = path.read_bytes()
    _flip(path)
    assert "checksum" in main("verify", copy.root, cwd=copy.root).stdout
    path.write_bytes(sound)
    path.parent.rename(copy.root / "samples" / other)
    found = main("verify", "--repair", copy.root, cwd=copy.root)
    assert "its pictures are of another checkpoint" in found.stdout
    assert found.returncode == 0
    assert not list((copy.root / "samples").rglob("*.parquet"))


def test_foreign_files_are_counted_and_left(main: Run, copy: Sweep) -> None:
    pq.write_table(pq.read_table(_first(copy.root, RESULTS)), copy.root / "results" / "my.parquet")
    done = main("verify", "--repair", copy.root, cwd=copy.root)
    assert done.returncode == 0
    assert "1 file that rdvae did not write: my.parquet" in done.stdout
    assert (copy.root / "results" / "my.parquet").exists()


def test_a_sweep_at_work_is_looked_at_and_not_mended(main: Run, copy: Sweep) -> None:
    _first(copy.root, RESULTS).unlink()
    with locked(copy.root):
        found = verify(copy)
        assert found.at_work
        assert found.findings == []  # its results may be on their way
        _flip(_first(copy.root, RESULTS))
        done = main("verify", "--repair", copy.root, cwd=copy.root)
    assert done.returncode == 4
    assert "is using this folder" in done.stdout


def test_damaged_descriptions_and_nothing_at_all(main: Run, copy: Sweep, tmp_path: Path) -> None:
    copy.description.write_bytes(b"{")
    done = main("verify", copy.root, cwd=tmp_path)
    assert done.returncode == 4
    assert "sweep.json: cannot be read as JSON" in done.stdout
    (tmp_path / "empty").mkdir()
    assert main("verify", "empty", cwd=tmp_path).returncode == 4


def test_verifying_needs_no_torch(imported_by: Callable[..., set[str]], sweep_folder: Path) -> None:
    assert "torch" not in imported_by("verify", sweep_folder)
