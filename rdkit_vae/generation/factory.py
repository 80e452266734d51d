"""Features of the user's own, made by `factory(shape)` of a module that the user names."""

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rdkit_vae.adapters.reading import with_type
from rdkit_vae.errors import BadInput
from rdkit_vae.evaluation.foreign import hash_of_weights
from rdkit_vae.models import Shape
from rdkit_vae.system.imports import import_name


def made_by(name: str, shape: Shape) -> tuple[Callable[[Tensor], Any], str, tuple[str, ...]]:
    """Calls the factory.

    Args:
        name: `package.module:factory`.
        shape: C, H, W of the pictures.

    Returns:
        The network or function from (n, C, H, W) pictures in [0, 1] to (n, d) features; its
        identity, the hash of its weights or else of its name; and notes for the user.

    Raises:
        BadInput: the factory cannot be imported, fails, or makes something else.
    """
    factory = import_name(name, "features")
    if not callable(factory):
        raise BadInput(f"features {name}: it cannot be called as factory(shape)")
    try:
        function = factory(shape)
    except Exception as error:  # the user's code can raise anything
        raise BadInput(f"features {name}: calling it raised {with_type(error)}") from error
    if not callable(function):
        kind = type(function).__name__
        raise BadInput(f"features {name}: it must return a module or a function, got {kind}")
    if isinstance(function, nn.Module) and function.state_dict():
        return function, hash_of_weights(function), ()
    note = f"{name} has no weights to tell its versions apart: name another version differently"
    return function, hashlib.sha256(name.encode()).hexdigest(), (note,)


def checked(name: str, function: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    """The same function, whose errors are one line, and whose result is a matrix of numbers.

    It raises `BadInput` otherwise.
    """

    def compute(pictures: Tensor) -> Tensor:
        try:
            features = torch.as_tensor(function(pictures))
        except Exception as error:  # the user's code can raise anything
            raise BadInput(f"features {name}: computing them raised {with_type(error)}") from error
        if features.dim() != 2 or len(features) != len(pictures) or features.is_complex():
            shape = "x".join(map(str, features.shape))
            raise BadInput(
                f"features {name}: {len(pictures)} pictures must have {len(pictures)} x d "
                f"features, got {shape or 'a single number'}"
            )
        return features

    return compute
