"""Checkpoints and resume files: weights and configuration. Reading them runs no code."""

import io
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rdkit_vae.config.trial import Trial, import_code
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData, BadInput, Newer, NotNamed, in_line
from rdkit_vae.models import Shape
from rdkit_vae.store.archive import Foreign
from rdkit_vae.store.paths import code_version
from rdkit_vae.store.pickles import StoredTensor
from rdkit_vae.store.torchfile import TorchFile, open_torch_file
from rdkit_vae.store.weights.kinds import foreign_message
from rdkit_vae.system.files import write_atomic
from rdkit_vae.training.state import MOMENTS, Training, build_model, build_skeleton

_FORMAT, _VERSION = "rdvae-checkpoint", 2  # version 1 checkpoints also held the optimiser
_MAX_OPTIONS = 100
_TRAIN_AGAIN = (
    "train it again with the same sweep command, or repair its sweep: rdvae verify FOLDER --repair"
)
_EXPECTED = "give one that rdvae sweep wrote: runs/NAME/checkpoints/RUN/epoch=NNNNN.pt"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The content of a checkpoint or resume file.

    Attributes:
        trial: the full configuration.
        shape: channels, height, width of the images.
        levels: grey levels of the images.
        state: argument of `Training.restore`; only resume files have `moments`.
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
        """Returns the network with its weights, on the CPU, in evaluation mode."""
        model = build_model(self.trial, self.shape)
        model.load_state_dict(self.state["model"])
        return model.eval()


def save_resume_file(path: Path, training: Training) -> None:
    """Writes everything needed to continue a training bit for bit, including optimiser state."""
    write_atomic(path, _encoded(training, training.state()))


def checkpoint_bytes(training: Training) -> bytes:
    """Returns the bytes of a checkpoint: weights and configuration.

    They depend on the training alone, so equal trainings make equal files.
    """
    return _encoded(training, training.snapshot())


def _encoded(training: Training, state: dict[str, Any]) -> bytes:
    images: Images = training.images
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "code_version": code_version(),
        "trial": training.trial.to_dict(),
        "shape": list(images.shape),
        "levels": images.levels,
        **state,
    }
    buffer = io.BytesIO()
    torch.save(_portable(content), buffer)
    return buffer.getvalue()


def _portable(value: Any) -> Any:
    """Returns the value in canonical form: contiguous tensors on the CPU, no shared objects.

    Pickle writes a repeated object as a reference. So equal states would give different bytes if
    one of them shares a string or tuple and the other does not.
    """
    if isinstance(value, Tensor):
        plain = torch.contiguous_format  # and a copy, as it may be a view
        return value.detach().to("cpu", copy=True, memory_format=plain)
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, tuple):
        return tuple(_portable(item) for item in value)
    if isinstance(value, dict):
        return {_portable(key): _portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_portable(item) for item in value]
    return value


def load_checkpoint(
    path: str | Path,
    *,
    architecture: str | None = None,
    objective: str | None = None,
    trial: Trial | None = None,
) -> Checkpoint:
    """Reads a checkpoint and checks that it is consistent. Needs no more memory than the file size.

    Reads only plain values, and dense tensors of the network described by its configuration.

    Args:
        path: of the checkpoint.
        architecture, objective: your own network and loss as `package.module:name`, if the
            checkpoint names them. Once named, code is trusted until the process ends.
        trial: the configuration that it must have.

    Raises:
        NotNamed: it names code of your own that you did not name.
        BadData: the file is missing, damaged, of another program or of a newer release.
    """
    path = Path(path)
    import_code(architecture, objective)
    try:
        with open_torch_file(path) as file:
            return _checked(file, trial)
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}") from error
    except Foreign as error:
        raise BadData(_not_ours(path, error)) from error
    except (Newer, NotNamed) as error:
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:  # readers raise all kinds of errors on damaged files
        if not _may_be_ours(path):
            raise BadData(_not_ours(path, error)) from error
        raise BadData(f"{path}: damaged checkpoint ({in_line(error)}); {_TRAIN_AGAIN}") from error


def _not_ours(path: Path, error: Exception) -> str:
    reason = f"{path}: not a checkpoint of rdvae ({in_line(error)}); {_EXPECTED}"
    return foreign_message(path, _EXPECTED) or reason


def _may_be_ours(path: Path) -> bool:
    """Whether a file begins as a zip file does, or is empty: a checkpoint that was cut short."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        return True
    return start in (b"PK\x03\x04", b"")


def relative_distance(one: Checkpoint, other: Checkpoint) -> float:
    """Returns |a - b| / |a| over all weights a and b of two networks of the same architecture.

    Raises:
        BadInput: the names or shapes of their weights differ.
    """
    pairs = [(a, other.state["model"].get(name)) for name, a in one.state["model"].items()]
    if any(b is None or a.shape != b.shape for a, b in pairs):
        raise BadInput(f"{one.trial.run_id} and {other.trial.run_id} are different networks")
    numbers = [(a.double(), b.double()) for a, b in pairs if a.is_floating_point()]
    difference = sum(float((a - b).square().sum()) for a, b in numbers)
    return math.sqrt(difference / sum(float(a.square().sum()) for a, _ in numbers))


def _checked(file: TorchFile, expected: Trial | None) -> Checkpoint:
    content = file.content
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise Foreign("a PyTorch file of another program")
    version = content["version"]
    if type(version) is int and version > _VERSION:
        raise Newer(
            f"checkpoint of version {version}, but this rdvae reads {_VERSION}; upgrade rdvae"
        )
    trial, shape = _trial_of(content["trial"]), _shape_of(content["shape"])
    if expected is not None and trial != expected:
        raise ValueError(f"it is of another trial, {trial.run_id}")
    levels = content["levels"]
    _check(levels, "levels", type(levels) is int and 2 <= levels <= 256)
    if trial.image_size is not None and shape[1:] != (trial.image_size,) * 2:
        raise ValueError(f"its images are {shape}, but image_size is {trial.image_size}")
    for name in ("epoch", "step"):
        _check(content[name], name, type(content[name]) is int and content[name] >= 0)
    _check(content["loss"], "loss", type(content["loss"]) is float)
    model = build_skeleton(trial, shape)
    weights = content["model"]
    _check_tensors(weights, model.state_dict(), f"the weights of {trial.architecture}")
    state = {name: content[name] for name in ("epoch", "step", "loss")}
    if "within" in content:  # written in the middle of an epoch
        state["within"] = _checked_progress(content["within"])
    if "moments" in content:
        _check_moments(content["moments"], dict(model.named_parameters()))
    file.check()
    state |= {name: file.load(content[name]) for name in ("model", "moments") if name in content}
    return Checkpoint(trial=trial, shape=shape, levels=levels, state=state, sha256=file.sha256())


def _checked_progress(progress: Any) -> dict[str, Any]:
    types = {"batches": int, "images": int, "loss": float}
    if not isinstance(progress, dict) or {k: type(v) for k, v in progress.items()} != types:
        raise ValueError("its progress within the epoch is damaged")
    return progress


def _check(value: object, name: str, valid: bool) -> None:
    if not valid:
        raise ValueError(f"{name} is {str(value)[:60]!r}")


def _trial_of(values: Any) -> Trial:
    _check(values, "trial", isinstance(values, dict))
    for name, value in values.items():
        if name == "checkpoints":
            _check(value, name, type(value) is list and all(type(epoch) is int for epoch in value))
        elif name == "options":
            _check(value, name, isinstance(value, dict) and len(value) <= _MAX_OPTIONS)
        else:
            _check(value, str(name), isinstance(value, str | int | float | None))
    return Trial.from_dict(values)


def _shape_of(sides: Any) -> Shape:
    whole = type(sides) is list and all(type(side) is int and side > 0 for side in sides)
    _check(sides, "shape", whole and len(sides) == 3)
    channels, height, width = sides
    return channels, height, width


def _check_tensors(stored_tensors: Any, expected: dict[str, Any], what: str) -> None:
    """Checks that tensors have the expected names, shapes and types."""
    if not isinstance(stored_tensors, dict) or stored_tensors.keys() != expected.keys():
        raise ValueError(f"it does not hold {what}")
    for name, tensor in expected.items():
        stored = stored_tensors[name]
        if not isinstance(stored, StoredTensor):
            raise ValueError(f"{name} is not a tensor")
        if stored.shape != tensor.shape or stored.dtype != tensor.dtype:
            differing = f"{stored.dtype} {stored.shape}, not {tensor.dtype} {tuple(tensor.shape)}"
            raise ValueError(f"{name} is {differing}".replace("torch.", ""))


def _check_moments(moments: Any, weights: dict[str, Any]) -> None:
    """Checks that both moments of AdamW are there for each weight."""
    if not isinstance(moments, dict) or moments.keys() != set(MOMENTS):
        raise ValueError("its moments are not those of AdamW")
    for average in MOMENTS:
        _check_tensors(moments[average], weights, f"{average} of every weight")
