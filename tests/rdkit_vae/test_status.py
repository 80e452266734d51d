import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rdkit_vae.config.trial import Trial
from rdkit_vae.store.ledger import record_crash
from rdkit_vae.store.paths import Sweep
from rdkit_vae.system.locks import claimed, locked
from rdkit_vae.text import megabytes

Run = Callable[..., subprocess.CompletedProcess[str]]
HOLD = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from rdkit_vae.system.locks import claimed, locked\n"
    "with locked(Path(sys.argv[1])), claimed(Path(sys.argv[1], 'claims'), [sys.argv[2]]):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


def _copy(sweep_folder: Path, place: Path) -> Sweep:
    """A sweep of which one trial crashed and one is left."""
    shutil.copytree(sweep_folder, place)
    sweep = Sweep(place)
    crashed, left = sweep.run_ids()[:2]
    metadata = json.loads(_about(sweep.results(crashed)))
    for run_id in (crashed, left):
        sweep.results(run_id).unlink()
    record_crash(sweep, Trial.from_dict(metadata["trial"]), "its process was killed by SIGSEGV")
    return sweep


def _about(path: Path) -> bytes:
    import pyarrow.parquet as pq

    found: bytes = pq.read_schema(path).metadata[b"about"]
    return found


def test_failed_trials_say_why_and_the_disk_is_told(
    main: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    sweep = _copy(sweep_folder, tmp_path / "x")
    before = {path: path.stat().st_mtime_ns for path in sweep.root.rglob("*")}
    done = main("status", "x", cwd=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in sweep.root.rglob("*")} == before
    size = sum(path.stat().st_size for path in sweep.root.rglob("*") if path.is_file())
    first, second = done.stdout.splitlines()
    told = "x: 10 of 12 done, 0 running, 1 failed, 1 left"
    assert first == f"{told}; {megabytes(size)} on disk"
    assert second == f"  crashed   {sweep.run_ids()[0]}: its process was killed by SIGSEGV"


def test_running_is_what_a_living_process_has_claimed(
    main: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    """The log says that two trials were begun; one's process lives, the other's was killed."""
    sweep = _copy(sweep_folder, tmp_path / "x")
    failed, run_id = sweep.run_ids()[:2]
    with sweep.log.open("w") as log:
        for name in (failed, run_id):
            said = {"event": "started", "run_id": name, "process": "7 on here", "clock": 0}
            log.write(json.dumps(said) + "\n")
            for epoch in (1, 2):
                facts = {"epoch": epoch, "epochs": 3, "loss": 4.5, "clock": 60.0 * epoch}
                log.write(json.dumps({**said, "event": "epoch", **facts}) + "\n")
    command = [sys.executable, "-c", HOLD, str(sweep.root), run_id]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        first, second, third = main("status", "x", cwd=tmp_path).stdout.splitlines()
        with claimed(sweep.claims, [run_id]) as mine:  # looking has left the claim with its holder
            assert not mine
        holder.communicate("")
    assert first.startswith("x: 10 of 12 done, 1 running, 1 failed, 0 left")
    line = "epoch 2 of 3, loss 4.5, 60 s left, by process 7 on here"
    assert second == f"  running   {run_id}: {line}"
    assert third.startswith(f"  crashed   {failed}")
    assert "0 running, 1 failed, 1 left" in main("status", "x", cwd=tmp_path).stdout


def test_following_ends_with_the_sweep(sweep_folder: Path, tmp_path: Path) -> None:
    sweep = _copy(sweep_folder, tmp_path / "x")
    command = [sys.executable, "-m", "rdkit_vae", "status", "--follow", "x"]
    with locked(sweep.root):
        following = subprocess.Popen(command, stdout=-1, stderr=-1, text=True, cwd=tmp_path)
        assert following.stdout is not None
        assert "10 of 12 done" in following.stdout.readline()
        shutil.copy(
            sweep_folder / "results" / f"{sweep.run_ids()[1]}.parquet",
            sweep.results(sweep.run_ids()[1]),
        )
        time.sleep(0.1)
        assert following.poll() is None
    out, err = following.communicate(timeout=30)
    assert following.returncode == 0, err
    assert "11 of 12 done, 0 running, 1 failed, 0 left" in out
