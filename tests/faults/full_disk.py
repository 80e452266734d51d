"""Runs a sweep on a small disk that fills up, makes room, and runs it again.

    python full_disk.py FOLDER ARGUMENTS...

Mounts a tmpfs, so it needs the privilege to. Leaves the sweep in FOLDER/x, and prints as JSON the
exit codes and errors: of each run that met the full disk, and of one that was not to begin.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

SIZE = 16 * 2**20  # bytes of the disk
CHECKPOINTS = (2, 8)  # how many are there when the disk fills up
ROOM = 30_000  # bytes that are left then: less than a checkpoint


def main(folder: Path, arguments: list[str]) -> None:
    """Goes through it."""
    disk = folder / "disk"
    disk.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(disk)]
    subprocess.run(options, check=True)
    try:
        told = _fill_and_resume(disk, [sys.executable, "-m", "rdkit_vae", *arguments])
        shutil.copytree(disk / "x", folder / "x")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    print(json.dumps(told))


def _fill_and_resume(disk: Path, command: list[str]) -> dict[str, object]:
    full, ballast = [], disk / "ballast"
    here = [*command, "--out", str(disk / "x")]
    for checkpoints in CHECKPOINTS:
        sweep = subprocess.Popen(here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while len(list((disk / "x").glob("checkpoints/*/epoch*"))) < checkpoints:
            assert sweep.poll() is None, sweep.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        _fill(disk, ballast)
        _, errors = sweep.communicate(timeout=120)
        full.append((sweep.returncode, errors))
        _all_whole(disk / "x")
        ballast.unlink()
    done = subprocess.run(here, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    _fill(disk, ballast)
    other = subprocess.run(
        [*command, "--out", str(disk / "y")], capture_output=True, text=True, timeout=120
    )
    log = (disk / "x" / "log.jsonl").read_text()
    return {
        "full": full,
        "refused": (other.returncode, other.stderr),
        "crashed": log.count('"crashed"'),
    }


def _fill(disk: Path, ballast: Path) -> None:
    with contextlib.suppress(OSError):  # the sweep has taken some of it meanwhile: full is full
        ballast.write_bytes(bytes(shutil.disk_usage(disk).free - ROOM))


def _all_whole(folder: Path) -> None:
    """Whatever has its final name can be read."""
    from rdkit_vae.store.checkpoints import load_checkpoint
    from rdkit_vae.store.evaluations import read_statistics
    from rdkit_vae.store.results import read_results

    for path in folder.glob("results/*.parquet"):
        assert (read_results(path)["status"].to_pandas() == "ok").all()
    for path in folder.glob("statistics/*/*.parquet"):
        read_statistics(path)
    for path in folder.glob("checkpoints/*/*.pt"):
        load_checkpoint(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
