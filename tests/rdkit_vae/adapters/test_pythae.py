"""The adapter pythae, against models that the library makes, where it is installed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rdkit_vae.adapters import load_model
from rdkit_vae.errors import BadData

pytest.importorskip("pythae")
models = pytest.importorskip("pythae.models")

SHAPE = (1, 8, 8)


def _config(name: str, **settings: object) -> Any:
    kind = f"{name}_Config" if name == "INFOVAE_MMD" else f"{name}Config"
    return getattr(models, kind)(input_dim=SHAPE, latent_dim=3, **settings)


def _saved(name: str, folder: Path, **settings: object) -> Any:
    torch.manual_seed(0)
    network = getattr(models, name)(_config(name, **settings))
    network.save(str(folder))
    return network


@pytest.mark.parametrize(
    "name",
    [
        *("VAE", "BetaVAE", "DisentangledBetaVAE", "FactorVAE", "BetaTCVAE", "INFOVAE_MMD"),
        *("IWAE", "CIWAE", "MIWAE"),
    ],
)
def test_the_outputs_are_those_of_the_library(
    name: str, tmp_path: Path, images: Callable[..., Tensor]
) -> None:
    network = _saved(name, tmp_path)
    loaded = load_model("pythae", tmp_path)
    loaded.model.probe(SHAPE)
    x = images(4, *SHAPE)
    with torch.no_grad():
        encoded = network.encoder(x)
        decoded = network.decoder(encoded.embedding).reconstruction
        mean, log_var = loaded.model.encode(x)
        got = loaded.model.decode(mean)
    assert torch.equal(mean, encoded.embedding)
    assert torch.equal(log_var, encoded.log_covariance)
    assert torch.equal(got, decoded)
    assert loaded.architecture == f"pythae.{name}"
    assert loaded.library.startswith("pythae ")
    assert (loaded.beta is None) == (name not in ("VAE", "BetaVAE"))
    assert bool(loaded.notes) == (loaded.beta is None)


@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_the_loss_is_that_of_the_library(
    loss: str, tmp_path: Path, images: Callable[..., Tensor]
) -> None:
    """Its loss is (reconstruction) + beta KL, with the sum of squares over twice the variance."""
    network = _saved("BetaVAE", tmp_path, beta=2.5, reconstruction_loss=loss)
    loaded = load_model("pythae", tmp_path)
    x = images(4, *SHAPE)
    with torch.no_grad():
        output = network({"data": x})
        mean, log_var = loaded.model.encode(x)
    kl = 0.5 * (mean.square() + log_var.exp() - log_var - 1).sum(1).mean()
    assert loaded.beta is not None
    torch.testing.assert_close(output.loss, output.recon_loss + loaded.beta * kl)
    if loss == "mse":
        assert loaded.train_sigma2 is not None
        sse = (output.recon_x - x).square().flatten(1).sum(1).mean()
        torch.testing.assert_close(output.recon_loss, sse / (2 * loaded.train_sigma2))
    assert loaded.reconstruction == {"mse": "sse", "bce": "bce"}[loss]


def test_what_the_settings_leave_out_is_as_the_library_has_it(tmp_path: Path) -> None:
    network = _saved("BetaVAE", tmp_path)
    file = tmp_path / "model_config.json"
    settings = json.loads(file.read_text("utf-8"))
    del settings["beta"], settings["reconstruction_loss"]
    file.write_text(json.dumps(settings), "utf-8")
    loaded = load_model("pythae", tmp_path)
    assert (loaded.beta, loaded.reconstruction) == (network.beta, "sse")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("AE", "its encoder is deterministic, so it has no rate"),
        ("VAMP", r"its prior is not N\(0, I\)"),
        ("RHVAE", "its posterior is not Gaussian"),
    ],
)
def test_models_without_a_gaussian_rate_are_refused(
    name: str, message: str, tmp_path: Path
) -> None:
    _config(name).save_json(str(tmp_path), "model_config")
    with pytest.raises(BadData, match=message):
        load_model("pythae", tmp_path)


def test_pickled_networks_are_refused(tmp_path: Path) -> None:
    _saved("VAE", tmp_path)
    (tmp_path / "decoder.pkl").write_bytes(b"code")
    with pytest.raises(BadData, match="--adapter package.module:factory") as caught:  # noqa: RUF043
        load_model("pythae", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "GANConfig"}, "does not read 'GAN'"),
        ({"uses_default_encoder": False}, "its encoder is not pythae's default one"),
        ({"input_dim": [64]}, "input_dim must be"),
        ({"input_dim": [1, 1 << 15, 1 << 15]}, "the file of weights has only"),
        ({"input_dim": [1, 4, 4]}, r"in the file, .* in the network"),
        ({"latent_dim": "many"}, "no network can be made from it"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_one_line(
    settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    _saved("VAE", tmp_path)
    file = tmp_path / "model_config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | settings), "utf-8")
    with pytest.raises(BadData, match=message) as caught:
        load_model("pythae", tmp_path)
    assert "\n" not in str(caught.value)
