"""Reads files of `torch.save` without running code from them or trusting their claims.

`torch.load(weights_only=True)` runs no foreign code, but allocates as much memory as a file asks
for: for a `bytearray` of any length, an inflated record, or a tensor that claims to be longer than
its record. And a zip file can be made so that two readers find different records in it. So this
module does not use it. It interprets the few pickle operations that plain values and dense tensors
need, on descriptions of the tensors; compares those with the sizes of the records; and reads the
numbers from the records it has checked. It refuses an archive that is open to interpretation.

Files of other programs may hold more, such as the optimiser. If asked to tolerate that, the module
puts placeholders there, and still imports and calls nothing.
"""

import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from rdkit_vae.store.archive import Foreign, check_layout, check_records
from rdkit_vae.store.pickles import PlainPickle, StoredTensor

_PIECE = 2**20  # bytes of a record that are read at a time


class TorchFile:
    """An open file.

    Attributes:
        content: the saved values, with a `StoredTensor` in place of each tensor.
        sizes: bytes of each record that holds numbers, by its key.
    """

    def __init__(self, file: "LimitedFile", pickle: PlainPickle) -> None:
        """Reads everything except the tensors.

        Args:
            file: the open file.
            pickle: interprets its values.

        Raises:
            Foreign: it holds more than plain values and tensors, or was made to do harm.
            Exception: of any type; the file is damaged.
        """
        self._file = file
        self._archive = zipfile.ZipFile(file)
        records = self._archive.infolist()
        size = os.fstat(file.fileno()).st_size
        check_records(records, size)
        check_layout(file, records, self._archive.start_dir, size)
        self._records = {record.filename.partition("/")[2]: record for record in records}
        if "data.pkl" not in self._records or len(self._records) != len(records):
            raise Foreign("a zip file, but not one of PyTorch")
        if "constants.pkl" in self._records:
            raise Foreign("a TorchScript archive")
        small = [record for name, record in self._records.items() if not name.startswith("data/")]
        if sum(record.file_size for record in small) > pickle.most_bytes:
            raise Foreign("its parts other than tensors are too large")
        file.limit = pickle.most_bytes
        read = {record.filename.partition("/")[2]: self._archive.read(record) for record in small}
        if read.get("byteorder", b"little") != b"little":
            raise Foreign("saved on a machine with another byte order")
        self.content = pickle.run(read["data.pkl"])
        self.sizes = {
            name.removeprefix("data/"): record.file_size
            for name, record in self._records.items()
            if name.startswith("data/")
        }

    def check(self) -> None:
        """Checks that each tensor is dense and has exactly one record, of its size.

        Raises:
            ValueError: a tensor does not.
        """
        tensors = list(_tensors_in(self.content))
        claimed = {t.key: t.count * t.dtype.itemsize for t in tensors if t.is_dense}
        if len(claimed) != len(tensors):
            raise ValueError("a tensor is not dense, or shares its data with another")
        if claimed != self.sizes:
            raise ValueError("its tensors do not have the sizes of their records")

    def load(self, content: Any) -> Any:
        """Returns a part of `content` with its tensors; call `check` first.

        Raises:
            ValueError: a record has a wrong checksum.
        """
        if isinstance(content, dict):
            return {name: self.load(value) for name, value in content.items()}
        if isinstance(content, StoredTensor):
            return self.record(content.key).view(content.dtype).reshape(content.shape)
        return content

    def record(self, key: str) -> torch.Tensor:
        """Returns the bytes of a record.

        Raises:
            ValueError: it has a wrong checksum.
        """
        record = self._records[f"data/{key}"]
        try:
            with self._archive.open(record) as source:
                return read_bytes(source, record.file_size)
        except (zipfile.BadZipFile, EOFError) as error:
            cause = "is cut short" if isinstance(error, EOFError) else "has a wrong checksum"
            raise ValueError(f"{record.filename} {cause}") from error

    def sha256(self) -> str:
        """Returns the SHA-256 of the file."""
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()


@contextmanager
def open_torch_file(
    path: Path, pickle: Callable[[], PlainPickle] = PlainPickle
) -> Iterator[TorchFile]:
    """Opens a file of `torch.save` without reading its tensors yet.

    Args:
        path: of the file.
        pickle: makes what interprets its values; by default only plain values and tensors.

    Raises:
        OSError: the file cannot be read.
        Foreign: it holds more than plain values and tensors, or was made to do harm.
        ValueError: the file is damaged.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise Foreign("not a file" if not path.is_dir() else "a folder")
    with LimitedFile(path) as file:
        try:
            opened = TorchFile(file, pickle())
        except Foreign:
            raise
        except zipfile.BadZipFile as error:
            what = "not a PyTorch file, or cut short" if "not a zip" in str(error) else str(error)
            raise ValueError("it is empty" if not path.stat().st_size else what) from error
        except Exception as error:  # zip readers raise all kinds of errors on damaged files
            raise ValueError(f"{type(error).__name__}: {error}") from error
        file.limit = None
        yield opened


def read_bytes(source: IO[bytes], count: int) -> torch.Tensor:
    """Reads bytes into a tensor, without a second copy of all of them.

    Raises:
        EOFError: there are fewer.
    """
    data = torch.empty(count, dtype=torch.uint8)
    view = data.numpy().data
    done = 0
    while done < count:
        piece = source.readinto(view[done : done + _PIECE])  # type: ignore[attr-defined]
        if not piece:
            raise EOFError(f"{count - done:,} bytes are missing")
        done += piece
    return data


class LimitedFile(io.FileIO):
    """A file that refuses large reads, which a malicious table of records could cause."""

    limit: int | None = PlainPickle.most_bytes

    def read(self, size: int | None = -1) -> bytes:
        if self.limit is not None and size is not None and size > self.limit:
            raise Foreign(f"its table of records has {size:,} bytes")
        count = self.limit if size is None or size < 0 else size
        return super().read(-1 if count is None else count) or b""


def _tensors_in(value: Any) -> Iterator[StoredTensor]:
    """Yields all tensors in plain values; `PlainPickle` ensures that there are no duplicates."""
    if isinstance(value, StoredTensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(item)
