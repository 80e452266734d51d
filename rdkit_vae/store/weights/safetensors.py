"""Reads safetensors files: a length, a table in JSON, and the numbers without gaps."""

import io
import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rdkit_vae.store.archive import Foreign
from rdkit_vae.store.torchfile import read_bytes

_MAX_TABLE_BYTES = 2**22
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes with these first bytes looks like safetensors."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the tensors of a file, and the texts in its table that describe it.

    Raises:
        OSError: the file cannot be read.
        Foreign: it has types of numbers that this does not read.
        ValueError: its table is damaged, or does not describe exactly its bytes.
    """
    with io.FileIO(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, _MAX_TABLE_BYTES):
            raise ValueError(f"its table claims to have {length:,} bytes")
        table = _table(file.read(length))
        facts = table.pop("__metadata__", {})
        entries = sorted((_entry(name, entry) for name, entry in table.items()), key=_place)
        _check_places(entries, size - 8 - length)
        file.seek(8 + length)
        tensors = {}
        for name, dtype, shape, (start, end) in entries:
            data = read_bytes(file, end - start)
            numbers = data != 0 if dtype == torch.bool else data.view(dtype)
            tensors[name] = numbers.reshape(shape)
    return tensors, facts if isinstance(facts, dict) else {}


_Entry = tuple[str, torch.dtype, list[int], tuple[int, int]]


def _place(entry: _Entry) -> tuple[int, int]:
    return entry[3]


def _table(text: bytes) -> dict[str, Any]:
    table = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    if not isinstance(table, dict):
        raise ValueError("its table is damaged")
    return table


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("its table has the same name twice")
    return result


def _entry(name: str, entry: Any) -> _Entry:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(end)]}:
            if dtype not in _DTYPES:
                raise Foreign(f"{name[:60]!r} has numbers of type {dtype[:20]!r}")
            sides = all(type(side) is int and 0 <= side < 2**63 for side in shape)
            itemsize = _DTYPES[dtype].itemsize
            if sides and len(shape) <= 8 and math.prod(shape) * itemsize == end - start:
                return name, _DTYPES[dtype], shape, (start, end)
    raise ValueError(f"the description of {name[:60]!r} is damaged")


def _check_places(entries: list[_Entry], size: int) -> None:
    """Checks that the tensors fill the data one after another, without gap or overlap."""
    place = 0
    for name, _, _, (start, end) in entries:
        if start != place:
            raise ValueError(f"{name[:60]!r} overlaps another tensor, or there is a gap before it")
        place = end
    if place != size:
        raise ValueError(f"its tensors have {place:,} bytes, but the file has {size:,} for them")
