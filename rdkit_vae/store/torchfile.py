"""Reads what `torch.save` writes, without running any of it or trusting what it claims.

`torch.load(weights_only=True)` runs no foreign code, but it takes what memory a file asks for: for
a `bytearray` of any length, an inflated record, or a tensor that says it is longer than its record.
And a zip file can be made such that two readers find different records in it. So nothing of it is
called: the few operations that plain values and dense tensors need are carried out here on
descriptions of the tensors, those are compared with the sizes of the records that are there, and
the numbers come from the very records that were checked. An archive that others might read in
another way is refused.
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

_MOST_AT_ONCE = 2**20  # bytes of the table of records, and of the values beside the tensors

_MOST_DIMENSIONS = 8
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
    """What a file says of a tensor in it.

    Attributes:
        dtype: of its numbers.
        key: name of the record that holds them.
        count: how many the record holds.
        offset, shape, stride: which of them are the tensor's, in numbers.
    """

    dtype: torch.dtype
    key: str
    count: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def is_dense(self) -> bool:
        """Whether it is the whole of its record, in the plain order."""
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
        content: what was saved, with a `StoredTensor` in the place of each tensor.
    """

    def __init__(self, file: "_Frugal") -> None:
        """Reads all but the tensors.

        Raises:
            Foreign: it holds more than plain values and tensors, or was made to do harm.
            Exception: of whatever type, damaged.
        """
        self._file = file
        self._archive = zipfile.ZipFile(file)
        records = self._archive.infolist()
        size = os.fstat(file.fileno()).st_size
        check_records(records, size)
        check_layout(file, records, self._archive.start_dir, size)
        self._records = {record.filename.partition("/")[2]: record for record in records}
        if "data.pkl" not in self._records or len(self._records) != len(records):
            raise Foreign("a zip file, but not of PyTorch")
        small = [record for name, record in self._records.items() if not name.startswith("data/")]
        if sum(record.file_size for record in small) > _MOST_AT_ONCE:
            raise Foreign("too large beside its tensors")
        read = {record.filename.partition("/")[2]: self._archive.read(record) for record in small}
        if read.get("byteorder", b"little") != b"little":
            raise Foreign("saved on a machine of another byte order")
        self.content = _plain_values(read["data.pkl"])

    def check(self) -> None:
        """Checks that its tensors are dense and are what the records hold, each its own.

        Raises:
            ValueError: they are not.
        """
        tensors = list(_tensors_in(self.content))
        held = {name.removeprefix("data/"): record.file_size for name, record in self._data()}
        claimed = {t.key: t.count * t.dtype.itemsize for t in tensors if t.is_dense}
        if len(claimed) != len(tensors):
            raise ValueError("a tensor is not dense, or shares its numbers with another")
        if claimed != held:
            raise ValueError("its tensors are not of the size that the file holds")

    def load(self, content: Any) -> Any:
        """A part of `content` with its tensors, of a file that `check` has passed.

        Raises:
            ValueError: the checksum of a record is another.
        """
        if isinstance(content, dict):
            return {name: self.load(value) for name, value in content.items()}
        return self._tensor(content) if isinstance(content, StoredTensor) else content

    def _tensor(self, stored: StoredTensor) -> torch.Tensor:
        record = self._records[f"data/{stored.key}"]
        data = torch.empty(record.file_size, dtype=torch.uint8)
        try:
            with self._archive.open(record) as source:
                taken = source.readinto(data.numpy())  # type: ignore[attr-defined]
        except zipfile.BadZipFile as error:
            raise ValueError(f"wrong checksum of {record.filename}") from error
        if taken != record.file_size:
            raise ValueError(f"{record.filename} is cut short")
        return data.view(stored.dtype).reshape(stored.shape)

    def sha256(self) -> str:
        """Hash of the file's bytes."""
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()

    def _data(self) -> Iterator[tuple[str, zipfile.ZipInfo]]:
        return ((name, r) for name, r in self._records.items() if name.startswith("data/"))


@contextmanager
def open_torch_file(path: Path) -> Iterator[TorchFile]:
    """Opens a file of `torch.save`; no tensor in it is read yet.

    Raises:
        OSError: it cannot be read.
        Foreign: it holds more than plain values and tensors, or was made to do harm.
        ValueError: damaged.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise Foreign("not a file" if not path.is_dir() else "a folder")
    with _Frugal(path) as file:
        try:
            opened = TorchFile(file)
        except Foreign:
            raise
        except zipfile.BadZipFile as error:
            what = "no PyTorch file, or cut short" if "not a zip" in str(error) else str(error)
            raise ValueError("it is empty" if not path.stat().st_size else what) from error
        except Exception as error:  # zip readers raise what they like on damaged files
            raise ValueError(f"{type(error).__name__}: {error}") from error
        file.at_once = None
        yield opened


class _Frugal(io.FileIO):
    """A file that hands out little at once, as what asks may have been made to ask for all."""

    at_once: int | None = _MOST_AT_ONCE

    def read(self, size: int | None = -1) -> bytes:
        if self.at_once is not None and size is not None and size > self.at_once:
            raise Foreign(f"its table of records is of {size:,} bytes")
        wanted = self.at_once if size is None or size < 0 else size
        return super().read(-1 if wanted is None else wanted) or b""


def _tensors_in(value: Any) -> Iterator[StoredTensor]:
    """All tensors in plain values; `_plain_values` sees to it that none is there twice."""
    if isinstance(value, StoredTensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(item)


def _plain_values(pickled: bytes) -> Any:
    """Carries out a pickle of plain values and tensors. Nothing in it is imported or called.

    Only strings are met twice: a value that holds another one many times over would be small here
    and endless to whoever walks through it.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        found = stack[start:]
        del stack[start:]
        return found

    for code, argument, _ in pickletools.genops(pickled):
        match code.name:
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                again = memo[argument]
                if not isinstance(again, str | _Global):
                    raise Foreign("it holds one value in two places")
                stack.append(again)
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
                arguments, made = stack.pop(), stack.pop()
                stack.append(_rebuilt(made, arguments))
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
    found = _last(stack, count)
    del stack[-count:]
    return found


def _pairs(values: list[Any]) -> dict[Any, Any]:
    keys = values[::2]
    if not all(type(key) in (str, int) for key in keys):
        raise Foreign("a key in it is neither a name nor a number")
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
        raise Foreign(f"it names {name.replace(' ', '.', 1)}, and only tensors belong in it")
    return _Global(name=name)


def _storage(value: Any) -> StoredTensor:
    match value:
        case ("storage", _Global(name=name), str(key), str(), int(count)) if name in _STORAGES:
            dtype = _STORAGES[name]
            return StoredTensor(
                dtype=dtype, key=key, count=count, offset=0, shape=(count,), stride=(1,)
            )
    raise ValueError("a record's description is damaged")


def _rebuilt(made: Any, arguments: Any) -> Any:
    if made == _Global(name=_DICT) and arguments == ():
        return {}
    match arguments:
        case (StoredTensor() as storage, int(offset), tuple(shape), tuple(stride), bool(), {}):
            whole = all(type(n) is int and n >= 0 for n in (*shape, *stride))
            fits = len(shape) == len(stride) <= _MOST_DIMENSIONS
            if made == _Global(name=_TENSOR) and whole and fits:
                return replace(storage, offset=offset, shape=shape, stride=stride)
    raise Foreign("it calls more than tensors need")
