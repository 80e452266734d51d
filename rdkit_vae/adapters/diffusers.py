"""The AutoencoderKL of the library diffusers. Nothing is downloaded, and no pickle runs."""

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rdkit_vae.adapters import Loaded
from rdkit_vae.adapters.reading import build_bounded, put_into, renamed
from rdkit_vae.config.trial import Option
from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.models.adapted import adapt
from rdkit_vae.store.weights import read_weights
from rdkit_vae.system.files import read_json

_CLASS = "AutoencoderKL"
_SETTINGS = "config.json"
_WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)
_OLD_ATTENTION = re.compile(r"(\.attentions\.\d+\.)(query|key|value|proj_attn)\.")
_NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_NOTES = (
    "The library clips the log variance of the posterior to [-30, 20].",
    "Such models are trained with an L1, a perceptual and an adversarial loss and a KL weight near "
    "1e-6: an implied weight means something only under a loss that you name.",
)


def load(path: Path, options: Mapping[str, Option]) -> Loaded:
    """Reads the folder of an AutoencoderKL or of a pipeline, or a file beside `config.json`.

    Raises:
        BadInput: the option `weights` is not the name of a file.
        BadData: these are not the settings and weights of an AutoencoderKL.
    """
    file = _weights_file(path, options)
    settings_file = file.with_name(_SETTINGS)
    settings = _settings(settings_file)
    weights = renamed(read_weights(file), _with_new_attention)
    library = importlib.import_module("diffusers")
    module = build_bounded(
        lambda: library.AutoencoderKL.from_config(settings), weights, settings_file
    )
    notes = put_into(module, weights, file)

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        posterior = _call(module, "encode", x).latent_dist
        return posterior.mean, posterior.logvar

    def decode(z: Tensor) -> Any:
        return _call(module, "decode", z).sample

    return Loaded(
        model=adapt(module, encode=encode, decode=decode, pixel_range=(-1, 1)),
        sha256=weights.sha256,
        weights=file.name,
        architecture=f"diffusers.{_CLASS}",
        library=f"diffusers {library.__version__}",
        notes=(*notes, *_scaling(settings), *_NOTES),
    )


def _call(module: nn.Module, method: str, argument: Tensor) -> Any:
    return getattr(module, method)(argument)


def _weights_file(path: Path, options: Mapping[str, Option]) -> Path:
    if not path.is_dir():
        if options:
            raise BadInput(f"{path} is a file: the option weights is for folders only")
        return path
    folder = path / "vae" if (path / "model_index.json").exists() else path
    if "weights" in options:
        name = str(options["weights"])
        if Path(name).name != name:
            raise BadInput(f"weights must be the name of a file in the folder, got {name!r}")
        return folder / name
    for name in _WEIGHTS:
        if (folder / name).exists():
            return folder / name
    raise BadData(f"{folder}: no file of weights of diffusers ({', '.join(_WEIGHTS)})")


def _settings(file: Path) -> dict[str, Any]:
    settings = read_json(file)
    name = str(settings.get("_class_name"))[:60]
    if name != _CLASS:
        raise BadData(f"{file}: the adapter diffusers reads an {_CLASS}, this is of class {name!r}")
    return settings


def _with_new_attention(name: str) -> str:
    """The name of a weight of an attention layer, which older files spell differently."""
    return _OLD_ATTENTION.sub(lambda m: f"{m[1]}{_NEW_ATTENTION[m[2]]}.", name)


def _scaling(settings: Mapping[str, Any]) -> list[str]:
    names = [name for name in ("scaling_factor", "shift_factor") if settings.get(name) is not None]
    if not names:
        return []
    return [
        f"The rate is that of the latents as the encoder makes them; {' and '.join(names)} only "
        "rescale them for a diffusion model."
    ]
