"""Where `--out` leads to a FIFO or through a link, the file goes there, and what stood stays."""

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rdkit_vae.errors import CannotWrite
from rdkit_vae.system.files import write_output

from ..conftest import Run

OUTPUTS: dict[str, tuple[tuple[str, ...], str]] = {
    "rd.png": (("plot", "rd"), "--out"),
    "rd.pdf": (("plot-rd",), "--out"),
    "concept.svg": (("plot", "concept"), "--out"),
    "table.csv": (("table", "--format", "csv"), "--out"),
    "report.html": (("report",), "--out"),
    "rows.csv": (("rescore", "--sigma", "half"), "--out"),
    "rows.json": (("rescore", "--sigma", "half"), "--out"),
    "rows.parquet": (("rescore", "--sigma", "half"), "--out"),
    "bounds.parquet": (("rescore", "--sigma", "half", "--bound", "iwae"), "--out"),
}
BEGINS = {
    ".png": b"\x89PNG",
    ".pdf": b"%PDF",
    ".svg": b"<?xml",
    ".html": b"<!doctype html>",
    ".parquet": b"PAR1",
    ".json": b"[",
    ".csv": b"",
}


def _command(name: str, sweep: Path, out: Path) -> tuple[str | Path, ...]:
    words, option = OUTPUTS[name]
    read = next(sweep.glob("checkpoints/*/epoch=*.pt")) if words[0] == "rescore" else sweep
    return (*words, read, option, out)


def _drained(fifo: Path, act: Callable[[], None]) -> bytes:
    """What comes out of a FIFO while something is done."""
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(fifo.read_bytes()), daemon=True)
    reader.start()
    act()
    reader.join(timeout=20)
    return b"".join(found)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_fifo_is_written_through(
    name: str, sweep_folder: Path, main: Run, tmp_path: Path
) -> None:
    fifo = tmp_path / name
    os.mkfifo(fifo)

    def act() -> None:
        done = main(*_command(name, sweep_folder, fifo), cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    data = _drained(fifo, act)
    assert stat.S_ISFIFO(fifo.lstat().st_mode)
    assert data.startswith(BEGINS[fifo.suffix])
    assert len(data) > 100


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_link_is_followed_to_what_it_names(
    name: str, sweep_folder: Path, main: Run, tmp_path: Path
) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "old").write_text("old")
    link = tmp_path / name
    link.symlink_to("far/old")
    done = main(*_command(name, sweep_folder, link), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert link.is_symlink()
    data = (tmp_path / "far" / "old").read_bytes()
    assert data != b"old"
    assert data.startswith(BEGINS[link.suffix])
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["old"]


def test_files_in_a_folder_that_was_named_are_written_the_same_way(
    sweep_folder: Path, main: Run, tmp_path: Path
) -> None:
    checkpoint = next(sweep_folder.glob("checkpoints/*/epoch=00003.pt"))
    out, target = tmp_path / "pictures", tmp_path / "target"
    out.mkdir()
    (out / f"{checkpoint.parent.name}-epoch=00003.parquet").symlink_to(target)
    arguments = ("sample", checkpoint, "--images", "1", "--prior", "1", "--out", out)
    assert main(*arguments, cwd=tmp_path).returncode == 0
    assert target.read_bytes().startswith(b"PAR1")
    assert main("consistency", sweep_folder, "--out", out, cwd=tmp_path).returncode == 0
    written = [*out.glob("consistency-*-spread.*")]
    assert {path.suffix for path in written} == {".csv", ".png"}
    for path in written:
        path.unlink()
        path.symlink_to(tmp_path / f"spread{path.suffix}")
    assert main("consistency", sweep_folder, "--out", out, cwd=tmp_path).returncode == 0
    assert all(path.is_symlink() and path.stat().st_size > 100 for path in written)


def test_a_link_to_what_is_not_there_makes_it(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("there/x")
    write_output(tmp_path / "link", b"data")
    assert (tmp_path / "there" / "x").read_bytes() == b"data"
    assert (tmp_path / "link").is_symlink()


def test_a_link_to_a_fifo_is_written_through(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    data = bytes(range(256)) * 1000  # more than a FIFO holds
    assert _drained(tmp_path / "fifo", lambda: write_output(tmp_path / "link", data)) == data
    assert (tmp_path / "link").is_symlink()


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for path in (tmp_path, tmp_path / "a"):
        with pytest.raises(CannotWrite, match="cannot be written"):
            write_output(path, b"data")
