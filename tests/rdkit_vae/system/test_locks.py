"""Locks of a sweep folder and claims of names."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rdkit_vae.errors import BadInput, CannotWrite
from rdkit_vae.system import files, locks


def test_one_sweep_at_a_time_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from rdkit_vae.system.locks import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    assert not locks.is_locked(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert locks.is_locked(tmp_path)
        with pytest.raises(BadInput, match=f"process {holder.pid}"), locks.locked(tmp_path):
            pass
        holder.kill()
    assert not locks.is_locked(tmp_path)
    with locks.locked(tmp_path):
        assert f"process {os.getpid()}" in (tmp_path / "lock").read_text()


def test_a_disk_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be taken for one where everything is held, and waited for for ever."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with (
        pytest.raises(CannotWrite, match="locks do not work"),
        locks.claimed(tmp_path / "c", ["a"]),
    ):
        pass
    assert not locks.is_claimed(tmp_path / "c", "a")
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(CannotWrite, match="locks do not work"), locks.locked(tmp_path):
        pass
    assert not locks.is_locked(tmp_path)
    files.write_atomic(tmp_path / "x", b"data")  # which needs none
    assert (tmp_path / "x").read_bytes() == b"data"
