"""Which device and how many processes to use."""

import os
from pathlib import Path

from rdkit_vae.errors import BadInput

_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def choose_device(device: str) -> str:
    """`auto` becomes `cuda` where torch sees a GPU, else `cpu`.

    Raises:
        BadInput: torch does not see the device.
    """
    if device == "cpu":
        return device
    # Asking torch takes seconds, so it is asked only where there is a driver.
    if any(Path(path).exists() for path in _GPU_DRIVERS) or device != "auto":
        import torch

        if torch.cuda.is_available():
            return "cuda"
        if device != "auto":
            raise BadInput(f"device {device}: torch sees no such GPU here; use --device cpu")
    return "cpu"


def choose_jobs(jobs: int | None, device: str) -> int:
    """The number asked for; else one process per usable core, or one on a GPU."""
    if jobs is not None:
        return jobs
    if device != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
