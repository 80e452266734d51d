"""What files and folders of others hold is printed without moving a terminal, by every command."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rdkit_vae import cli
from rdkit_vae.store import results as parquet
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.tables import about_of
from rdkit_vae.system import locks
from rdkit_vae.text import printable

from ..conftest import Run

# Sets the title, asks for a report that is typed, clears the screen, rings, goes back, turns text.
ARMED = "\x1b]0;owned\x07\x1b[6n\x9b2J\x1b[31m\b\r\x7f\u202e"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def test_controls_become_visible_and_all_else_stays() -> None:
    assert not CONTROLS.search(printable(ARMED))
    assert printable("\x1b[31m\x9b\u202e") == r"\x1b[31m\x9b\u202e"
    assert printable(os.fsdecode(b"caf\xe9")) == r"caf\xe9"
    assert printable("\ud800") == r"\ud800"
    plain = "tabs\tlines\n β 日本 é ~ \u200d"
    assert printable(plain) == plain
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    printable(every).encode()  # no half of a character is left
    assert not CONTROLS.search(printable(every))
    assert printable(printable(every)) == printable(every)


@pytest.fixture
def armed(sweep_folder: Path, tmp_path: Path) -> Path:
    """A sweep whose folder, description, rows, log and crashes are all written to do harm."""
    folder = tmp_path / f"got{ARMED}"
    shutil.copytree(sweep_folder, folder)
    sweep = Sweep(folder)
    description = json.loads(sweep.description.read_text())
    description |= {"command": [ARMED], "settings": {**description["settings"], "protocol": ARMED}}
    description["data"]["split_rule"] = ARMED
    sweep.description.write_text(json.dumps(description))
    first, second, third, *_ = (sweep.results(run_id) for run_id in sweep.run_ids())
    table = parquet.read_results(first)
    texts = {name: ARMED for name in ("dataset", "architecture", "caveat", "code_version")}
    parquet.write_results(first, [row | texts for row in table.to_pylist()], about_of(table))
    table = parquet.read_results(second)
    rows = [row | {"status": "crashed", "reason": ARMED} for row in table.to_pylist()]
    parquet.write_results(second, rows, about_of(table))
    table = parquet.read_results(third)
    rows = [row | {"run_id": ARMED} for row in table.to_pylist()]
    parquet.write_results(third, rows, about_of(table))
    (folder / "results" / f"{ARMED}.parquet").write_bytes(b"no")
    (folder / "statistics" / ARMED).mkdir()
    (folder / "statistics" / ARMED / f"{ARMED}.parquet").write_bytes(b"no")
    (folder / "claims.csv").write_text(f"model,elbo,sigma\n{ARMED},1,{ARMED}\n\x1b[6nb,2,half\n")
    started = {"event": "started", "run_id": second.stem, "process": f"1{ARMED}"}
    sweep.log.write_text(json.dumps(started) + "\n")
    return folder


def _commands(folder: Path, out: Path) -> Iterator[tuple[str | Path, ...]]:
    checkpoint = max(folder.glob("checkpoints/*/epoch=*.pt"))
    small = ("--betas", "0.01,1,100", "--seeds", "2", "--architecture", "linear", "--epochs", "3")
    yield ("datasets", "--data-dir", folder)
    yield ("sweep", *small, "--out", folder)
    yield ("sweep", "--betas", ARMED)
    yield ("status", folder)
    yield ("verify", folder)
    yield ("rescore", checkpoint)
    yield ("rescore", folder / ARMED)
    yield ("describe", checkpoint)
    yield ("sample", folder, "--images", "1", "--prior", "1")
    yield ("generation", folder, "--features", "pixels", "--samples", "20")
    for figure in ("rd", "elbo-vs-beta", "concept", "samples", "training", "units"):
        yield ("plot", figure, folder, "--out", out / f"x{ARMED}.png")
    yield ("plot", ARMED)
    yield ("plot-rd", folder, "--out", out / "x.png")
    for kind in ("text", "markdown", "latex", "csv"):
        yield ("table", folder, "--format", kind)
    yield ("report", folder, "--out", out / "x.html")
    yield ("consistency", folder, "--out", out)
    yield ("lint", folder)
    yield ("lint", folder / "claims.csv")
    yield ("decode-loss", f"--{ARMED}")
    yield ("selftest", ARMED)
    yield ("verify", "--repair", folder)
    yield ("export", folder, "--out", out / "x.csv")
    yield (ARMED,)


@pytest.mark.filterwarnings("ignore:Glyph")  # no font has them
def test_no_command_prints_a_control_character(armed: Path, main: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    tried, told = set(), ""
    for words in _commands(armed, tmp_path / "out"):
        done = main(*words, cwd=tmp_path)
        tried.add(words[0])
        printed = done.stdout + done.stderr
        found = CONTROLS.search(printed)
        assert not found, (words, printed[max(0, found.start() - 50) :][:100])
        assert "Traceback" not in printed
        told += printed
    assert tried >= set(cli.COMMANDS)
    assert r"\x1b]0;owned\x07\x1b[6n\x9b2J" in told


def test_what_is_shown_of_a_trial_at_work_is_plain_too(armed: Path, rdvae: Run) -> None:
    sweep = Sweep(armed)
    with locks.claimed(sweep.claims, sweep.run_ids()):
        done = rdvae("status", armed)
    assert r"by process 1\x1b]0;owned" in done.stdout
    assert not CONTROLS.search(done.stdout + done.stderr)


def _in_terminal(*words: str | Path, cwd: Path) -> bytes:
    """What a terminal of 80 columns is sent."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "rdkit_vae", *map(str, words)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=cwd,
        env={**os.environ, "PYTHONSAFEPATH": "1", "TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(slave)
    sent = b""
    try:
        while part := os.read(master, 2**16):
            sent += part
    except OSError:  # the other end has closed
        pass
    os.close(master)
    process.wait(timeout=60)
    return sent


@pytest.mark.parametrize("command", ["status --follow", "verify", "sample --images 1"])
def test_bars_and_live_text_on_a_terminal_are_plain_too(
    command: str, armed: Path, tmp_path: Path
) -> None:
    sent = _in_terminal(*command.split(), armed, cwd=tmp_path)
    assert b"\x1b[" in sent  # those of rich itself
    for sequence in (b"\x1b]", b"\x07", b"\x1b[6n", b"\x9b", b"\b", b"\x7f", "\u202e".encode()):
        assert sequence not in sent
    assert b"\\x1b]0;owned" in sent


def test_a_closed_standard_output_is_said_before_any_work(tmp_path: Path) -> None:
    for words in ("--help", "datasets", "sweep --betas 1 --architecture linear"):
        command = f'exec "$0" -m rdkit_vae {words} >&-'
        done = subprocess.run(
            ["sh", "-c", command, sys.executable], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 4
        assert done.stderr.startswith("rdvae: standard output is closed")
        assert done.stderr.count("\n") == 1
        assert not list(tmp_path.iterdir())


def test_a_closed_standard_error_hinders_nothing(sweep_folder: Path, tmp_path: Path) -> None:
    for words, code in (("table", 0), ("lint", 1), ("plot rd", 0), ("describe", 4)):
        command = f'exec "$0" -m rdkit_vae {words} "$1" 2>&-'
        done = subprocess.run(
            ["sh", "-c", command, sys.executable, str(sweep_folder)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, words


@pytest.mark.parametrize("words", [["table"], ["verify"], ["status"], ["lint"]])
def test_a_pipe_whose_reader_has_left_ends_a_command_quietly(
    words: list[str], sweep_folder: Path, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "rdkit_vae", *words, str(sweep_folder)],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
    )
    os.close(writer)
    assert done.returncode == 1
    assert not [line for line in done.stderr.splitlines() if not line.startswith("rdvae: ")]


def test_a_full_disk_below_standard_output_is_one_line(sweep_folder: Path, tmp_path: Path) -> None:
    program = (
        "import resource, sys\n"
        "from rdkit_vae.cli import main\n"
        "sys.argv = ['rdvae', *sys.argv[1:]]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "main()\n"
    )
    with (tmp_path / "out").open("w") as out:
        done = subprocess.run(
            [sys.executable, "-c", program, "status", str(sweep_folder)],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "File too large" in done.stderr


NAMES = [b"caf\xe9", b"\xff", b"~", b"-x", b"a\nb", "β".encode()]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_any_name_is_worked_in(
    name: bytes,
    sweep_folder: Path,
    small_sweep: tuple[str, ...],
    main: Run,
    tmp_path: Path,
) -> None:
    """Names that are no UTF-8 are printed with escapes; `./~` is a folder, not the user's own."""
    folder = tmp_path / os.fsdecode(name)
    shutil.copytree(sweep_folder, folder)
    path = f"./{folder.name}"
    checkpoint = next(folder.glob("checkpoints/*/epoch=00003.pt"))
    commands = [
        ("sweep", *small_sweep[1:], "--out", path),
        ("status", path),
        ("verify", path),
        ("rescore", f"{path}/{checkpoint.relative_to(folder)}", "--out", f"{path}/x.csv"),
        ("table", path, "--out", f"{path}/table.csv"),
        ("plot", "rd", path, "--out", f"{path}/rd.png"),
        ("sample", path, "--images", "1", "--prior", "1"),
        ("report", path, "--out", f"{path}/report.html"),
        ("export", path, "--out", f"{path}/all.parquet"),
        ("verify", "--repair", path),
    ]
    for words in commands:
        done = main(*words, cwd=tmp_path)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        assert not CONTROLS.search(done.stdout + done.stderr)
        (done.stdout + done.stderr).encode()
    assert {path.name for path in tmp_path.iterdir()} == {folder.name}
    assert (folder / "report.html").stat().st_size > 10_000


def test_a_path_of_images_is_taken_as_it_is_written(
    main: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~` is the user's own folder, `./~` the one that is there."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder, count in ((home, 10), (tmp_path / "~", 20)):
        folder.mkdir(exist_ok=True)
        np.savez(folder / "a.npz", rng.integers(0, 256, (count, 4, 4), np.uint8))
    small = ("--betas", "1", "--architecture", "linear", "--epochs", "1", "--dry-run")
    for path, train in (("./~/a.npz", 16), ("~/a.npz", 8)):
        done = main("sweep", "--dataset", f"npz:{path}", *small, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        from rdkit_vae import load_dataset

        assert len(load_dataset(f"npz:{path}").train) == train
    done = main("sweep", "--dataset", "npz:~no-such-user/a.npz", *small, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    done = main("sweep", "--dataset", f"npz:{os.fsdecode(b'caf%c' % 0xE9)}", *small, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_one_line_is_all_that_lone_surrogates_come_to(
    sweep_folder: Path, main: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "x"
    shutil.copytree(sweep_folder, folder)
    text = (folder / "sweep.json").read_text()
    (folder / "sweep.json").write_text(text.replace('"digits', '"\\ud800digits'))
    for words in (["status"], ["verify"], ["report"]):
        done = main(*words, folder, cwd=tmp_path)
        assert "Traceback" not in done.stderr
        (done.stdout + done.stderr).encode()
