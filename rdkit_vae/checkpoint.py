"""Checkpoints: a training's state and configuration in one file that runs no code when read."""

import hashlib
import io
import math
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.files import write_atomic
from rdkit_vae.models import Shape
from rdkit_vae.store import code_version
from rdkit_vae.training import Training, build_model
from rdkit_vae.trial import Trial

_FORMAT, _VERSION = "rdvae-checkpoint", 1


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        trial: the full configuration.
        shape: channels, height, width of the images.
        levels: their grey levels.
        state: for `Training.restore`.
        sha256: hash of the file.
    """

    trial: Trial
    shape: Shape
    levels: int
    state: dict[str, Any]
    sha256: str

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return int(self.state["epoch"])

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return int(self.state["step"])

    def model(self) -> nn.Module:
        """The network with its weights, on the CPU, in evaluation mode."""
        model = build_model(self.trial, self.shape)
        model.load_state_dict(self.state["model"])
        return model.eval()


def save_checkpoint(path: Path, training: Training) -> str:
    """Writes a checkpoint, whole or not at all, and returns its SHA-256.

    The bytes are a function of the training alone, so equal trainings make equal files.
    """
    images: Images = training.images
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "code_version": code_version(),
        "trial": training.trial.to_dict(),
        "shape": list(images.shape),
        "levels": images.levels,
        **training.state(),
    }
    buffer = io.BytesIO()
    torch.save(_portable(content), buffer)
    data = buffer.getvalue()
    write_atomic(path, data)
    return hashlib.sha256(data).hexdigest()


def _portable(value: Any) -> Any:
    """The same value in canonical form: tensors on the CPU in the plain layout, nothing aliased.

    Pickle writes an object that it meets again as a reference, so equal states would give other
    bytes where one of them shares a string or a tuple and the other does not.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu().contiguous()
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, tuple):
        return tuple(_portable(item) for item in value)
    if isinstance(value, dict):
        return {_portable(key): _portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_portable(item) for item in value]
    return value


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint and checks that it is one: only plain values and the network's tensors.

    Raises:
        BadData: missing, damaged, of another program or of a newer release.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            broken = archive.testzip()
    except Exception as error:  # zip readers raise what they like on damaged files
        raise BadData(f"{path}: not a checkpoint (no PyTorch file, or damaged: {error})") from None
    if broken is not None:
        raise BadData(f"{path}: damaged checkpoint (wrong checksum of {broken})")
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # and so does the unpickler
        reason = str(error).partition("\n")[0]
        raise BadData(f"{path}: not a checkpoint of rdvae ({reason[:120]})") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise BadData(f"{path}: a PyTorch file, but not a checkpoint of rdvae")
    if content.get("version") != _VERSION:
        raise BadData(
            f"{path}: checkpoint of version {content.get('version')}, "
            f"this rdvae reads {_VERSION}; upgrade rdvae"
        )
    try:
        return _checked(content, hashlib.sha256(data).hexdigest())
    except (BadInput, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise BadData(f"{path}: damaged checkpoint ({reason[:160]})") from error


def relative_distance(one: Checkpoint, other: Checkpoint) -> float:
    """|a - b| / |a| over all the numbers of two networks of the same kind.

    Raises:
        BadInput: they have other weights.
    """
    pairs = [(a, other.state["model"].get(name)) for name, a in one.state["model"].items()]
    if any(b is None or a.shape != b.shape for a, b in pairs):
        raise BadInput(f"{one.trial.run_id} and {other.trial.run_id} are different networks")
    numbers = [(a.double(), b.double()) for a, b in pairs if a.is_floating_point()]
    difference = sum(float((a - b).square().sum()) for a, b in numbers)
    return math.sqrt(difference / sum(float(a.square().sum()) for a, _ in numbers))


def _checked_within(within: Any) -> dict[str, Any]:
    kinds = {"batches": int, "images": int, "loss": float}
    if not isinstance(within, dict) or {k: type(v) for k, v in within.items()} != kinds:
        raise ValueError("what it says of its epoch is not of the right kind")
    return within


def _checked(content: dict[str, Any], sha256: str) -> Checkpoint:
    channels, height, width = (int(side) for side in content["shape"])
    trial = Trial.from_dict(content["trial"])
    expected = build_model(trial, (channels, height, width)).state_dict()
    weights = content["model"]
    if weights.keys() != expected.keys():
        raise ValueError(f"its weights are not those of {trial.architecture}")
    for name, tensor in expected.items():
        found = weights[name]
        if not isinstance(found, Tensor) or found.layout != torch.strided or found.is_meta:
            raise ValueError(f"{name} is not a dense tensor")
        if found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise ValueError(f"{name} is {tuple(found.shape)}, not {tuple(tensor.shape)}")
    for name in ("epoch", "step"):
        if type(content[name]) is not int or content[name] < 0:
            raise ValueError(f"{name} is {content[name]!r}")
    state = {key: content[key] for key in ("epoch", "step", "loss", "model", "optimizer")}
    if "within" in content:  # written in the middle of an epoch
        state["within"] = _checked_within(content["within"])
    return Checkpoint(
        trial=trial,
        shape=(channels, height, width),
        levels=int(content["levels"]),
        state=state,
        sha256=sha256,
    )
