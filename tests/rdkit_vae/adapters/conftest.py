"""What the tests of adapters share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture
def save(tmp_path: Path) -> Callable[[nn.Module], Path]:
    """Saves the state dict of a module."""

    def saved(module: nn.Module) -> Path:
        path = tmp_path / "model.pt"
        torch.save(module.state_dict(), path)
        return path

    return saved


@pytest.fixture
def images() -> Callable[..., Tensor]:
    """Makes random pixels in [0, 1] of a shape."""
    return lambda *shape: torch.rand(shape, generator=torch.Generator().manual_seed(0))
