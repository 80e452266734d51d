import json
import math
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rdkit_vae import Trial
from rdkit_vae.errors import CannotWrite
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.log import Log, LogReader
from rdkit_vae.sweeps.messages import Event, EventKind


def _epoch(run_id: str, epoch: int) -> Event:
    return Event(run_id=run_id, kind=EventKind.EPOCH, epoch=epoch, loss=10.0 - epoch)


def test_what_is_noted_is_read(tmp_path: Path, tiny_trial: Trial) -> None:
    trials = {name: tiny_trial for name in "abc"}
    reader = LogReader(tmp_path / "log.jsonl")
    assert reader.running() == {}  # nothing there yet
    with Log(tmp_path / "log.jsonl") as log:
        log.note("sweep started", trials=3)
        for name in "abc":
            log.note_event(Event(run_id=name, kind=EventKind.STARTED), trials)
        log.note_event(_epoch("a", 1), trials)
        log.note_event(
            Event(run_id="b", kind=EventKind.ENDED, status=Status.OK, summary="fine"), trials
        )
        running = reader.running()
        assert set(running) == {"a", "c"}
        assert (running["a"].epoch, running["a"].epochs, running["a"].loss) == (1, 4, 9.0)
        assert running["a"].seconds_left() is None  # one epoch has no pace
        assert running["a"].process.startswith(f"{os.getpid()} on ")
        assert math.isnan(running["c"].loss)
        log.note_event(_epoch("a", 3), trials)
        left = reader.running()["a"].seconds_left()
        assert left is not None
        assert 0 <= left < 10
        log.note_event(Event(run_id="a", kind=EventKind.ENDED, status=Status.STOPPED), trials)
    assert set(reader.running()) == {"c"}
    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        assert {"time", "clock", "process", "event"} <= json.loads(line).keys()


def test_the_pace_is_that_of_the_last_start(tmp_path: Path) -> None:
    lines = [
        {"event": "started", "run_id": "a", "process": "1 on x", "clock": 0.0},
        {"event": "epoch", "run_id": "a", "epoch": 1, "epochs": 20, "loss": 1.0, "clock": 100.0},
        {"event": "started", "run_id": "a", "process": "2 on x", "clock": 5.0},
        {"event": "epoch", "run_id": "a", "epoch": 8, "epochs": 20, "loss": 1.0, "clock": 7.0},
        {"event": "epoch", "run_id": "a", "epoch": 10, "epochs": 20, "loss": 1.0, "clock": 13.0},
    ]
    (tmp_path / "log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    running = LogReader(tmp_path / "log").running()["a"]
    assert running.process == "2 on x"
    assert running.seconds_left() == pytest.approx(3.0 * 10)


def test_a_line_that_was_cut_short_spoils_no_other(tmp_path: Path, tiny_trial: Trial) -> None:
    path, trials = tmp_path / "log.jsonl", {"a": tiny_trial}
    with Log(path) as log:
        log.note_event(Event(run_id="a", kind=EventKind.STARTED), trials)
    path.write_bytes(path.read_bytes() + b'{"event": "epoch", "run_id": "a", "epo')
    reader = LogReader(path)
    assert reader.running()["a"].epoch == 0
    with Log(path) as log:  # the next sweep goes on in a line of its own
        log.note_event(_epoch("a", 2), trials)
    assert reader.running()["a"].epoch == 2
    path.write_bytes(path.read_bytes() + b'{}\n[1]\nnull\n{"event": 3, "run_id": []}\n\xff\n')
    assert reader.running()["a"].epoch == 2


def _write_many(path: Path, name: str) -> None:
    with Log(path) as log:
        for i in range(500):
            log.note(name, number=i, filler="x" * 300)


def test_several_processes_write_whole_lines(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "log.jsonl"
    writers = [context.Process(target=_write_many, args=(path, str(i))) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for i in range(3):
        numbers = [line["number"] for line in lines if line["event"] == str(i)]
        assert numbers == list(range(500))


def test_a_log_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A real limit on file size, as a full disk would set."""
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from rdkit_vae.errors import CannotWrite\n"
        "from rdkit_vae.sweeps.log import Log\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try:\n"
        "    with Log(Path(sys.argv[1])) as log:\n"
        "        log.note('x')\n"
        "except CannotWrite as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "log.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "log.jsonl: cannot be written (File too large)" in done.stdout


@pytest.mark.parametrize(
    "line",
    [
        "[" * 200_000,
        '{"event": "started", "run_id": "../x", "process": "1"}',
        '{"event": "started", "run_id": ["a"], "process": "1"}',
        '{"event": "started", "run_id": "\\ud800", "process": "1"}',
        '{"event": "epoch", "run_id": "a", "epoch": 1, "epochs": 1' + "0" * 400 + "}",
        '{"event": "epoch", "run_id": "a", "epoch": 1, "epochs": 2, "clock": {}, "loss": 0}',
        "x" * 10**6,
    ],
)
def test_lines_that_rdvae_never_wrote_say_nothing(line: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    sound = '{"event": "started", "run_id": "a", "process": "1 on b"}\n'
    path.write_text(f"{sound}{line}\n")
    running = LogReader(path).running()
    assert running["a"].seconds_left() is None
    assert (running["a"].epoch, running["a"].epochs) == (0, 0)
    assert set(running) == {"a"}


def test_a_log_that_is_a_fifo_or_a_link_is_neither_waited_for_nor_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert LogReader(tmp_path / "fifo").running() == {}
    with pytest.raises(CannotWrite, match="not a regular file"):
        Log(tmp_path / "fifo")
    (tmp_path / "other").write_text("mine")
    (tmp_path / "log.jsonl").symlink_to("other")
    with pytest.raises(CannotWrite, match="a link, and links are not followed"):
        Log(tmp_path / "log.jsonl")
    assert (tmp_path / "other").read_text() == "mine"
