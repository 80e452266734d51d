"""Models from elsewhere: one file per adapter, which reads one kind of them. Loads torch late."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.system.imports import is_import_name
from rdkit_vae.text import few, one_of, shown

if TYPE_CHECKING:
    from rdkit_vae.config.trial import Option
    from rdkit_vae.models.adapted import Adapted


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A registry entry.

    Attributes:
        about: one line for the user.
        module: module of this package whose `load(path, options)` returns the `Loaded` model.
        extra: of this package, which installs the library that the adapter needs, of the same
            name; empty: it needs none.
        options: a line of help for each option, by its name.
    """

    about: str
    module: str
    extra: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model from elsewhere, with its weights, and what its files say about its training.

    Attributes:
        model: the network, in evaluation mode.
        sha256: of the file of weights.
        weights: name of that file.
        architecture: name of the network's class.
        adapter: name of the adapter; `load_model` sets it.
        library: name and version of the library that the class is from.
        reconstruction: training loss of the pixels, where the settings say so: sse, bce or l1.
        beta: weight of the KL term in the training loss, where the settings say so.
        train_sigma2: constant variance of that loss, in squared pixels of [0, 1], likewise.
        notes: what a reader of the results must know, sentences for the user.
    """

    model: "Adapted"
    sha256: str
    weights: str
    architecture: str
    adapter: str = ""
    library: str = ""
    reconstruction: str = ""
    beta: float | None = None
    train_sigma2: float | None = None
    notes: tuple[str, ...] = ()


ADAPTERS: Mapping[str, Adapter] = {
    "diffusers": Adapter(
        about="an AutoencoderKL of the library diffusers: its folder, or that of a pipeline",
        module="diffusers",
        extra="diffusers",
        options={"weights": "name of the file of weights in the folder"},
    ),
    "pythae": Adapter(
        about="a VAE of the library pythae with its default networks: the folder it was saved to",
        module="pythae",
        extra="pythae",
    ),
    "disentangling-vae": Adapter(
        about="model.pt of YannDubs/disentangling-vae (Burgess et al. 2018), or its folder",
        module="disentangling_vae",
    ),
    "bs-vae": Adapter(
        about="a state dict of the reference code of Beta-Sigma VAE, overnap/BS-VAE",
        module="bs_vae",
        options={"image_size": "side of its images, if not 28 (three stages) or 64 (four)"},
    ),
    "sigma-vae": Adapter(
        about="a state dict of orybkin/sigma-vae-pytorch, with its learned variance if it has one",
        module="sigma_vae",
    ),
}


def check_adapter(name: str) -> None:
    """Refuses a name that no adapter can have. Imports nothing.

    Raises:
        BadInput: the name is neither registered nor of the form `package.module:factory`.
    """
    if not is_import_name(name):
        one_of(name, ADAPTERS, "adapter")


def load_model(
    adapter: str, path: str | Path, options: "Mapping[str, Option]" = MappingProxyType({})
) -> Loaded:
    """Reads a model from elsewhere. Code of the user's own runs only if `adapter` names it.

    Args:
        adapter: a name in `ADAPTERS`; or `package.module:factory`, a callable that makes the
            network as `factory(**options)`.
        path: the file or folder of the model; the file of weights if a factory makes the network.
        options: of the adapter, or arguments of the factory.

    Raises:
        BadInput: the adapter or an option is unknown, a library is missing, or the factory fails.
        BadData: the files are not of such a model.
    """
    check_adapter(adapter)
    path = Path(path)
    if not path.exists():
        raise BadData(f"{path}: there is no such file or folder")
    if is_import_name(adapter):
        from rdkit_vae.adapters.factory import load_from_factory

        loaded = load_from_factory(adapter, path, options)
    else:
        entry = ADAPTERS[adapter]
        _check_options(adapter, entry, options)
        _check_library(adapter, entry)
        module = importlib.import_module(f"rdkit_vae.adapters.{entry.module}")
        loaded = module.load(path, options)
    loaded.model.eval()
    return replace(loaded, adapter=adapter)


def _check_options(name: str, adapter: Adapter, options: "Mapping[str, Option]") -> None:
    if options and not adapter.options:
        raise BadInput(f"adapter {name} has no options, got {few(map(shown, options))}")
    for option in options:
        one_of(option, adapter.options, f"option of adapter {name}")


def _check_library(name: str, adapter: Adapter) -> None:
    if not adapter.extra:
        return
    try:
        importlib.import_module(adapter.extra)
    except ImportError as error:
        if error.name == adapter.extra:
            reason = f"adapter {name} needs {adapter.extra}"
        else:
            reason = f"adapter {name}: {adapter.extra} cannot be imported ({error})"
        raise BadInput(f"{reason}: pip install 'rdkit-vae[{adapter.extra}]'") from error
