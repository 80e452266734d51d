"""A sweep folder that comes from somebody else cannot reach beyond itself."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rdkit_vae.errors import BadData, CannotWrite
from rdkit_vae.store import results as parquet
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.tables import about_of
from rdkit_vae.system import files, locks
from rdkit_vae.text import is_plain_name

from ..conftest import Run

Change = Callable[[Path, Path], None]


@pytest.fixture
def received(sweep_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "received"
    shutil.copytree(sweep_folder, folder)
    return folder


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A folder of somebody's own files, in which everything is precious."""
    folder = tmp_path / "others"
    for name in ("thesis", "a/epoch=00001.pt", "a/resume.pt", "a/epoch=00001.parquet", "x.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("precious")
    return folder


def _all(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _linked(name: str, target: str = "") -> Change:
    def change(received: Path, others: Path) -> None:
        place = received / name
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        place.symlink_to(others / target)

    return change


def _run_linked(kind: str) -> Change:
    def change(received: Path, others: Path) -> None:
        run = next((received / kind).iterdir())
        shutil.rmtree(run)
        run.symlink_to(others / "a")

    return change


def _of_another_sweep(received: Path, others: Path) -> None:
    (others / "sweep.json").write_text("{}")
    (others / "checkpoints").mkdir()
    (others / "a").rename(others / "checkpoints" / "a")
    _linked("checkpoints", "checkpoints")(received, others)


LINKS: dict[str, Change] = {
    "partial": _linked("partial"),
    "damaged": _linked("damaged"),
    "crashes": _linked("crashes"),
    "lock": _linked("lock", "x.txt"),
    "checkpoints of another sweep": _of_another_sweep,
    "checkpoints of a run": _run_linked("checkpoints"),
    "statistics of a run": _run_linked("statistics"),
}
COMMANDS: dict[str, Callable[[Path, tuple[str, ...]], tuple[str, ...]]] = {
    "verify --repair": lambda folder, _: ("verify", "--repair", str(folder)),
    "sweep": lambda folder, sweep: (*sweep, "--out", str(folder)),
}


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_link_leads_no_command_to_other_files(
    name: str,
    link: str,
    received: Path,
    others: Path,
    main: Run,
    small_sweep: tuple[str, ...],
    tmp_path: Path,
) -> None:
    LINKS[link](received, others)
    before = _all(others)
    done = main(*COMMANDS[name](received, small_sweep), cwd=tmp_path)
    assert _all(others) == before
    assert done.returncode == 4
    assert (done.stdout + done.stderr).count("\n") == 1
    assert "link" in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["log.jsonl", "claims"])
def test_a_link_in_the_place_of_a_file_of_the_sweep_is_refused(
    name: str,
    received: Path,
    others: Path,
    main: Run,
    small_sweep: tuple[str, ...],
    tmp_path: Path,
) -> None:
    _linked(name, "x.txt")(received, others)
    shutil.rmtree(received / "results")
    before = _all(others)
    if name == "claims":
        with (
            pytest.raises(CannotWrite, match=r"claims: cannot be written \(a link"),
            locks.claimed(Sweep(received).claims, ["a"]),
        ):
            pass
    else:
        done = main(*small_sweep, "--out", received, cwd=tmp_path)
        assert done.returncode == 4
        assert "log.jsonl: cannot be written (a link" in done.stderr
    assert _all(others) == before


def test_pictures_are_not_written_through_a_link(
    received: Path, others: Path, main: Run, tmp_path: Path
) -> None:
    runs = sorted((received / "checkpoints").iterdir())
    (received / "samples").mkdir()
    (received / "samples" / runs[0].name).symlink_to(others / "a")
    before = _all(others)
    checkpoint = max(runs[0].glob("epoch=*.pt"))
    done = main("sample", checkpoint, "--images", "1", "--prior", "1", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "a link" in done.stderr
    assert _all(others) == before


def test_whole_folders_of_a_sweep_may_be_links(
    received: Path, main: Run, small_sweep: tuple[str, ...], tmp_path: Path
) -> None:
    for name in ("checkpoints", "statistics"):
        (received / name).rename(tmp_path / f"large-{name}")
        (received / name).symlink_to(tmp_path / f"large-{name}")
    (tmp_path / "link").symlink_to(received)
    for folder in (received, tmp_path / "link"):
        assert main("verify", "--repair", folder, cwd=tmp_path).returncode == 0
        next((folder / "statistics").glob("*/*")).write_bytes(b"damaged")
        mended = main("verify", "--repair", folder, cwd=tmp_path)
        assert (mended.returncode, "measured again" in mended.stdout) == (0, True)
        assert main(*small_sweep, "--out", folder, cwd=tmp_path).returncode == 0
    assert (received / "checkpoints").is_symlink()


BAD_NAMES = ["../../others/a", "..", ".", "", "a/b", "a\0b", "a\x1b[31mb", "\ud800", "x" * 300]


@pytest.mark.parametrize("name", [*BAD_NAMES, "/absolute", 3, None])
def test_a_run_that_is_no_plain_name_is_named_where_a_sweep_is_read(
    name: object, received: Path, others: Path, main: Run, tmp_path: Path
) -> None:
    if name == "/absolute":
        name = str(others / "a")
    assert not is_plain_name(name)
    description = json.loads((received / "sweep.json").read_text())
    (received / "sweep.json").write_text(json.dumps({**description, "run_ids": [name]}))
    before = _all(others)
    with pytest.raises(BadData, match=r"sweep\.json: damaged \(.* is not a valid run name"):
        Sweep(received).run_ids()
    for words in (["verify", "--repair"], ["status"]):
        done = main(*words, received, cwd=tmp_path)
        assert done.returncode == (4 if words[0] == "verify" else 0)
        assert "is not a valid run name" in done.stdout + done.stderr
    assert _all(others) == before


@pytest.mark.parametrize("name", [*BAD_NAMES[:-3], "x" * 300, None])
def test_a_run_that_is_no_plain_name_is_named_where_rows_are_read(
    name: str | None, received: Path, others: Path, main: Run, tmp_path: Path
) -> None:
    """Sealed again, as one who means harm would."""
    expected = pq.read_table(received / "results").num_rows
    results = next((received / "results").iterdir())
    table = parquet.read_results(results)
    about = about_of(table)
    rows = [{**row, "run_id": name} for row in table.to_pylist()]
    parquet.write_results(results, rows, about)
    before = _all(others)
    for columns in (("run_id",), ("run_id", "elbo"), tuple(table.column_names)):
        with pytest.raises(BadData, match="is not a valid run name"):
            parquet.read_results(results, columns)
    done = main("verify", "--repair", received, cwd=tmp_path)
    assert "is not a valid run name" in done.stdout
    assert "Traceback" not in done.stderr
    assert _all(others) == before
    assert pq.read_table(received / "results").num_rows == expected


def test_a_checkpoint_of_no_epoch_is_passed_over(received: Path, main: Run, tmp_path: Path) -> None:
    results = next((received / "results").iterdir())
    (received / "checkpoints" / results.stem / "epoch=x.pt").write_bytes(b"no")
    results.unlink()
    done = main("verify", "--repair", received, cwd=tmp_path)
    assert (done.returncode, "epoch=x.pt is moved aside" in done.stdout) == (0, True)
    assert parquet.read_results(results).num_rows > 0


def test_every_run_that_rdvae_names_has_a_plain_name(sweep_folder: Path) -> None:
    assert all(map(is_plain_name, Sweep(sweep_folder).run_ids()))
    assert is_plain_name("digits-mlp-constant-beta=1e-05-C=0.1-seed=0-bd1ff460a3")


def test_a_file_in_partial_is_removed_and_a_link_there_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "partial" / "a.part").write_text("left")
    (tmp_path / "partial" / "b.part").symlink_to(tmp_path / "mine")
    os.mkfifo(tmp_path / "partial" / "c.part")
    with locks.locked(tmp_path):
        assert not (tmp_path / "partial" / "a.part").exists()
    assert (tmp_path / "mine").read_text() == "precious"
    assert (tmp_path / "partial" / "b.part").is_symlink()


def test_a_part_that_was_laid_out_as_a_link_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name can be guessed where the numbers of process and thread can."""
    monkeypatch.setattr(files.platform, "node", lambda: "host")
    monkeypatch.setattr(files.os, "getpid", lambda: 1)
    monkeypatch.setattr(files.threading, "get_native_id", lambda: 2)
    (tmp_path / "mine").write_text("precious")
    (tmp_path / ".x.2.host-1.part").symlink_to(tmp_path / "mine")
    files.write_atomic(tmp_path / "x", b"data")
    assert (tmp_path / "mine").read_text() == "precious"
    assert (tmp_path / "x").read_bytes() == b"data"
    assert not (tmp_path / "x").is_symlink()
