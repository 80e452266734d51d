"""The adapter sigma-vae, against the network written out."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rdkit_vae.adapters import load_model
from rdkit_vae.errors import BadData

Save = Callable[[nn.Module], Path]


class Reference(nn.Module):
    """What the code of sigma-vae-pytorch computes, with its names of the weights."""

    def __init__(self, channels: int, size: int = 28, log_sigma: float | None = None) -> None:
        super().__init__()
        inner = 128 * (size // 4) ** 2
        self.side = size // 4
        none = nn.ReLU()  # in the places of layers without weights
        self.encoder = nn.ModuleList(
            [
                nn.Conv2d(channels, 32, 3, padding=1),
                none,
                nn.Conv2d(32, 64, 4, stride=2, padding=1),
                none,
                nn.Conv2d(64, 128, 5, stride=2, padding=2),
            ]
        )
        self.fc11, self.fc12 = nn.Linear(inner, 20), nn.Linear(inner, 20)
        self.fc2 = nn.Linear(20, inner)
        self.decoder = nn.ModuleList(
            [
                none,
                nn.ConvTranspose2d(128, 64, 6, stride=2, padding=2),
                none,
                nn.ConvTranspose2d(64, 32, 6, stride=2, padding=2),
                none,
                nn.ConvTranspose2d(32, channels, 5, padding=2),
            ]
        )
        if log_sigma is not None:
            self.log_sigma = nn.Parameter(torch.tensor(log_sigma))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for index in (0, 2, 4):
            x = self.encoder[index](x).relu()
        return self.fc11(x.flatten(1)), self.fc12(x.flatten(1))

    def decode(self, z: Tensor) -> Tensor:
        x = self.fc2(z).reshape(-1, 128, self.side, self.side)
        x = self.decoder[3](self.decoder[1](x).relu()).relu()
        return self.decoder[5](x).sigmoid()


@pytest.mark.parametrize(("channels", "size"), [(3, 28), (1, 28), (1, 32)])
def test_the_outputs_are_those_of_the_code(
    channels: int, size: int, save: Save, images: Callable[..., Tensor]
) -> None:
    torch.manual_seed(0)
    network = Reference(channels, size)
    loaded = load_model("sigma-vae", save(network))
    loaded.model.probe((channels, size, size))
    x = images(2, channels, size, size)
    mean, log_var = network.encode(x)
    torch.testing.assert_close(loaded.model.encode(x), (mean, log_var))
    torch.testing.assert_close(loaded.model.decode(mean), network.decode(mean))
    assert (loaded.beta, loaded.train_sigma2) == (None, None)
    assert "does not record" in loaded.notes[-1]


@pytest.mark.parametrize("log_sigma", [-2.0, 0.0, -9.0])
def test_a_learned_variance_is_that_of_the_decoder(log_sigma: float, save: Save) -> None:
    torch.manual_seed(0)
    loaded = load_model("sigma-vae", save(Reference(1, log_sigma=log_sigma)))
    loaded.model.probe((1, 28, 28))
    decoded = loaded.model.decode(torch.randn(2, 20))
    assert isinstance(decoded, tuple)
    above_least = math.log1p(math.exp(log_sigma + 6))
    expected = math.exp(2 * (above_least - 6))
    assert decoded[1].flatten()[0].item() == pytest.approx(expected, rel=1e-5)
    assert loaded.beta == 1


def test_other_weights_are_one_line(save: Save) -> None:
    network = Reference(1)
    network.fc11 = nn.Linear(128 * 50, 20)
    with pytest.raises(BadData, match=r"fc11\.weight has 6400 inputs") as caught:
        load_model("sigma-vae", save(network))
    assert "\n" not in str(caught.value)
    with pytest.raises(BadData, match=r"there is no encoder\.0\.weight of 4 dimensions") as caught:
        load_model("sigma-vae", save(nn.Sequential(nn.Linear(2, 2))))
    assert "\n" not in str(caught.value)
    network = Reference(1, log_sigma=0.0)
    network.log_sigma = nn.Parameter(torch.zeros(2))
    with pytest.raises(BadData, match="log_sigma must be one number"):
        load_model("sigma-vae", save(network))
    network = Reference(1)
    network.fc2 = nn.Linear(21, 128 * 49)
    with pytest.raises(BadData, match=r"fc2\.weight is 6272x21 in the file"):
        load_model("sigma-vae", save(network))
