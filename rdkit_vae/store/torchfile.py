"""Reads files of `torch.save` without running code from them or trusting their claims.

`torch.load(weights_only=True)` runs no foreign code, but allocates as much memory as a file asks
for: for a `bytearray` of any length, an inflated record, or a tensor that claims to be longer than
its record. And a zip file can be made so that two readers find different records in it. So this
module does not use it. It interprets the few pickle operations that plain values and dense tensors
need, on descriptions of the tensors; compares those with the sizes of the records; and reads the
numbers from the records it has checked. It refuses an archive that is open to interpretation.
"""

import hashlib
import io
import math
import os
import pickletools
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rdkit_vae.store.archive import Foreign, check_layout, check_records

_MAX_SMALL_BYTES = 2**20  # of the table of records, and of everything except tensors

_MAX_DIMENSIONS = 8
_STORAGES = {
    "torch FloatStorage": torch.float32,
    "torch DoubleStorage": torch.float64,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
}
_DICT, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """The description of a tensor in a file.

    Attributes:
        dtype: type of its numbers.
        key: name of the record that holds them.
        count: how many numbers the record holds.
        offset, shape, stride: which of these numbers belong to the tensor.
    """

    dtype: torch.dtype
    key: str
    count: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def is_dense(self) -> bool:
        """Whether it is its whole record, in contiguous order."""
        steps = [math.prod(self.shape[i + 1 :]) for i in range(len(self.shape))]
        plain = all(
            side == 1 or stride == step
            for side, stride, step in zip(self.shape, self.stride, steps, strict=True)
        )
        return plain and self.offset == 0 and self.count == math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class _Global:
    name: str


class TorchFile:
    """An open file.

    Attributes:
        content: the saved values, with a `StoredTensor` in place of each tensor.
    """

    def __init__(self, file: "_LimitedFile") -> None:
        """Reads everything except the tensors.

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
        small = [record for name, record in self._records.items() if not name.startswith("data/")]
        if sum(record.file_size for record in small) > _MAX_SMALL_BYTES:
            raise Foreign("its parts other than tensors are too large")
        read = {record.filename.partition("/")[2]: self._archive.read(record) for record in small}
        if read.get("byteorder", b"little") != b"little":
            raise Foreign("saved on a machine with another byte order")
        self.content = _plain_values(read["data.pkl"])

    def check(self) -> None:
        """Checks that each tensor is dense and has exactly one record, of its size.

        Raises:
            ValueError: a tensor does not.
        """
        tensors = list(_tensors_in(self.content))
        stored = {
            name.removeprefix("data/"): record.file_size
            for name, record in self._records.items()
            if name.startswith("data/")
        }
        claimed = {t.key: t.count * t.dtype.itemsize for t in tensors if t.is_dense}
        if len(claimed) != len(tensors):
            raise ValueError("a tensor is not dense, or shares its data with another")
        if claimed != stored:
            raise ValueError("its tensors do not have the sizes of their records")

    def load(self, content: Any) -> Any:
        """Returns a part of `content` with its tensors; call `check` first.

        Raises:
            ValueError: a record has a wrong checksum.
        """
        if isinstance(content, dict):
            return {name: self.load(value) for name, value in content.items()}
        return self._tensor(content) if isinstance(content, StoredTensor) else content

    def _tensor(self, stored: StoredTensor) -> torch.Tensor:
        record = self._records[f"data/{stored.key}"]
        data = torch.empty(record.file_size, dtype=torch.uint8)
        try:
            with self._archive.open(record) as source:
                count = source.readinto(data.numpy())  # type: ignore[attr-defined]
        except zipfile.BadZipFile as error:
            raise ValueError(f"wrong checksum of {record.filename}") from error
        if count != record.file_size:
            raise ValueError(f"{record.filename} is cut short")
        return data.view(stored.dtype).reshape(stored.shape)

    def sha256(self) -> str:
        """Returns the SHA-256 of the file."""
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()


@contextmanager
def open_torch_file(path: Path) -> Iterator[TorchFile]:
    """Opens a file of `torch.save` without reading its tensors yet.

    Raises:
        OSError: the file cannot be read.
        Foreign: it holds more than plain values and tensors, or was made to do harm.
        ValueError: the file is damaged.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise Foreign("not a file" if not path.is_dir() else "a folder")
    with _LimitedFile(path) as file:
        try:
            opened = TorchFile(file)
        except Foreign:
            raise
        except zipfile.BadZipFile as error:
            what = "not a PyTorch file, or cut short" if "not a zip" in str(error) else str(error)
            raise ValueError("it is empty" if not path.stat().st_size else what) from error
        except Exception as error:  # zip readers raise all kinds of errors on damaged files
            raise ValueError(f"{type(error).__name__}: {error}") from error
        file.limit = None
        yield opened


class _LimitedFile(io.FileIO):
    """A file that refuses large reads, which a malicious table of records could cause."""

    limit: int | None = _MAX_SMALL_BYTES

    def read(self, size: int | None = -1) -> bytes:
        if self.limit is not None and size is not None and size > self.limit:
            raise Foreign(f"its table of records has {size:,} bytes")
        count = self.limit if size is None or size < 0 else size
        return super().read(-1 if count is None else count) or b""


def _tensors_in(value: Any) -> Iterator[StoredTensor]:
    """Yields all tensors in plain values; `_plain_values` ensures that there are no duplicates."""
    if isinstance(value, StoredTensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(item)


def _plain_values(pickled: bytes) -> Any:
    """Interprets a pickle of plain values and tensors, importing and calling nothing.

    Only strings can be referenced twice. Otherwise a small file could nest references so that a
    walk through its values would never end.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        values = stack[start:]
        del stack[start:]
        return values

    for code, argument, _ in pickletools.genops(pickled):
        match code.name:
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                value = memo[argument]
                if not isinstance(value, str | _Global):
                    raise Foreign("it holds the same value in two places")
                stack.append(value)
            case "BININT1" | "BININT2" | "BININT" | "LONG1" | "BINUNICODE" | "BINFLOAT":
                stack.append(argument)
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(code.name[-1])
                stack[-count:] = [tuple(_last(stack, count))]
            case "EMPTY_TUPLE":
                stack.append(())
            case "GLOBAL":
                stack.append(_known(str(argument)))
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_rebuilt(function, arguments))
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(code.name == "NEWTRUE")
            case "SETITEM" | "SETITEMS":
                pairs = since_mark() if code.name == "SETITEMS" else _popped(stack, 2)
                _dict_of(stack).update(_pairs(pairs))
            case "APPEND" | "APPENDS":
                values = since_mark() if code.name == "APPENDS" else _popped(stack, 1)
                _list_of(stack).extend(values)
            case "PROTO":
                pass
            case "STOP":
                return stack.pop()
            case other:
                raise Foreign(f"it holds more than plain values and tensors ({other})")
    raise ValueError("its values are cut short")


def _last(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise ValueError("its values are damaged")
    return stack[-count:]


def _popped(stack: list[Any], count: int) -> list[Any]:
    values = _last(stack, count)
    del stack[-count:]
    return values


def _pairs(values: list[Any]) -> dict[Any, Any]:
    keys = values[::2]
    if not all(type(key) in (str, int) for key in keys):
        raise Foreign("one of its keys is neither a text nor a whole number")
    return dict(zip(keys, values[1::2], strict=True))


def _dict_of(stack: list[Any]) -> dict[Any, Any]:
    if not isinstance(stack[-1], dict):
        raise ValueError("its values are damaged")
    return stack[-1]


def _list_of(stack: list[Any]) -> list[Any]:
    if not isinstance(stack[-1], list):
        raise ValueError("its values are damaged")
    return stack[-1]


def _known(name: str) -> _Global:
    if name not in (*_STORAGES, _DICT, _TENSOR):
        raise Foreign(f"it contains {name.replace(' ', '.', 1)}, but only tensors are allowed")
    return _Global(name=name)


def _storage(value: Any) -> StoredTensor:
    match value:
        case ("storage", _Global(name=name), str(key), str(), int(count)) if name in _STORAGES:
            dtype = _STORAGES[name]
            return StoredTensor(
                dtype=dtype, key=key, count=count, offset=0, shape=(count,), stride=(1,)
            )
    raise ValueError("the description of a record is damaged")


def _rebuilt(function: Any, arguments: Any) -> Any:
    if function == _Global(name=_DICT) and arguments == ():
        return {}
    match arguments:
        case (StoredTensor() as storage, int(offset), tuple(shape), tuple(stride), bool(), {}):
            whole = all(type(n) is int and n >= 0 for n in (*shape, *stride))
            fits = len(shape) == len(stride) <= _MAX_DIMENSIONS
            if function == _Global(name=_TENSOR) and whole and fits:
                return replace(storage, offset=offset, shape=shape, stride=stride)
    raise Foreign("it calls functions that tensors do not need")
