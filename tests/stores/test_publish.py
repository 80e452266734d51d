"""What two processes make of one trial, and what each finds when it comes later."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import rdkit_vae as rdv
from rdkit_vae import Trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.store import checkpoints
from rdkit_vae.store.evaluations import failed_rows
from rdkit_vae.store.ledger import state_of
from rdkit_vae.store.mirror import EVERYTHING, Mirror
from rdkit_vae.store.parts import merge
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.results import read_results, write_results
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.publish import Publisher
from rdkit_vae.sweeps.runner import run_pack
from rdkit_vae.sweeps.verify import verify
from rdkit_vae.system.files import write_json

pytest.importorskip("obstore")


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    monkeypatch.setenv("RDVAE_CACHE", str(tmp_path / "cache"))
    return Mirror(f"file://{tmp_path}/objects/x")


@pytest.fixture
def trial(tiny: Images, tiny_trial: Trial, mirror: Mirror, tmp_path: Path) -> Trial:
    trial = rdv.config.trial.bind(replace(tiny_trial, checkpoints=(1, 2, 4)), tiny.sha256)
    write_json(tmp_path / "sweep.json", {"run_ids": [trial.run_id]})
    mirror.store.put("sweep.json", (tmp_path / "sweep.json").read_bytes())
    return trial


def _run(trial: Trial, images: Images, mirror: Mirror, scratch: Path, stop_at: int = 99) -> Status:
    """Runs a trial in a scratch folder, up to a step, and returns how it ended."""
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return steps >= stop_at

    publisher = Publisher(mirror.store, Sweep(scratch))
    ((_, outcome),) = run_pack([trial], images, Sweep(scratch), publisher=publisher, stop=stop)
    return outcome.status


def _numbers(mirror: Mirror) -> pd.DataFrame:
    frame = rdv.load_results(mirror.store.url)
    return frame.drop(columns=["created_at", "code_version"])


def _is_sound(mirror: Mirror) -> bool:
    return not verify(Sweep(mirror.pull(EVERYTHING))).findings


def test_rows_and_files_of_two_processes_belong_together(
    trial: Trial, tiny: Images, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their files differ, and the second did not see what the first had done."""
    assert _run(trial, tiny, mirror, tmp_path / "a", stop_at=5) is Status.STOPPED
    before = mirror.store.marks("checkpoints")
    assert len(before) == 2
    monkeypatch.setattr(checkpoints, "code_version", lambda: "another")
    monkeypatch.setattr(Publisher, "fetch", lambda self, run_id: False)
    assert _run(trial, tiny, mirror, tmp_path / "b") is Status.OK
    after = mirror.store.marks("checkpoints")
    assert before.items() <= after.items()
    assert len(after) == 3
    assert _is_sound(mirror)
    numbers = _numbers(mirror)
    monkeypatch.undo()
    monkeypatch.setenv("RDVAE_CACHE", str(mirror.folder.parent.parent))
    assert _run(trial, tiny, mirror, tmp_path / "a") is Status.OK
    pd.testing.assert_frame_equal(_numbers(mirror), numbers)
    assert mirror.store.marks("checkpoints") == after
    assert not mirror.store.marks("unfinished")
    assert not list(tmp_path.glob("[ab]/checkpoints/*"))  # all of it is in the store


def test_a_checkpoint_without_its_statistics_is_replaced(
    trial: Trial, tiny: Images, mirror: Mirror, tmp_path: Path
) -> None:
    """As of a process that died between the two."""
    mirror.store.put(f"statistics/{trial.run_id}/epoch=00001.parquet", b"half of it")
    mirror.store.put(f"checkpoints/{trial.run_id}/epoch=00002.pt", b"half of it")
    assert _run(trial, tiny, mirror, tmp_path / "a") is Status.OK
    assert _is_sound(mirror)


def test_a_failure_that_is_run_again_goes_on_where_it_was_interrupted(
    trial: Trial, tiny: Images, mirror: Mirror, tmp_path: Path
) -> None:
    failed = failed_rows(trial, epoch=0, step=1, status=Status.DIVERGED, reason="made up")
    write_results(tmp_path / "r.parquet", failed, {"trial": trial.to_dict()})
    name = f"results/{trial.run_id}.parquet"
    mirror.store.put(name, (tmp_path / "r.parquet").read_bytes())
    assert _run(trial, tiny, mirror, tmp_path / "a", stop_at=5) is Status.STOPPED
    assert set(_numbers(mirror)["status"]) == {"diverged"}  # it has not ended yet
    scratch = Sweep(tmp_path / "b")
    assert not Publisher(mirror.store, scratch).fetch(trial.run_id)
    assert set(read_results(scratch.results(trial.run_id))["epoch"].to_pylist()) == {1, 2}
    assert scratch.resume_file(trial.run_id).exists()
    assert _run(trial, tiny, mirror, tmp_path / "c") is Status.OK
    assert set(_numbers(mirror)["status"]) == {"ok"}
    assert _is_sound(mirror)


def test_what_comes_after_a_merge_changes_nothing(
    trial: Trial, tiny: Images, mirror: Mirror, tmp_path: Path
) -> None:
    assert _run(trial, tiny, mirror, tmp_path / "a") is Status.OK
    numbers = _numbers(mirror)
    merge(mirror, trials=1)
    (part,) = mirror.store.marks("results")
    assert "part-" in part
    failed = failed_rows(trial, epoch=0, step=1, status=Status.CRASHED, reason="made up")
    write_results(tmp_path / "r.parquet", failed, {"trial": trial.to_dict()})
    late = f"results/{trial.run_id}.parquet"
    mirror.store.put(late, (tmp_path / "r.parquet").read_bytes())
    mirror.store.put(f"unfinished/{trial.run_id}/resume.pt", b"")
    pd.testing.assert_frame_equal(_numbers(mirror), numbers)
    assert _is_sound(mirror)
    assert state_of(Sweep(mirror.folder), trial.run_id).status is Status.CRASHED  # the file alone
    merge(mirror, trials=1)
    assert list(mirror.store.marks("results")) == [part]
    assert not mirror.store.marks("unfinished")


def test_copies_follow_their_objects(mirror: Mirror, tmp_path: Path) -> None:
    store = mirror.store
    store.put("sweep.json", b"{}")
    store.put("results/a.parquet", b"one")
    store.put("below/sweep.json", b"{}")
    store.put("below/results/b.parquet", b"two")
    store.put("checkpoints/a/epoch=00001.pt", b"large")
    folder = mirror.pull()
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert names == {
        "sweep.json",
        "results/a.parquet",
        *(f"below/{n}" for n in ("sweep.json", "results/b.parquet")),
    }
    store.put("results/a.parquet", b"new")
    store.remove(["below/results/b.parquet", "below/sweep.json"])
    (folder / "results" / "stale.parquet").write_bytes(b"of a process that was killed")
    mirror.pull()
    assert (folder / "results" / "a.parquet").read_bytes() == b"new"
    assert sorted(p.name for p in folder.rglob("*.parquet")) == ["a.parquet"]
    assert len(list(folder.rglob("sweep.json"))) == 1
