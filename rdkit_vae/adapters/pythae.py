"""VAEs of the library pythae, with its default networks. No pickle runs."""

import importlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from rdkit_vae.adapters import Loaded
from rdkit_vae.adapters.reading import build_bounded, number, put_into
from rdkit_vae.config.trial import Option
from rdkit_vae.errors import BadData
from rdkit_vae.models.adapted import adapt
from rdkit_vae.store.weights import read_weights
from rdkit_vae.system.files import read_json

_SETTINGS, _WEIGHTS = "model_config.json", "model.pt"
# Gaussian posterior, prior N(0, I); whether the loss weights the KL by one number.
_SINGLE_WEIGHT = {"VAE": True, "BetaVAE": True} | dict.fromkeys(
    ("DisentangledBetaVAE", "FactorVAE", "BetaTCVAE", "INFOVAE_MMD", "IWAE", "CIWAE", "MIWAE"),
    False,
)
_LOSSES = {"mse": ("sse", 1.0), "bce": ("bce", None)}  # mse: half the summed squared error
_REFUSED = {
    "AE": "its encoder is deterministic, so it has no rate",
    "RAE_L2": "its encoder is deterministic, so it has no rate",
    "RAE_GP": "its encoder is deterministic, so it has no rate",
    "WAE_MMD": "its encoder is deterministic, so it has no rate",
    "VQVAE": "its latents are discrete",
    "VAMP": "its prior is not N(0, I)",
    "SVAE": "its latents are on a sphere",
    "PoincareVAE": "its latents are in hyperbolic space",
    "HVAE": "its posterior is not Gaussian",
    "RHVAE": "its posterior is not Gaussian",
    "VAE_IAF": "its posterior is not Gaussian",
    "VAE_LinNF": "its posterior is not Gaussian",
}


def load(path: Path, options: Mapping[str, Option]) -> Loaded:
    """Reads a folder that `model.save` wrote.

    Raises:
        BadData: it is no such folder, or its model is not of a kind that rdvae can evaluate.
    """
    settings_file, file = path / _SETTINGS, path / _WEIGHTS
    settings = read_json(settings_file)
    name = _class_name(settings, settings_file)
    _refuse_own_networks(path, settings)
    image_size = _image_size(settings, settings_file)
    weights = read_weights(file)
    module: Any = build_bounded(lambda: _built(name, settings), weights, settings_file)
    notes = put_into(module, weights, file)

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        encoded = module.encoder(x)
        return encoded.embedding, encoded.log_covariance

    def decode(z: Tensor) -> Any:
        return module.decoder(z).reconstruction

    complete = vars(module.model_config)  # with the library's defaults
    reconstruction, train_sigma2 = _LOSSES[complete["reconstruction_loss"]]
    return Loaded(
        model=adapt(module, encode=encode, decode=decode, image_size=image_size),
        sha256=weights.sha256,
        weights=_WEIGHTS,
        architecture=f"pythae.{name}",
        library=f"pythae {importlib.metadata.version('pythae')}",
        reconstruction=reconstruction if _SINGLE_WEIGHT[name] else "",
        beta=_beta(name, complete),
        train_sigma2=train_sigma2,
        notes=notes if _SINGLE_WEIGHT[name] else (*notes, _no_single_weight(name)),
    )


def _class_name(settings: Mapping[str, Any], file: Path) -> str:
    """Returns the class of the model, whose settings are called `<class>Config`."""
    name = str(settings.get("name"))[:60].removesuffix("Config").removesuffix("_")
    if name in _REFUSED:
        raise BadData(f"{file}: {name} cannot be evaluated: {_REFUSED[name]}")
    if name not in _SINGLE_WEIGHT:
        known = ", ".join(_SINGLE_WEIGHT)
        raise BadData(f"{file}: the adapter pythae does not read {name!r}; it reads {known}")
    return name


def _refuse_own_networks(folder: Path, settings: Mapping[str, Any]) -> None:
    for part in ("encoder", "decoder"):
        if (folder / f"{part}.pkl").exists() or settings.get(f"uses_default_{part}") is False:
            raise BadData(
                f"{folder}: its {part} is not pythae's default one but pickled code, which rdvae "
                "does not run; make the network in a function of your own: "
                "--adapter package.module:factory"
            )


def _image_size(settings: Mapping[str, Any], file: Path) -> int | None:
    shape = settings.get("input_dim")
    if not (isinstance(shape, list) and len(shape) == 3 and all(type(n) is int for n in shape)):
        raise BadData(f"{file}: input_dim must be [channels, height, width], got {str(shape)[:60]}")
    return shape[1] if shape[1] == shape[2] else None


def _built(name: str, settings: Mapping[str, Any]) -> Any:
    library = importlib.import_module("pythae.models")
    kind = f"{name}_Config" if name == "INFOVAE_MMD" else f"{name}Config"
    fields = {field: value for field, value in settings.items() if field != "name"}
    return getattr(library, name)(getattr(library, kind).from_dict(fields))


def _beta(name: str, settings: Mapping[str, Any]) -> float | None:
    return 1.0 if name == "VAE" else number(settings, "beta") if name == "BetaVAE" else None


def _no_single_weight(name: str) -> str:
    return f"The loss of {name} does not weight the KL term by a single number."
