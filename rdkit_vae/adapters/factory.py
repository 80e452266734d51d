"""Networks that the user's own code makes, named as `package.module:factory`."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from rdkit_vae.adapters import Loaded
from rdkit_vae.adapters.reading import put_into, with_type
from rdkit_vae.config.trial import Option
from rdkit_vae.errors import BadInput, RdvaeError
from rdkit_vae.models.adapted import Adapted, adapt
from rdkit_vae.store.weights import read_weights
from rdkit_vae.system.imports import import_name


def load_from_factory(name: str, path: Path, options: Mapping[str, Option]) -> Loaded:
    """Makes the network as `factory(**options)`, and loads the weights into it.

    Args:
        name: `package.module:factory`; it returns a `torch.nn.Module` with methods `encode` and
            `decode`, or what `adapt` makes of one.
        path: the file of weights.
        options: arguments of the factory.

    Raises:
        BadInput: the factory cannot be imported, fails, or makes something else.
        BadData: these are not the weights of its network.
    """
    factory = import_name(name, "adapter")
    if not callable(factory):
        raise BadInput(f"adapter {name}: it cannot be called as factory(**options)")
    _check_options(name, factory, options)
    weights = read_weights(path)
    model = _made(name, factory, options)
    notes = put_into(model.module, weights, path)
    kind = type(model.module)
    return Loaded(
        model=model,
        sha256=weights.sha256,
        weights=path.name,
        architecture=f"{kind.__module__}.{kind.__qualname__}",
        notes=notes,
    )


def _check_options(name: str, factory: Callable[..., Any], options: Mapping[str, Option]) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # some callables have no signature
        return
    try:
        signature.bind(**options)
    except TypeError as error:
        takes = [*signature.parameters]
        known = f"its options are {', '.join(takes)}" if takes else "it has no options"
        raise BadInput(f"adapter {name}: {error}; {known}") from error


def _made(name: str, factory: Callable[..., Any], options: Mapping[str, Option]) -> Adapted:
    try:
        made = factory(**options)
    except RdvaeError as error:  # of `adapt`
        raise BadInput(f"adapter {name}: {error}") from error
    except Exception as error:  # the user's code can raise anything
        raise BadInput(f"adapter {name}: calling it raised {with_type(error)}") from error
    if isinstance(made, Adapted):
        return made
    if not isinstance(made, nn.Module):
        raise BadInput(
            f"adapter {name}: it must return a torch.nn.Module, got {type(made).__name__}"
        )
    return adapt(made)
