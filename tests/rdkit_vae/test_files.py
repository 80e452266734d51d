import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rdkit_vae import files
from rdkit_vae.errors import BadData, BadInput


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    """A real limit on file size, as a full disk would set, strikes in the middle of a write."""
    path = tmp_path / "x"
    path.write_bytes(b"old")
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from rdkit_vae.errors import BadData\n"
        "from rdkit_vae.files import write_atomic\n"
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


def test_one_sweep_at_a_time_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from rdkit_vae.files import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    assert not files.is_locked(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert files.is_locked(tmp_path)
        with pytest.raises(BadInput, match=f"process {holder.pid}"), files.locked(tmp_path):
            pass
        holder.kill()
    assert not files.is_locked(tmp_path)
    with files.locked(tmp_path):
        assert f"process {os.getpid()}" in (tmp_path / "lock").read_text()


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe"])
def test_json_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sweep.json").write_bytes(content)
    with pytest.raises(BadData, match=r"sweep\.json"):
        files.read_json(tmp_path / "sweep.json")


def test_json_round_trip(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"a": [1, 2.5]})
    assert files.read_json(tmp_path / "a.json") == {"a": [1, 2.5]}
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, 2.5]}
