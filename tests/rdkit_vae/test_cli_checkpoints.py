"""Files that are no checkpoints, given to the commands that take one: one line, exit code 4."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Run = Callable[..., subprocess.CompletedProcess[str]]


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch $RDVAE_TEST_MARK",)


def _with_weight(content: dict[str, Any], weight: torch.Tensor) -> dict[str, Any]:
    name = next(iter(content["model"]))
    return {**content, "model": {**content["model"], name: weight}}


def _bytes(change: Callable[[bytearray], Any]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        content = bytearray(path.read_bytes())
        path.write_bytes(change(content))

    return write


def _flipped(content: bytearray) -> bytearray:
    content[len(content) // 2] ^= 1
    return content


def _saved(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda path: torch.save(change(torch.load(path, weights_only=True)), path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BAD: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "missing": (Path.unlink, "o such file", "give a checkpoint|give one"),
    "folder": (_folder, "a folder|no checkpoint of a sweep in it", ""),
    "empty": (_bytes(lambda c: b""), "it is empty", "train it again"),
    "text": (_bytes(lambda c: b"weights"), "a text file, not a checkpoint of rdvae", "give one"),
    "cut": (_bytes(lambda c: c[:3000]), "not a PyTorch file, or cut short", "train it again"),
    "flipped": (_bytes(_flipped), "wrong checksum", "train it again"),
    "of Lightning": (
        _saved(lambda c: {"pytorch-lightning_version": "2.5", "state_dict": c["model"]}),
        "a Lightning checkpoint, not a checkpoint of rdvae",
        r"to score it: rdvae rescore --adapter MODULE:FACTORY --dataset NAME x\.pt",
    ),
    "a module": (
        _saved(lambda c: torch.nn.Linear(2, 2)),
        "a pickled module of class torch.nn.modules.linear.Linear",
        "give one that rdvae sweep wrote",
    ),
    "another shape": (
        _saved(lambda c: _with_weight(c, torch.zeros(3, 3))),
        r"log_var is float32 \(3, 3\), not float32 \(4,\)",
        "train it again",
    ),
    "another image": (
        _saved(lambda c: {**c, "shape": [1, 4, 16]}),
        r"digits has \(1, 8, 8\)",
        "train it again",
    ),
    "newer": (_saved(lambda c: {**c, "version": 99}), "version 99", "upgrade rdvae"),
    "many draws": (
        _saved(lambda c: {**c, "trial": {**c["trial"], "draws": 10**12}}),
        "asks for 1000000000000 posterior samples",
        "set --draws",
    ),
    "armed": (_saved(lambda c: {**c, "epoch": _Payload()}), "it contains posix.system", "give one"),
}
COMMANDS = {"rescore": (), "describe": (), "sample": ("--out", "pictures")}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_checkpoint_is_one_line(
    what: str,
    command: str,
    main: Run,
    sweep_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if (what, command) == ("many draws", "sample"):
        pytest.skip("pictures are of one draw")
    damage, cause, advice = BAD[what]
    path, mark = tmp_path / "x.pt", tmp_path / "ran"
    monkeypatch.setenv("RDVAE_TEST_MARK", str(mark))
    shutil.copy(min(sweep_folder.glob("checkpoints/*/epoch=00001.pt")), path)
    damage(path)
    done = main(command, *COMMANDS[command], "x.pt", cwd=tmp_path)
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    pattern = rf"rdvae: x\.pt\b.*({cause}).*({advice})"
    assert re.match(pattern, done.stderr), done.stderr
    assert sorted(tmp_path.iterdir()) == ([] if what == "missing" else [path])
    if what == "armed":
        torch.load(path, weights_only=False)
        assert mark.exists()


def test_a_damaged_checkpoint_of_a_sweep_is_said_to_be_damaged(
    main: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(sweep_folder, tmp_path / "sweep")
    path = min((tmp_path / "sweep").glob("checkpoints/*/epoch=00003.pt"))
    path.write_bytes(path.read_bytes()[:-100])
    done = main("rescore", path, cwd=tmp_path)
    assert done.returncode == 4
    assert done.stderr.startswith(f"rdvae: {path}: damaged checkpoint")
