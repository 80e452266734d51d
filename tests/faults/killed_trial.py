"""Runs a trial again and again, killed at a moment of its commit each time, then once more.

    python killed_trial.py FOLDER MODULE.FUNCTION:before|after:CALL ...

CALL is the number of the call at which the process is killed. A folder of each moment has the
results; fails where a child did not die by SIGKILL, or its successor did not come to the end.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet  # noqa: F401
import torch

from rdkit_vae import make_trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.store.paths import Sweep
from rdkit_vae.sweeps import runner
from rdkit_vae.sweeps.runner import run_trial
from rdkit_vae.system.files import clear_partial, write_json


def train(folder: Path) -> None:
    """Runs the trial into a sweep folder, from where it was left."""
    torch.set_num_threads(1)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 1, 6, 6), np.uint8)
    images = Images(name="npz:x", train=pixels[:40], test=pixels[40:], split_rule="by hand")
    trial = make_trial(
        "npz:x", architecture="mlp", latents=3, epochs=4, batch_size=16, draws=2, checkpoints="1"
    )
    write_json(folder / "sweep.json", {})  # makes it a sweep
    clear_partial(folder)
    runner._SAVED_EVERY, runner._SHARE_OF_SAVING = 0.0, 1e9  # a resume file after every step
    run_trial(trial, images, Sweep(folder))


def kill_at(moment: str) -> None:
    """Replaces a function by one that kills this process, before or after a call of it."""
    path, when, call = moment.split(":")
    owner, name = _find(path)
    original: Callable[..., Any] = getattr(owner, name)
    calls, time = 0, int(call)

    def killing(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == time and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        value = original(*args, **options)
        if calls == time:
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    setattr(owner, name, killing)


def killed(folder: Path, moment: str) -> None:
    """Runs the trial up to that moment."""
    kill_at(moment)
    train(folder)


def _find(path: str) -> tuple[Any, str]:
    parts = path.split(".")
    if parts[0] == "pathlib":
        return Path, parts[-1]
    return importlib.import_module(".".join(parts[:-1])), parts[-1]


def in_child(work: Callable[[], None]) -> int:
    """Does it in a forked process, and returns the signal that ended that, or 0."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(folder: Path, moments: list[str]) -> None:
    """Goes through all moments."""
    torch.optim.AdamW([torch.zeros(1)])  # what it imports, and pyarrow, is imported once for all
    assert in_child(lambda: train(folder / "undisturbed")) == 0
    for moment in moments:
        place = folder / moment.replace(":", "-")
        assert in_child(lambda: killed(place, moment)) == -signal.SIGKILL, moment  # noqa: B023
        assert in_child(lambda: train(place)) == 0, moment  # noqa: B023


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
