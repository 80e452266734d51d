import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from rdkit_vae.errors import BadData
from rdkit_vae.system import files


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    """A real limit on file size, as a full disk would set, strikes in the middle of a write."""
    path = tmp_path / "x"
    path.write_bytes(b"old")
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from rdkit_vae.errors import BadData\n"
        "from rdkit_vae.system.files import write_atomic\n"
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


def test_a_folder_of_a_sweep_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    other = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path.home()
    if other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one disk only")
    with tempfile.TemporaryDirectory(dir=other) as elsewhere:
        files.write_json(tmp_path / "sweep.json", {})
        (tmp_path / "checkpoints").symlink_to(elsewhere)
        files.write_atomic(tmp_path / "checkpoints" / "run" / "a.pt", b"data")
        assert (Path(elsewhere) / "run" / "a.pt").read_bytes() == b"data"
        assert [path.name for path in (Path(elsewhere) / "run").iterdir()] == ["a.pt"]


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe"])
def test_json_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sweep.json").write_bytes(content)
    with pytest.raises(BadData, match=r"sweep\.json"):
        files.read_json(tmp_path / "sweep.json")


def test_json_round_trip(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"a": [1, 2.5]})
    assert files.read_json(tmp_path / "a.json") == {"a": [1, 2.5]}
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, 2.5]}
