"""The batches of a split, from the place where its pixels are stored."""

import numpy as np
import torch
from torch import Tensor

from rdkit_vae.datasets.images import Images


class Split:
    """A split to take batches from; copied to the GPU if it fits there.

    Otherwise it stays where it is, mapped from a file or shared, and only batches are copied.

    Attributes:
        place: the device on which `take` expects positions.
    """

    def __init__(self, images: Images, split: str, device: torch.device) -> None:
        self._stored, self._device = images.split(split), device
        self._on_gpu: Tensor | None = None
        self.place = torch.device("cpu")
        if device.type == "cuda" and self._stored.nbytes < torch.cuda.mem_get_info(device)[0] / 2:
            self._on_gpu, self.place = torch.from_numpy(np.array(self._stored)).to(device), device

    def take(self, positions: Tensor) -> Tensor:
        """Returns the uint8 images at `positions` of shape S on the device: S + (C, H, W)."""
        if self._on_gpu is not None:
            return self._on_gpu[positions]
        taken = torch.from_numpy(self._stored[positions.numpy()])
        if self._device.type == "cuda":  # the copy does not wait for earlier steps
            return taken.pin_memory().to(self._device, non_blocking=True)
        return taken
