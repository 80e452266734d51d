"""What the adapters share: sizes read off the weights, and weights put into a network."""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from rdkit_vae.errors import BadData, in_line
from rdkit_vae.store.weights import Weights, load_weights

M = TypeVar("M", bound=nn.Module)
_IN_WORDS = {
    "pytorch-lightning_version": "Lightning {}",
    "epoch": "epoch {}",
    "global_step": "step {}",
    "step": "step {}",
    "iteration": "iteration {}",
}


def shape_of(name: str, dims: int, weights: Weights, path: Path, network: str) -> tuple[int, ...]:
    """Returns the shape of a weight, whatever prefix its name has in the file.

    Args:
        name: of the weight, in the network.
        dims: how many dimensions the weight has.
        weights: of the file.
        path: of the file.
        network: what these should be the weights of, for the error message.

    Raises:
        BadData: there is no such weight, or several.
    """
    shapes = shapes_of(name, weights)
    if len(shapes) != 1 or len(shape := shapes.pop()) != dims or 0 in shape:
        raise BadData(
            f"{path}: these are not weights of {network}: there is no {name} of {dims} dimensions"
        )
    return shape


def shapes_of(name: str, weights: Weights) -> set[tuple[int, ...]]:
    """Returns the shapes of all weights of a name, whatever their prefixes."""
    return {
        tuple(weight.shape)
        for key, weight in weights.tensors.items()
        if key == name or key.endswith(f".{name}")
    }


def put_into(module: nn.Module, weights: Weights, path: Path) -> tuple[str, ...]:
    """Loads all weights into a network that has exactly these; returns notes for the user.

    Raises:
        BadData: names or shapes differ.
    """
    try:
        notes = load_weights(module, weights)
    except BadData as error:
        raise BadData(f"{path}: {error}") from error
    facts = [
        words.format(weights.facts[name])
        for name, words in _IN_WORDS.items()
        if name in weights.facts
    ]
    if facts:
        notes = [f"The file of weights says: {', '.join(facts)}.", *notes]
    return tuple(notes)


def build_bounded(build: Callable[[], M], weights: Weights, settings: Path) -> M:
    """Makes a network as its settings say, once it is known that it is no larger than its weights.

    So settings from somebody else cannot ask for more memory or time than their weights need.

    Raises:
        BadData: it is larger, or the settings do not describe a network.
    """
    available = sum(weight.numel() for weight in weights.tensors.values())
    size = 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal size
        size += max(parameter.numel(), 1) if parameter is not None else 0
        if size > available:
            raise BadData(
                f"{settings}: the file of weights has only {available:,} numbers, which is too few "
                "for this network"
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):  # takes no memory
            build()
    except BadData:
        raise
    except Exception as error:  # libraries check their settings in many ways
        raise BadData(f"{settings}: no network can be made from it ({with_type(error)})") from error
    finally:
        hook.remove()
    return build()


def renamed(weights: Weights, rename: Callable[[str], str]) -> Weights:
    """Returns the same weights under other names.

    Raises:
        BadData: two weights get the same name.
    """
    tensors: Mapping[str, Tensor] = {rename(name): w for name, w in weights.tensors.items()}
    if len(tensors) != len(weights.tensors):
        raise BadData("two of the weights are the same part of the network")
    return replace(weights, tensors=tensors)


def number(settings: Mapping[str, Any], name: str) -> float | None:
    """Returns a finite number among settings, or None if there is none of that name."""
    value = settings.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    with contextlib.suppress(OverflowError):
        return float(value) if math.isfinite(value) else None
    return None


def with_type(error: Exception) -> str:
    """Returns the type and the message of a library's error, on one line."""
    name, text = type(error).__name__, in_line(error)
    return name if text == name else f"{name}: {text}"
