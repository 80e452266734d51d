"""The adapter disentangling-vae: two real models, and the network written out."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdkit_vae.adapters import load_model
from rdkit_vae.errors import BadData

Save = Callable[[nn.Module], Path]
DATA = os.environ.get("RDVAE_DATA") or Path(__file__).parents[4] / "shared" / "data"
ZOO = Path(DATA) / "zoo"


def _weights(channels: int, latents: int, size: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.conv1": (32, channels, 4, 4),
        "encoder.conv2": (32, 32, 4, 4),
        "encoder.conv3": (32, 32, 4, 4),
        "encoder.lin1": (256, 512),
        "encoder.lin2": (256, 256),
        "encoder.mu_logvar_gen": (2 * latents, 256),
        "decoder.lin1": (256, latents),
        "decoder.lin2": (256, 256),
        "decoder.lin3": (512, 256),
        "decoder.convT1": (32, 32, 4, 4),
        "decoder.convT2": (32, 32, 4, 4),
        "decoder.convT3": (32, channels, 4, 4),
    }
    if size == 64:
        shapes |= {"encoder.conv_64": (32, 32, 4, 4), "decoder.convT_64": (32, 32, 4, 4)}
    weights = {}
    for name, shape in shapes.items():
        outputs = shape[1] if "convT" in name else shape[0]
        weights[f"{name}.weight"] = torch.randn(shape, generator=generator) / 20
        weights[f"{name}.bias"] = torch.randn(outputs, generator=generator) / 20
    return weights


def _encode(weights: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The encoder of Burgess et al. in plain calls."""

    def layer(name: str) -> tuple[Tensor, Tensor]:
        return weights[f"encoder.{name}.weight"], weights[f"encoder.{name}.bias"]

    for name in ("conv1", "conv2", "conv3", "conv_64"):
        if f"encoder.{name}.weight" in weights:
            x = F.relu(F.conv2d(x, *layer(name), stride=2, padding=1))
    hidden = F.relu(F.linear(F.relu(F.linear(x.flatten(1), *layer("lin1"))), *layer("lin2")))
    both = F.linear(hidden, *layer("mu_logvar_gen"))
    return both[:, 0::2], both[:, 1::2]


def _decode(weights: dict[str, Tensor], z: Tensor) -> Tensor:
    def layer(name: str) -> tuple[Tensor, Tensor]:
        return weights[f"decoder.{name}.weight"], weights[f"decoder.{name}.bias"]

    for name in ("lin1", "lin2", "lin3"):
        z = F.relu(F.linear(z, *layer(name)))
    x = z.reshape(-1, 32, 4, 4)
    for name in ("convT_64", "convT1", "convT2"):
        if f"decoder.{name}.weight" in weights:
            x = F.relu(F.conv_transpose2d(x, *layer(name), stride=2, padding=1))
    return torch.sigmoid(F.conv_transpose2d(x, *layer("convT3"), stride=2, padding=1))


@pytest.mark.parametrize(("channels", "size"), [(1, 32), (1, 64), (3, 64), (3, 32)])
def test_the_outputs_are_those_of_the_network(
    channels: int, size: int, tmp_path: Path, images: Callable[..., Tensor]
) -> None:
    weights = _weights(channels, 6, size)
    torch.save(weights, tmp_path / "model.pt")
    loaded = load_model("disentangling-vae", tmp_path)
    loaded.model.probe((channels, size, size))
    x = images(3, channels, size, size)
    mean, log_var = _encode(weights, x)
    torch.testing.assert_close(loaded.model.encode(x), (mean, log_var))
    torch.testing.assert_close(loaded.model.decode(mean), _decode(weights, mean))
    assert loaded.model.image_size == size
    assert "training loss is unknown" in loaded.notes[0]


@pytest.mark.parametrize(
    ("settings", "reconstruction", "beta", "train_sigma2"),
    [
        ({"loss": "VAE", "rec_dist": "bernoulli"}, "bce", 1.0, None),
        ({"loss": "betaH", "rec_dist": "bernoulli", "betaH_B": 4}, "bce", 4.0, None),
        ({"loss": "betaH", "rec_dist": "gaussian", "betaH_B": 2.5}, "sse", 2.5, 1 / 510),
        ({"loss": "VAE", "rec_dist": "laplace"}, "l1", None, None),
        ({"loss": "betaB", "rec_dist": "bernoulli"}, "bce", None, None),
        ({"loss": "betaH", "rec_dist": "bernoulli", "betaH_B": "4"}, "bce", None, None),
        ({"loss": ["VAE"], "rec_dist": None}, "", None, None),
    ],
)
def test_the_loss_is_that_of_the_settings(
    settings: dict[str, object],
    reconstruction: str,
    beta: float | None,
    train_sigma2: float | None,
    tmp_path: Path,
) -> None:
    torch.save(_weights(1, 2, 32), tmp_path / "model.pt")
    (tmp_path / "specs.json").write_text(json.dumps(settings), "utf-8")
    loaded = load_model("disentangling-vae", tmp_path / "model.pt")
    assert (loaded.reconstruction, loaded.beta) == (reconstruction, beta)
    assert loaded.train_sigma2 == train_sigma2
    assert bool(loaded.notes) == (beta is None)


def test_its_squared_error_is_that_of_a_variance_of_1_over_510() -> None:
    """There: the squared error of pixels in [0, 255], divided by 255."""
    x, mean = torch.rand(2, 5, dtype=torch.float64)
    theirs = (255 * x - 255 * mean).square().sum() / 255
    torch.testing.assert_close(theirs, (x - mean).square().sum() / (2 * (1 / 510)))


def test_other_weights_are_one_line(save: Save, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="not weights of the network of disentangling-vae") as caught:
        load_model("disentangling-vae", save(nn.Sequential(nn.Linear(2, 2))))
    assert "\n" not in str(caught.value)
    weights = _weights(1, 2, 32) | {"decoder.lin3.weight": torch.zeros(512, 3)}
    torch.save(weights, tmp_path / "model.pt")
    with pytest.raises(BadData, match=r"has only [\d,]+ numbers, which is too few") as caught:
        load_model("disentangling-vae", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not ZOO.is_dir(), reason="the trained models are not here")
@pytest.mark.parametrize(("name", "beta"), [("VAE_mnist", 1), ("betaH_mnist", 4)])
def test_real_models_of_mnist(
    name: str, beta: float, images: Callable[..., Tensor], tmp_path: Path
) -> None:
    loaded = load_model("disentangling-vae", ZOO / name)
    weights = torch.load(ZOO / name / "model.pt", weights_only=True)
    loaded.model.probe((1, 32, 32))
    x = images(4, 1, 32, 32)
    mean, log_var = _encode(weights, x)
    torch.testing.assert_close(loaded.model.encode(x), (mean, log_var))
    torch.testing.assert_close(loaded.model.decode(mean), _decode(weights, mean))
    assert (loaded.reconstruction, loaded.beta, loaded.model.latents) == ("bce", beta, 10)
    shutil.copytree(ZOO / name, tmp_path / name)
    assert load_model("disentangling-vae", tmp_path / name).sha256 == loaded.sha256
