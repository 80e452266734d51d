"""The adapter bs-vae, against the network written out from the description of that code."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rdkit_vae.adapters import load_model
from rdkit_vae.errors import BadData, BadInput

Save = Callable[[nn.Module], Path]


class Block(nn.Module):
    def __init__(self, a: int, b: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), nn.BatchNorm2d(b), nn.LeakyReLU())
        self.conv2 = nn.Sequential(nn.Conv2d(b, b, 3, 1, 1), nn.BatchNorm2d(b))
        self.identity: nn.Module = nn.Identity()
        if stride > 1 or a != b:
            self.identity = nn.Sequential(nn.Conv2d(a, b, 1, stride), nn.BatchNorm2d(b))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.leaky_relu(self.conv2(self.conv1(x)) + self.identity(x))


class Reference(nn.Module):
    """The network of Beta-Sigma VAE's reference code, with its names of the weights."""

    def __init__(self, channels: int, size: int, widths: list[int], latents: int) -> None:
        super().__init__()
        sides = [size]
        for _ in widths:
            sides.append(math.ceil(sides[-1] / 2))
        inner = (widths[-1], sides[-1], sides[-1])
        stages = [
            nn.Sequential(Block(a, b, 2), Block(b, b))
            for a, b in zip([channels, *widths[:-1]], widths, strict=True)
        ]
        self.encoder = nn.Sequential(
            *stages,
            nn.Sequential(
                nn.Flatten(),
                nn.Linear(math.prod(inner), 2 * latents),
                nn.BatchNorm1d(2 * latents),
                nn.LeakyReLU(),
                nn.Linear(2 * latents, 2 * latents),
            ),
        )
        outputs = [*widths[:-1][::-1], widths[0]]
        ups = []
        for a, b, small, large in zip(
            widths[::-1], outputs, sides[:0:-1], sides[-2::-1], strict=True
        ):
            up = nn.ConvTranspose2d(a, b, 3, 2, 1, output_padding=large - (2 * small - 1))
            ups.append([up, nn.BatchNorm2d(b), nn.LeakyReLU()])
        ups[-1].append(nn.ConvTranspose2d(widths[0], channels, 3, 1, 1))
        first = nn.Sequential(
            nn.Linear(latents, math.prod(inner)),
            nn.BatchNorm1d(math.prod(inner)),
            nn.LeakyReLU(),
            nn.Unflatten(1, inner),
            Block(widths[-1], widths[-1]),
        )
        self.decoder = nn.Sequential(first, *(nn.Sequential(*up) for up in ups))


NETWORKS = {"mnist": (1, 28, [32, 64, 128], 32), "celeba": (3, 64, [32, 64, 128, 256], 64)}


@pytest.fixture(params=NETWORKS)
def reference(request: pytest.FixtureRequest) -> Reference:
    torch.manual_seed(0)
    network = Reference(*NETWORKS[request.param])
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.running_mean = torch.rand(layer.num_features)
            layer.running_var = torch.rand(layer.num_features) + 0.5
    return network.eval()


def _size(network: Reference) -> tuple[int, int]:
    channels = network.encoder[0][0].conv1[0].in_channels
    return channels, {1: 28, 3: 64}[channels]


def test_it_has_the_names_of_the_reference_code(reference: Reference) -> None:
    names = reference.state_dict().keys()
    last = len(reference.encoder) - 1
    for name in ("encoder.0.0.conv1.0", "encoder.0.0.identity.0", f"encoder.{last}.4"):
        assert f"{name}.weight" in names
    for name in ("decoder.0.0", "decoder.0.1", "decoder.1.0", "decoder.1.1", f"decoder.{last}.3"):
        assert f"{name}.weight" in names


def test_the_outputs_are_those_of_the_reference_code(
    reference: Reference, save: Save, images: Callable[..., Tensor]
) -> None:
    channels, size = _size(reference)
    x = images(3, channels, size, size)
    loaded = load_model("bs-vae", save(reference))
    loaded.model.probe((channels, size, size))
    with torch.no_grad():
        mean, log_var = reference.encoder(x).chunk(2, dim=1)
        decoded = reference.decoder(mean)
        got_mean, got_log_var = loaded.model.encode(x)
        got = loaded.model.decode(mean)
    torch.testing.assert_close(got_mean, mean)
    torch.testing.assert_close(got_log_var, log_var)
    torch.testing.assert_close(got, decoded)
    assert (loaded.reconstruction, loaded.beta, loaded.train_sigma2) == ("", None, None)
    assert "neither beta nor the objective" in loaded.notes[-1]
    assert loaded.model.image_size == size


def test_other_sizes_of_images(save: Save) -> None:
    torch.manual_seed(0)
    network = Reference(3, 32, [32, 64, 128], 8).eval()
    path = save(network)
    loaded = load_model("bs-vae", path, {"image_size": 32})
    loaded.model.probe((3, 32, 32))
    z = torch.randn(2, 8)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model.decode(z), network.decoder(z))
    for size in (16, 33, 28.0, "28", True):
        with pytest.raises(BadInput, match="image_size must be a whole number from 17 to 32"):
            load_model("bs-vae", path, {"image_size": size})


def test_other_weights_are_one_line(save: Save, tmp_path: Path) -> None:
    path = save(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(BadData, match="not weights of the reference network") as caught:
        load_model("bs-vae", path)
    assert str(path) in str(caught.value)
    network = Reference(1, 28, [32, 64, 128], 4)
    weights = network.state_dict()
    del weights["decoder.3.3.weight"]
    torch.save(weights, path)
    with pytest.raises(BadData, match=r"the file lacks decoder\.3\.3\.weight") as caught:
        load_model("bs-vae", path)
    assert "\n" not in str(caught.value)
