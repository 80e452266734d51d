"""Results merged into one file: no row changes, is doubled or missing, whatever happens."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from rdkit_vae import Trial, make_trial
from rdkit_vae.errors import BadData
from rdkit_vae.store import compact
from rdkit_vae.store import paths as store
from rdkit_vae.store import results as parquet
from rdkit_vae.store import tables as sealed
from rdkit_vae.store.compact import merged_runs
from rdkit_vae.store.ledger import LEFT, state_of
from rdkit_vae.store.paths import CRASHED, OK, Sweep
from rdkit_vae.store.schema import COLUMNS
from rdkit_vae.system.files import locked, write_json
from rdvae_analysis.load import scan

Run = Callable[..., subprocess.CompletedProcess[str]]
ENVIRONMENT = {"device": "cpu", "torch": "2.0"}
ROWS = 6  # of a trial here
SWAPS = [True, False] if sys.platform == "linux" else [False]


def _trial(seed: int) -> Trial:
    return make_trial(architecture="linear", latents=2, epochs=4, seed=seed)


def _rows(trial: Trial, rows: int = ROWS, *, epoch: int = 4, status: str = OK) -> list[dict]:
    (base, *_) = store.failed_rows(
        trial, ["half"], epoch=epoch, step=9, status=status, reason="by hand"
    )
    numbers = np.random.default_rng(trial.seed).random((rows, 2))
    return [
        base | {"sigma": f"constant:{i}", "rate": rate, "elbo": elbo, "n_draws": 1}
        for i, (rate, elbo) in enumerate(numbers.tolist())
    ]


def _write(sweep: Sweep, trial: Trial, rows: list[dict]) -> Path:
    path = sweep.results(trial.run_id)
    about = {"trial": trial.to_dict(), "environment": ENVIRONMENT}
    parquet.write_results(path, rows, about)
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 trials that have ended. Not to be changed by a test."""
    sweep = Sweep(tmp_path_factory.mktemp("runs") / "original")
    trials = [_trial(seed) for seed in range(40)]
    for trial in trials:
        _write(sweep, trial, _rows(trial))
    write_json(sweep.description, {"run_ids": [trial.run_id for trial in trials]})
    return sweep.root


@pytest.fixture
def sweep(original: Path, tmp_path: Path) -> Sweep:
    return Sweep(Path(shutil.copytree(original, tmp_path / "runs" / "one")))


@pytest.fixture(params=SWAPS, ids=lambda swaps: "swapped" if swaps else "one by one")
def swaps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the system can swap two folders; where it cannot, files go one by one."""
    if not request.param:
        monkeypatch.setattr(compact, "_exchange", _no_exchange)
    return bool(request.param)


def _no_exchange(one: Path, other: Path) -> None:
    raise OSError(22, "Invalid argument")


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(["run_id", "epoch", "split", "sigma"]).reset_index(drop=True)


def _same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(_sorted(found), _sorted(expected), check_exact=True)


def _names(sweep: Sweep) -> list[str]:
    """Everything there, hidden names too."""
    results = [f"results/{path.name}" for path in (sweep.root / "results").iterdir()]
    return sorted([*results, *(path.name for path in sweep.root.iterdir())])


def test_all_rows_stand_in_one_file_bit_for_bit(sweep: Sweep, original: Path, swaps: bool) -> None:
    before, inode = scan(original)[0], (sweep.root / "results").stat().st_ino
    done = compact.compact(sweep)
    assert ((sweep.root / "results").stat().st_ino != inode) == swaps
    assert done.merged is not None
    assert (done.trials, done.files, done.unfinished, done.others) == (40, 40, 0, ())
    merged = f"results/{done.merged.name}"
    assert _names(sweep) == ["lock", "partial", "results", merged, "sweep.json"]
    after, notes = scan(sweep.root)
    assert notes == []
    pd.testing.assert_frame_equal(after, before, check_exact=True)  # in their order, too
    _same(pd.read_parquet(sweep.root / "results"), pd.read_parquet(original / "results"))
    assert {state_of(sweep, run_id).status for run_id in before["run_id"]} == {OK}
    schema = pq.read_schema(done.merged)
    for name, column in COLUMNS.items():
        assert schema.field(name).metadata[b"meaning"] == column.meaning.encode()


def test_what_the_files_said_of_their_trials_is_kept(sweep: Sweep, original: Path) -> None:
    compact.compact(sweep)
    runs = merged_runs(sweep.root / "results")
    assert len(runs) == 40
    for path in (original / "results").iterdir():
        assert runs[path.stem] == sealed.about_of(parquet.read_results(path))


def test_failed_and_unfinished_trials_keep_their_files_and_join_when_they_have_ended(
    sweep: Sweep, original: Path, swaps: bool
) -> None:
    crashed, half = _trial(100), _trial(101)
    rows = _rows(crashed, epoch=2)
    failed = _write(sweep, crashed, rows + _rows(crashed, 1, epoch=2, status=CRASHED))
    left = _write(sweep, half, _rows(half, epoch=2))
    first = compact.compact(sweep)
    assert (first.files, first.unfinished) == (40, 2)
    assert first.merged is not None
    assert set((sweep.root / "results").iterdir()) == {first.merged, failed, left}
    assert [state_of(sweep, t.run_id).status for t in (crashed, half)] == [CRASHED, LEFT]
    again = compact.compact(sweep)
    assert (again.merged, again.trials, again.unfinished) == (None, 40, 2)
    _write(sweep, half, _rows(half, epoch=2) + _rows(half))
    before, _ = scan(sweep.root)
    second = compact.compact(sweep)
    assert (second.files, second.trials, second.unfinished) == (2, 41, 1)
    assert second.merged is not None
    assert set((sweep.root / "results").iterdir()) == {second.merged, failed}
    _same(scan(sweep.root)[0], before)
    assert state_of(sweep, half.run_id).status == OK


def test_what_is_not_ours_is_named_and_stays(sweep: Sweep, swaps: bool) -> None:
    results = sweep.root / "results"
    (damaged, *_) = sorted(results.iterdir())
    content = bytearray(damaged.read_bytes())
    content[len(content) // 3] ^= 1
    damaged.write_bytes(content)
    (results / "text.parquet").write_text("no")
    (results / "notes.txt").write_text("mine")
    (results / "folder").mkdir()
    (results / "folder" / "mine.txt").write_text("mine")
    shutil.copy(sorted(results.glob("digits*"))[1], results / "copy.parquet")
    kept = {path: path.read_bytes() for path in [damaged, *results.glob("[cnt]*")]}
    before, notes = scan(sweep.root)
    done = compact.compact(sweep)
    assert (done.files, len(done.others)) == (39, 3)
    for name in (damaged.name, "text.parquet", "copy.parquet"):
        assert sum(name in reason for reason in done.others) == 1
    assert {path: path.read_bytes() for path in kept} == kept
    assert (results / "folder" / "mine.txt").read_text() == "mine"
    after, again = scan(sweep.root)
    _same(after, before)
    assert sorted(again) == sorted(notes)


def test_a_file_that_comes_meanwhile_is_not_lost(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, exchange = _trial(50), compact._exchange

    def later(one: Path, other: Path) -> None:
        _write(sweep, late, _rows(late))
        exchange(one, other)

    monkeypatch.setattr(compact, "_exchange", later)
    compact.compact(sweep)
    assert sweep.results(late.run_id).exists()
    assert scan(sweep.root)[0]["run_id"].nunique() == 41


def test_a_merged_file_that_is_damaged_is_named_and_left(sweep: Sweep) -> None:
    done = compact.compact(sweep)
    assert done.merged is not None
    content = bytearray(done.merged.read_bytes())
    content[len(content) // 2] ^= 4
    done.merged.unlink()
    done.merged.write_bytes(content)
    with pytest.raises(BadData, match=r"merged-.*its checksum"):
        merged_runs(sweep.root / "results")
    again = compact.compact(sweep)
    assert again.merged is None
    assert "its checksum is another" in again.others[0]
    with pytest.raises(BadData, match=r"merged-.*its checksum"):
        scan(sweep.root)


def test_the_setup_of_older_rows_is_known_from_what_each_file_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [_trial(0), replace(_trial(1), latents=3)]
    tables = [parquet.read_results(_write(Sweep(tmp_path), t, _rows(t))) for t in trials]
    runs = {trial.run_id: {"trial": trial.to_dict()} for trial in trials}
    old = {name: column for name, column in COLUMNS.items() if column.since == 1}
    with monkeypatch.context() as past:
        past.setattr(sealed, "SCHEMA", 1)
        past.setattr(parquet, "COLUMNS", old)
        merged = parquet.encoded_results([t.select(list(old)) for t in tables], {"runs": runs})
    (tmp_path / "merged-0.parquet").write_bytes(merged)
    table = parquet.read_results(tmp_path / "merged-0.parquet")
    assert table["setup"].to_pylist() == [t.setup for t in trials for _ in range(ROWS)]
    assert len({trial.setup for trial in trials}) == 2


def test_a_sweep_at_work_is_left_alone(sweep: Sweep, main: Run) -> None:
    other = Path(shutil.copytree(sweep.root, sweep.root.parent / "two"))
    program = (
        "import sys, pathlib\nfrom rdkit_vae.system.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(sweep.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        done = main("compact", sweep.root.parent, cwd=sweep.root.parent)
        holder.communicate("\n")
    assert done.returncode == 2
    assert f"{sweep.root}: another rdvae is at work there" in done.stderr
    assert len(list((sweep.root / "results").iterdir())) == 40
    assert len(list((other / "results").iterdir())) == 1
    with locked(sweep.root):
        pass
    done = main("compact", sweep.root, cwd=sweep.root)
    assert done.returncode == 0
    assert "40 files merged into results/merged-" in done.stdout
    status = main("status", sweep.root, cwd=sweep.root)
    assert "40 of 40 done" in status.stdout


def test_a_reader_sees_every_row_once_all_the_while(
    original: Path, tmp_path: Path, swaps: bool
) -> None:
    """Of plain readers too, but where rows are doubled for a moment."""
    sweeps = [
        Sweep(Path(shutil.copytree(original, tmp_path / f"runs{i}" / "one"))) for i in range(8)
    ]
    expected, _ = scan(original)
    read, wrong, stop = [0, 0], [], threading.Event()
    now = [0]

    def scanning() -> None:
        while not stop.is_set():
            found, _ = scan(sweeps[now[0]].root.parent)
            read[0] += 1
            if not _sorted(found).equals(_sorted(expected)):
                wrong.append(f"scan: {len(found)} rows")

    def plain() -> None:
        while not stop.is_set():
            try:
                found = pd.read_parquet(sweeps[now[0]].root / "results")
            except FileNotFoundError:
                continue  # it has listed a file that is in the merged one now
            read[1] += 1
            if not _sorted(found).equals(_sorted(expected)):
                wrong.append(f"plain: {len(found)} rows")

    threads = [threading.Thread(target=f) for f in ([scanning, plain] if swaps else [scanning])]
    for thread in threads:
        thread.start()
    try:
        for i, sweep in enumerate(sweeps):
            now[0], begun = i, list(read)
            while threads[0].is_alive() and read[0] == begun[0]:
                time.sleep(0.01)
            assert compact.compact(sweep).files == 40
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert read[0] >= len(sweeps)
    assert read[1] >= 1 or not swaps


def _listed(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries)


@pytest.mark.skipif(sys.platform != "linux", reason="folders are swapped on Linux alone")
def test_a_folder_opened_before_the_swap_still_lists_its_files(sweep: Sweep) -> None:
    """Emptied under a reader that is about to list it, it would read as no rows, silently."""
    results = sweep.root / "results"
    before = os.open(results, os.O_RDONLY | os.O_DIRECTORY)
    inode, files = os.fstat(before).st_ino, _listed(before)
    merging = threading.Thread(target=compact.compact, args=[sweep])
    merging.start()
    try:
        while merging.is_alive() and results.stat().st_ino == inode:
            time.sleep(0.001)
        time.sleep(0.1)  # a reader that waits for a processor
        listed = _listed(before)
    finally:
        merging.join()
        os.close(before)
    assert listed == files
    assert len(files) == 40


# Its third argument: the step, of all that change names on the disk, before which it kills itself.
_COMPACT = """
import os, signal, sys, pathlib
from rdkit_vae.store import compact
from rdkit_vae.store.paths import Sweep
import pyarrow.parquet
if sys.argv[2] == "False":
    def no(one, other):
        raise OSError("no")
    compact._exchange = no
steps, last = [], int(sys.argv[3])
def count(event, arguments):
    if event in ("os.mkdir", "os.link", "os.rename", "os.remove", "os.rmdir", "ctypes.dlopen"):
        steps.append(event)
        if len(steps) == last:
            os.kill(os.getpid(), signal.SIGKILL)
print("go", flush=True)
sys.addaudithook(count)
compact.compact(Sweep(pathlib.Path(sys.argv[1])))
print(*steps)
"""


def _start(sweep: Sweep, swaps: bool, last: int = 0) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", _COMPACT, str(sweep.root), str(swaps), str(last)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "go\n"
    return started


def test_killed_at_any_moment_nothing_is_lost_and_the_next_one_ends_it(
    original: Path, tmp_path: Path, swaps: bool
) -> None:
    copies = iter(Sweep(tmp_path / str(i)) for i in range(99))

    def copy() -> Sweep:
        sweep = next(copies)
        shutil.copytree(first.root, sweep.root)
        return sweep

    crashed, first = _trial(100), next(copies)
    shutil.copytree(original, first.root)
    _write(first, crashed, _rows(crashed, 1, status=CRASHED))
    expected, _ = scan(first.root)
    started, begun = _start(copy(), swaps), time.monotonic()
    steps = started.communicate()[0].split()
    seconds = time.monotonic() - begun
    # Before each kind of step: all of those that are few, else the first and one between.
    kinds = [[i for i, step in enumerate(steps, 1) if step == kind] for kind in set(steps)]
    before = [i for at in kinds for i in (at if len(at) < 7 else (at[0], at[len(at) // 2]))]
    assert len(before) > 4
    rng = np.random.default_rng(0)
    for last in [*before, 0, 0]:
        sweep = copy()
        started = _start(sweep, swaps, last)
        if not last:
            time.sleep(rng.uniform(0.2, 1) * seconds)
            os.kill(started.pid, signal.SIGKILL)
        started.communicate()
        assert started.returncode == -signal.SIGKILL or not last
        _same(scan(sweep.root)[0], expected)
        if swaps:
            _same(pd.read_parquet(sweep.root / "results"), expected)
        compact.compact(sweep)
        (merged,) = (sweep.root / "results").glob("merged-*")
        names = {merged.name, sweep.results(crashed.run_id).name}
        assert {path.name for path in (sweep.root / "results").iterdir()} == names
        names = {"lock", "partial", "results", "sweep.json"}
        assert {path.name for path in sweep.root.iterdir()} == names
        assert not list((sweep.root / "partial").iterdir())
        _same(pd.read_parquet(sweep.root / "results"), expected)
