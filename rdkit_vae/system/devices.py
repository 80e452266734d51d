"""Which device and how many processes to use."""

import os
from pathlib import Path

from rdkit_vae.errors import BadInput

_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def choose_device(device: str) -> str:
    """Returns the device to use; `auto` is `cuda` if torch finds a GPU, otherwise `cpu`.

    Raises:
        BadInput: torch cannot find the device.
    """
    if device == "cpu":
        return device
    # Importing torch takes seconds, so do it only if a GPU driver is present.
    if any(Path(path).exists() for path in _GPU_DRIVERS) or device != "auto":
        import torch

        if torch.cuda.is_available():
            return "cuda"
        if device != "auto":
            raise BadInput(f"device {device}: torch finds no such GPU; use --device cpu")
    return "cpu"


def choose_jobs(jobs: int | None, device: str) -> int:
    """Returns `jobs` if given, otherwise one process per usable core, or one on a GPU."""
    if jobs is not None:
        return jobs
    if device != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
