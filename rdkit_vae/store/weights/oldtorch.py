"""Reads files in the format that `torch.save` wrote before version 1.6 of PyTorch.

Such a file is a row of pickles (a magic number, a version, facts about the machine, the values, and
the keys of the records), and then each record: its count of numbers and the numbers themselves.
"""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rdkit_vae.store.archive import Foreign
from rdkit_vae.store.pickles import StoredTensor
from rdkit_vae.store.torchfile import read_bytes
from rdkit_vae.store.weights.tolerant import TolerantPickle

_MAGIC_NUMBER, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_PICKLED_NUMBER = b"\x8a\x0a" + _MAGIC_NUMBER.to_bytes(10, "little") + b"."


def is_old_torch_file(head: bytes) -> bool:
    """Whether a file with these first bytes, at least 32, begins with the magic number."""
    return head[:1] == b"\x80" and _PICKLED_NUMBER in head[:32]


class OldTorchFile:
    """An open file.

    Attributes:
        content: the saved values, with a `StoredTensor` in place of each tensor.
        sizes: bytes of each record, by its key.
    """

    def __init__(self, file: io.FileIO) -> None:
        """Reads everything except the tensors.

        Raises:
            Foreign: it is not in this format.
            Exception: of any type; the file is damaged.
        """
        self._file = file
        size = os.fstat(file.fileno()).st_size
        self._head = io.BytesIO(file.read(min(size, TolerantPickle.most_bytes)))
        try:
            self.content, records = self._pickles()
        except ValueError as error:
            if size > TolerantPickle.most_bytes <= self._head.tell():
                raise Foreign("its parts other than tensors are too large") from error
            raise
        place = self._head.tell()
        del self._head
        self.sizes: dict[str, int] = {}
        self._places: dict[str, int] = {}
        for record in records:
            length = record.count * record.dtype.itemsize
            self._places[record.key], self.sizes[record.key] = place + 8, length
            if place + 8 + length > size:
                raise ValueError("it is cut short, or claims to hold more than its bytes")
            file.seek(place)
            if int.from_bytes(file.read(8), "little") != record.count:
                raise ValueError(f"record {record.key[:60]!r} does not have the size of its tensor")
            place += 8 + length
        if place != size:
            raise ValueError(f"it has {size - place:,} bytes after its last tensor")

    def _pickles(self) -> tuple[Any, list[StoredTensor]]:
        """Returns the values, and a tensor of the whole of each record, in their order."""
        if self._pickle() != _MAGIC_NUMBER or self._pickle() != _VERSION:
            raise Foreign("not a file of PyTorch")
        if self._pickle().get("little_endian") is not True:
            raise Foreign("saved on a machine with another byte order")
        pickle = TolerantPickle()
        content = pickle.run(self._head)
        if pickle.unknown_records:
            raise Foreign(f"it holds numbers of type {pickle.unknown_records[0]!r}")
        keys = [str(key) for key in self._pickle() if type(key) in (str, int)]
        if len(set(keys)) != len(keys) or set(keys) != pickle.records.keys():
            raise ValueError("its list of records is not that of its tensors")
        return content, [pickle.records[key] for key in keys]

    def _pickle(self) -> Any:
        return TolerantPickle().run(self._head)

    def record(self, key: str) -> torch.Tensor:
        """Returns the bytes of a record.

        Raises:
            EOFError: they are missing.
        """
        self._file.seek(self._places[key])
        return read_bytes(self._file, self.sizes[key])


@contextmanager
def open_old_torch_file(path: Path) -> Iterator[OldTorchFile]:
    """Opens a file in the old format without reading its tensors yet.

    Raises:
        OSError: the file cannot be read.
        Foreign: it is not in this format.
        ValueError: the file is damaged.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise Foreign("not a file")
    with io.FileIO(path) as file:
        try:
            opened = OldTorchFile(file)
        except (Foreign, OSError):
            raise
        except Exception as error:  # damaged files cause all kinds of errors
            raise ValueError(f"{type(error).__name__}: {error}") from error
        yield opened
