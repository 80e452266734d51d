"""Reads the weights of models from elsewhere, as safely as rdvae reads its own checkpoints.

No code from the file runs, and no claim in it is believed: each tensor is compared with the size of
its record before memory is taken.
"""

import hashlib
import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from rdkit_vae.errors import BadData, RdvaeError, in_line
from rdkit_vae.store.archive import Foreign
from rdkit_vae.store.pickles import StoredTensor
from rdkit_vae.store.torchfile import TorchFile, open_torch_file
from rdkit_vae.store.weights.kinds import LIGHTNING, holds_tensors, state_dicts_in, what_it_is
from rdkit_vae.store.weights.names import listed, with_prefix_stripped
from rdkit_vae.store.weights.oldtorch import OldTorchFile, is_old_torch_file, open_old_torch_file
from rdkit_vae.store.weights.safetensors import is_safetensors, read_safetensors
from rdkit_vae.store.weights.tolerant import Opaque, TolerantPickle

__all__ = ["Weights", "load_weights", "read_weights", "what_it_is", "with_prefix_stripped"]

PREFERRED = ("state_dict", "model_state_dict", "model", "net", "weights", "ema", "ema_state_dict")
_FACTS = (LIGHTNING, "epoch", "global_step", "step", "iteration")
_INSTEAD = "give a state dict (torch.save(model.state_dict(), ...)) or a safetensors file"

Fact = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The weights in a file.

    Attributes:
        tensors: by name, on the CPU; those that share their numbers in the file share them here.
        form: what the file is, in words.
        sha256: hash of the file.
        facts: what else the file says about them, such as the epoch; `taken_from` if it has several
            state dicts.
    """

    tensors: Mapping[str, Tensor]
    form: str
    sha256: str
    facts: Mapping[str, Fact]


def read_weights(path: str | Path, *, key: str | None = None) -> Weights:
    """Reads a state dict: of `torch.save` in both of its formats, of Lightning, or safetensors.

    A file of PyTorch can hold the state dict itself, or a dict with it. Then the first of
    `PREFERRED` is taken that is there, or else the only one that holds tensors.

    Args:
        path: of the file.
        key: name of the state dict in the file, if it has several.

    Raises:
        BadData: the file holds no state dict, several of them, or claims to be what it is not.
    """
    path = Path(path)
    try:
        return _read(path, key)
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror or error})") from error
    except RdvaeError as error:
        raise BadData(f"{path}: {error}") from error
    except Foreign as error:
        raise BadData(f"{path}: {_line(error)}; {_INSTEAD}") from error
    except Exception as error:  # damaged files cause all kinds of errors
        raise BadData(f"{path}: its weights cannot be read ({_line(error)}); {_INSTEAD}") from error


def _line(error: Exception) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in in_line(error))


def _read(path: Path, key: str | None) -> Weights:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = what_it_is(path) or ("a folder" if path.is_dir() else "not a file")
        raise BadData(f"{kind}; give the file with the weights")
    with path.open("rb") as file:
        head = file.read(32)
    if head.startswith(b"PK\x03\x04"):
        with open_torch_file(path, TolerantPickle) as archive:
            return _from_torch(archive, path, "state dict of PyTorch", key)
    if is_old_torch_file(head):
        with open_old_torch_file(path) as old:
            return _from_torch(old, path, "state dict of PyTorch's old format", key)
    if is_safetensors(head, status.st_size):
        tensors, _ = read_safetensors(path)
        return Weights(tensors=tensors, form="safetensors", sha256=_sha256(path), facts={})
    raise Foreign(what_it_is(path) or ("not a file with weights" if head else "it is empty"))


def _from_torch(file: TorchFile | OldTorchFile, path: Path, form: str, key: str | None) -> Weights:
    content = file.content
    name, state_dict = _state_dict(content, key)
    stored = _described(state_dict)
    facts = {fact: content[fact] for fact in _FACTS if _is_fact(content.get(fact))}
    if len(state_dicts_in(content)) > 1:
        facts["taken_from"] = name
    if LIGHTNING in facts:
        form = f"Lightning checkpoint {facts[LIGHTNING]}"
    tensors = _loaded(file, stored)
    return Weights(tensors=tensors, form=form, sha256=_sha256(path), facts=facts)


def _is_fact(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= 100 and value.isprintable()
    return isinstance(value, int | float) and abs(value) < 2**63


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state_dict(content: Any, key: str | None) -> tuple[str, dict[str, Any]]:
    """Returns the part of a file that holds the weights, and its name, if it has one.

    Raises:
        BadData: there is none, or it is not clear which one.
    """
    if not isinstance(content, dict):
        _refuse([content])
    inside = state_dicts_in(content)
    if key is not None:
        if key in inside:
            return key, inside[key]
        raise BadData(f"it has no state dict {key!r}; {_choices(inside)}")
    for name in PREFERRED:
        if name in inside:
            return name, inside[name]
    if holds_tensors(content):
        return "", content
    if len(inside) > 1:
        raise BadData(f"it is not clear which weights to take; {_choices(inside)} with key=")
    return next(iter(inside.items())) if inside else _refuse(list(content.values()))


def _choices(inside: Mapping[str, Any]) -> str:
    return f"choose one of {listed(list(inside), most=8)}" if inside else "it has none at all"


def _refuse(values: list[Any]) -> NoReturn:
    """Says why a file with these values has no weights to read."""
    modules = [value for value in values if isinstance(value, Opaque) and value.is_module]
    if modules:
        raise BadData(
            f"a pickled module (class {listed([modules[0].name])}): reading it would run its code; "
            "save model.state_dict() instead"
        )
    if len(values) == 1 and isinstance(values[0], StoredTensor):
        raise Foreign("it holds a single tensor")
    raise Foreign("a PyTorch file without a state dict")


def _described(state_dict: dict[str, Any]) -> dict[str, StoredTensor]:
    """Returns the tensors of a state dict; layers may put other values beside them."""
    for name, value in state_dict.items():
        if isinstance(value, Opaque) and (value.is_tensor or value.is_module):
            raise Foreign(f"{listed([name])} is {_in_words(value)}")
    return {name: v for name, v in state_dict.items() if isinstance(v, StoredTensor)}


def _in_words(value: Opaque) -> str:
    for part in ("sparse", "qtensor", "meta"):
        if part in value.name:
            kind = {"qtensor": "quantized", "meta": "meta"}.get(part, part)
            return f"a {kind} tensor, which has no plain numbers to read"
    return f"of a type that rdvae does not read ({listed([value.name])})"


def _loaded(
    file: TorchFile | OldTorchFile, stored: Mapping[str, StoredTensor]
) -> dict[str, Tensor]:
    """Reads each record once, after all tensors were compared with the sizes of their records."""
    for name, tensor in stored.items():
        if file.sizes.get(tensor.key) != tensor.count * tensor.dtype.itemsize:
            raise ValueError(f"{listed([name])} does not have the size of its record")
        if tensor.end > tensor.count or math.prod(tensor.shape) > tensor.count:
            raise ValueError(f"{listed([name])} is larger than its record")
    records = {
        key: _numbers(file.record(key), dtype)
        for key, dtype in {tensor.key: tensor.dtype for tensor in stored.values()}.items()
    }
    return {
        name: records[tensor.key].as_strided(tensor.shape, tensor.stride, tensor.offset)
        for name, tensor in stored.items()
    }


def _numbers(record: Tensor, dtype: torch.dtype) -> Tensor:
    return record != 0 if dtype == torch.bool else record.view(dtype)


def load_weights(module: nn.Module, weights: Weights, *, prefix: str | None = None) -> list[str]:
    """Puts weights into a network that has exactly these, in its own type of numbers.

    Args:
        module: the network.
        weights: of the file.
        prefix: of the names in the file; None: find it.

    Returns:
        Sentences about what was left out.

    Raises:
        BadData: names, shapes or types differ.
    """
    expected = {
        name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)
    }
    tensors, left_out = with_prefix_stripped(weights.tensors, expected, prefix)
    differences = [
        difference
        for name, tensor in tensors.items()
        if (difference := _difference(name, tensor, expected[name]))
    ]
    if differences:
        raise BadData("; ".join(differences[:3]))
    try:
        module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise BadData(f"the network refuses these weights ({_line(error)})") from error
    if not left_out:
        return []
    return [f"left out what the network does not have: {listed(left_out)}"]


def _difference(name: str, tensor: Tensor, expected: Tensor) -> str | None:
    if tensor.shape != expected.shape:
        return f"{name} is {_shape(tensor)} in the file, {_shape(expected)} in the network"
    if tensor.is_floating_point() != expected.is_floating_point():
        types = f"{tensor.dtype} in the file, {expected.dtype} in the network"
        return f"{name} is {types}".replace("torch.", "")
    if not tensor.sum().isfinite() and not tensor.isfinite().all():
        return f"{name} holds numbers that are not finite: the model has diverged"
    return None


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"
