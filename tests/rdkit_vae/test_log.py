import json
import math
import multiprocessing
import os
from pathlib import Path

import pytest

from rdkit_vae import Trial
from rdkit_vae.errors import CannotWrite
from rdkit_vae.log import Log, LogReader
from rdkit_vae.pool import Event


def _epoch(run_id: str, epoch: int) -> Event:
    return Event(run_id=run_id, kind="epoch", epoch=epoch, loss=10.0 - epoch)


def test_what_is_noted_is_read(tmp_path: Path, tiny_trial: Trial) -> None:
    trials = {name: tiny_trial for name in "abc"}
    reader = LogReader(tmp_path / "log.jsonl")
    assert reader.running() == {}  # nothing there yet
    with Log(tmp_path / "log.jsonl") as log:
        log.note("sweep started", trials=3)
        for name in "abc":
            log.note_event(Event(run_id=name, kind="started"), trials)
        log.note_event(_epoch("a", 1), trials)
        log.note_event(Event(run_id="b", kind="ended", status="ok", summary="fine"), trials)
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
        log.note_event(Event(run_id="a", kind="ended", status="stopped"), trials)
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
        log.note_event(Event(run_id="a", kind="started"), trials)
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


def test_a_log_that_cannot_be_written_is_said() -> None:
    with pytest.raises(CannotWrite, match="No space left"), Log(Path("/dev/full")) as log:
        log.note("x")
