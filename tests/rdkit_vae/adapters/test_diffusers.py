"""The adapter diffusers, against tiny models that the library makes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rdkit_vae.adapters import load_model
from rdkit_vae.errors import BadData, BadInput

diffusers = pytest.importorskip("diffusers")

Network = Any
SETTINGS = {
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 2,
    "norm_num_groups": 4,
    "layers_per_block": 1,
}


def _network(**settings: object) -> Network:
    torch.manual_seed(0)
    return diffusers.AutoencoderKL(**(SETTINGS | settings)).eval()


def _check_equal(folder: Path, network: Network, x: Tensor, tolerance: float = 1e-5) -> None:
    loaded = load_model("diffusers", folder)
    loaded.model.probe(tuple(x.shape[1:]))
    with torch.no_grad():
        posterior = network.encode(2 * x - 1).latent_dist
        decoded = (network.decode(posterior.mean).sample + 1) / 2
        mean, log_var = loaded.model.encode(x)
        got = loaded.model.decode(mean)
    close = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(mean, posterior.mean.flatten(1), **close)
    torch.testing.assert_close(log_var, posterior.logvar.flatten(1), **close)
    torch.testing.assert_close(got, decoded, **close)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"in_channels": 3, "out_channels": 3, "latent_channels": 4, "shift_factor": 0.1},
        {"use_quant_conv": False, "use_post_quant_conv": False},
        {"mid_block_add_attention": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_the_outputs_are_those_of_the_library(
    settings: dict[str, Any], safe: bool, tmp_path: Path, images: Callable[..., Tensor]
) -> None:
    network = _network(**settings)
    network.save_pretrained(tmp_path, safe_serialization=safe)
    _check_equal(tmp_path, network, images(2, settings.get("in_channels", 1), 16, 16))


def test_the_vae_of_a_pipeline_is_found(tmp_path: Path, images: Callable[..., Tensor]) -> None:
    network = _network()
    network.save_pretrained(tmp_path / "vae")
    (tmp_path / "model_index.json").write_text("{}", "utf-8")
    _check_equal(tmp_path, network, images(2, 1, 16, 16))


def test_a_file_is_read_with_the_settings_beside_it(
    tmp_path: Path, images: Callable[..., Tensor]
) -> None:
    network = _network()
    network.save_pretrained(tmp_path)
    file = tmp_path / "mine.safetensors"
    shutil.move(tmp_path / "diffusion_pytorch_model.safetensors", file)
    _check_equal(file, network, images(2, 1, 16, 16))
    by_name = load_model("diffusers", tmp_path, {"weights": "mine.safetensors"})
    assert by_name.sha256 == load_model("diffusers", file).sha256
    assert by_name.weights == "mine.safetensors"


def test_half_precision_is_computed_in_single(
    tmp_path: Path, images: Callable[..., Tensor]
) -> None:
    network = _network().half()
    network.save_pretrained(tmp_path, variant="fp16")
    _check_equal(tmp_path, network.float(), images(2, 1, 16, 16))


def test_older_names_of_the_attention_are_known(
    tmp_path: Path, images: Callable[..., Tensor]
) -> None:
    """The library itself renames them in the same way."""
    network = _network()
    network.save_pretrained(tmp_path, safe_serialization=False)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for name, weight in network.state_dict().items():
        for now, before in old.items():
            name = name.replace(f".{now}.", f".{before}.")
        weights[name] = weight
    assert sum(".query." in name for name in weights) == 4
    torch.save(weights, tmp_path / "diffusion_pytorch_model.bin")
    _check_equal(tmp_path, network, images(2, 1, 16, 16))


def test_what_is_said_about_it(tmp_path: Path) -> None:
    _network().save_pretrained(tmp_path)
    loaded = load_model("diffusers", tmp_path)
    assert loaded.architecture == "diffusers.AutoencoderKL"
    assert loaded.library == f"diffusers {diffusers.__version__}"
    assert (loaded.reconstruction, loaded.beta, loaded.train_sigma2) == ("", None, None)
    notes = " ".join(loaded.notes)
    assert "scaling_factor only rescale" in notes
    assert "[-30, 20]" in notes


def _change(folder: Path, **settings: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | settings), "utf-8")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"_class_name": "UNet2DModel"}, "this is of class 'UNet2DModel'"),
        ({"block_out_channels": [8, 1 << 20]}, "the file of weights has only"),
        ({"layers_per_block": 10**9}, "the file of weights has only"),
        ({"down_block_types": ["NoSuchBlock"] * 2}, "no network can be made from it"),
        ({"latent_channels": 1}, r"is \d+x.* in the file, \d+x.* in the network"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_one_line(
    settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    _network().save_pretrained(tmp_path)
    _change(tmp_path, **settings)
    with pytest.raises(BadData, match=message) as caught:
        load_model("diffusers", tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no file of weights of diffusers"):
        load_model("diffusers", tmp_path)
    _network().save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="must be the name of a file in the folder"):
        load_model("diffusers", tmp_path, {"weights": "../model.safetensors"})
    (tmp_path / "config.json").unlink()
    with pytest.raises(BadData, match=r"config\.json: cannot be read as JSON"):
        load_model("diffusers", tmp_path)
