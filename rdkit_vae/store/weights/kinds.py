"""Says what a file or folder of another program is, and how to score the model in it."""

import codecs
import json
import shlex
import stat
import zipfile
from pathlib import Path
from typing import Any

from rdkit_vae.store.pickles import StoredTensor
from rdkit_vae.store.torchfile import LimitedFile, open_torch_file
from rdkit_vae.store.weights.oldtorch import is_old_torch_file, open_old_torch_file
from rdkit_vae.store.weights.safetensors import is_safetensors
from rdkit_vae.store.weights.tolerant import Opaque, TolerantPickle

LIGHTNING = "pytorch-lightning_version"
_MAX_CONFIG_BYTES = 2**20
_HEAD_BYTES = 512
_MARKS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras writes them",
    b"\x93NUMPY": "a NumPy array",
    b"GGUF": "a GGUF file",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "a gzip file",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
}
_SAFETENSORS = "a safetensors file"
_STATE_DICT, _OLD_STATE_DICT = "a state dict of PyTorch", "a state dict in PyTorch's old format"
_LIGHTNING = "a Lightning checkpoint"
_DIFFUSERS, _PYTHAE = "a diffusers folder", "a pythae folder"
_ADAPTERS = {_DIFFUSERS: "diffusers", _PYTHAE: "pythae"} | dict.fromkeys(
    (_SAFETENSORS, _STATE_DICT, _OLD_STATE_DICT, _LIGHTNING), "MODULE:FACTORY"
)


def foreign_message(path: Path, advice: str) -> str | None:
    """Returns what a file of another program is and how to score it; None if that is unknown.

    Args:
        path: of the file or folder.
        advice: what to do where rdvae cannot score it.
    """
    kind = what_it_is(path)
    if kind is None:
        return None
    message = f"{path}: {kind}, not a checkpoint of rdvae"
    if kind in _ADAPTERS:
        around = _folder(path.parent)
        if around in _ADAPTERS:  # its configuration lies beside the weights
            kind, path = around, path.parent
        score = f"rdvae rescore --adapter {_ADAPTERS[kind]} --dataset NAME {shlex.quote(str(path))}"
        return f"{message}; to score it: {score}"
    return f"{message}; {advice}"


def what_it_is(path: str | Path) -> str | None:
    """Returns what a file or folder of another program is, without reading its tensors.

    None if it is unknown, or of rdvae.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return _folder(path)
        return _file(path) if stat.S_ISREG(mode) else None
    except OSError:
        return None


def _folder(path: Path) -> str | None:
    if (path / "model_config.json").is_file() and (path / "model.pt").is_file():
        return _PYTHAE
    weights = (*path.glob("*.safetensors"), *path.glob("*.bin"))
    if (path / "model_index.json").is_file() or (weights and "_class_name" in _config(path)):
        return _DIFFUSERS
    return "a TensorFlow model" if (path / "saved_model.pb").is_file() else None


def _config(folder: Path) -> dict[str, Any]:
    try:
        with (folder / "config.json").open("rb") as file:
            config = json.loads(file.read(_MAX_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _file(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(b"PK\x03\x04"):
        return _archive(path)
    if is_old_torch_file(head):
        return _old_torch_file(path)
    if is_safetensors(head, path.stat().st_size):
        return _SAFETENSORS
    for mark, kind in _MARKS.items():
        if head.startswith(mark):
            return kind
    if path.suffix == ".onnx" and head[:1] == b"\x08":
        return "an ONNX file"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[:1] == b"\x80" and head[1:2] in b"\x01\x02\x03\x04\x05":
        return "a pickle"
    return "a text file" if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # may end within a letter
    except UnicodeDecodeError:
        return False
    return bool(text) and all(letter.isprintable() or letter in "\n\r\t" for letter in text)


def _archive(path: Path) -> str | None:
    """Returns what a zip file is, by the names of its records or by its values."""
    try:
        with LimitedFile(path) as file:
            records = zipfile.ZipFile(file).namelist()
    except Exception:  # damaged files cause all kinds of errors
        return None
    names = {name.rpartition("/")[2] for name in records}
    if "constants.pkl" in names:
        return "a TorchScript archive"
    if "data.pkl" in names:
        return _torch_file(path)
    if "model.weights.h5" in names:
        return "a Keras file"
    if all(name.endswith(".npy") for name in names):
        return "an .npz file of NumPy"
    return "a zip file"


def _torch_file(path: Path) -> str | None:
    try:
        with open_torch_file(path, TolerantPickle) as file:
            return _content(file.content, _STATE_DICT)
    except (OSError, ValueError):
        return None


def _old_torch_file(path: Path) -> str | None:
    try:
        with open_old_torch_file(path) as file:
            return _content(file.content, _OLD_STATE_DICT) or "a file in PyTorch's old format"
    except (OSError, ValueError):
        return "a file in PyTorch's old format"


def _content(content: Any, state_dict: str) -> str | None:
    if isinstance(content, Opaque) and content.is_module:
        return f"a pickled module of class {repr(content.name[:80])[1:-1]}"
    if not isinstance(content, dict) or content.get("format") == "rdvae-checkpoint":
        return None
    if LIGHTNING in content:
        return _LIGHTNING
    return state_dict if holds_tensors(content) or state_dicts_in(content) else None


def state_dicts_in(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the dicts in a dict that hold tensors.

    Looks into each of them once, as a small file may give a large dict many names.
    """
    dicts = {id(value): value for value in content.values() if isinstance(value, dict)}
    holding = {each for each, value in dicts.items() if holds_tensors(value)}
    return {name: value for name, value in content.items() if id(value) in holding}


def holds_tensors(values: dict[str, Any]) -> bool:
    """Whether a dict holds tensors, also of types that rdvae does not read."""
    return any(
        isinstance(value, StoredTensor) or (isinstance(value, Opaque) and value.is_tensor)
        for value in values.values()
    )
