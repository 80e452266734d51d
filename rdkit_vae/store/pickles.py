"""Interprets pickles of plain values and dense tensors, importing and calling nothing."""

import math
import pickletools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import IO, Any

import torch

from rdkit_vae.store.archive import Foreign

_MAX_DIMENSIONS = 8
STORAGES = {
    "torch FloatStorage": torch.float32,
    "torch DoubleStorage": torch.float64,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
}
DICT, TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"


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

    @property
    def end(self) -> int:
        """One more than the position of its last number in the record; 0 if it is empty."""
        if 0 in self.shape:
            return 0
        steps = zip(self.shape, self.stride, strict=True)
        return self.offset + 1 + sum((side - 1) * stride for side, stride in steps)


@dataclass(frozen=True, kw_only=True)
class Global:
    """A known type or function that a pickle names."""

    name: str


class PlainPickle:
    """Interprets one pickle of plain values and tensors.

    Only strings can be referenced twice. Otherwise a small file could nest references so that a
    walk through its values would never end.

    Attributes:
        most_bytes: that a file may have beside its tensors.
        storages: types of the records that hold numbers.
    """

    most_bytes = 2**20
    storages: Mapping[str, torch.dtype] = STORAGES

    def __init__(self) -> None:
        """Starts with nothing on the stack."""
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[Any, Any] = {}

    def run(self, pickled: bytes | IO[bytes]) -> Any:
        """Returns its value, with a `StoredTensor` in place of each tensor.

        Raises:
            Foreign: it holds more than plain values and tensors, or was made to do harm.
            Exception: of any type; it is damaged.
        """
        for code, argument, _ in pickletools.genops(pickled):
            if code.name == "STOP":
                return self.stack.pop()
            self.step(code.name, argument)
        raise ValueError("its values are cut short")

    def step(self, name: str, argument: Any) -> None:
        """Carries out one operation."""
        stack = self.stack
        match name:
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.recalled(self.memo[argument]))
            case "BININT1" | "BININT2" | "BININT" | "LONG1" | "BINUNICODE" | "BINFLOAT":
                stack.append(argument)
            case "MARK":
                self.marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(self.since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self.popped(int(name[-1]))))
            case "EMPTY_TUPLE":
                stack.append(())
            case "GLOBAL":
                stack.append(self.known(str(argument)))
            case "BINPERSID":
                stack.append(self.storage(stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self.rebuilt(function, arguments))
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case "SETITEM" | "SETITEMS":
                self.set_items(self.since_mark() if name == "SETITEMS" else self.popped(2))
            case "APPEND" | "APPENDS":
                self.append(self.since_mark() if name == "APPENDS" else self.popped(1))
            case "PROTO":
                pass
            case other:
                raise Foreign(f"it holds more than plain values and tensors ({other})")

    def since_mark(self) -> list[Any]:
        """Takes the values since the last mark from the stack."""
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def popped(self, count: int) -> list[Any]:
        """Takes the last values from the stack."""
        if len(self.stack) < count:
            raise ValueError("its values are damaged")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def recalled(self, value: Any) -> Any:
        """Returns a value that the pickle refers to again."""
        if not isinstance(value, str | Global):
            raise Foreign("it holds the same value in two places")
        return value

    def set_items(self, values: list[Any]) -> None:
        """Puts keys and values, in turn, into the dict on the stack."""
        keys = values[::2]
        if not all(type(key) in (str, int) for key in keys):
            raise Foreign("one of its keys is neither a text nor a whole number")
        pairs = dict(zip(keys, values[1::2], strict=True))
        if not isinstance(self.stack[-1], dict):
            raise ValueError("its values are damaged")
        self.stack[-1].update(pairs)

    def append(self, values: list[Any]) -> None:
        """Puts values into the list on the stack."""
        if not isinstance(self.stack[-1], list):
            raise ValueError("its values are damaged")
        self.stack[-1].extend(values)

    def known(self, name: str) -> Any:
        """Returns what stands for a type or function, given as `module name`."""
        if name not in (*self.storages, DICT, TENSOR):
            raise Foreign(f"it contains {name.replace(' ', '.', 1)}, but only tensors are allowed")
        return Global(name=name)

    def storage(self, value: Any) -> Any:
        """Returns the description of a record as that of a tensor with all of its numbers."""
        match value:
            case ("storage", Global(name=name), str(key), str(), int(count)) if (
                name in self.storages
            ):
                return StoredTensor(
                    dtype=self.storages[name],
                    key=key,
                    count=count,
                    offset=0,
                    shape=(count,),
                    stride=(1,),
                )
        raise ValueError("the description of a record is damaged")

    def rebuilt(self, function: Any, arguments: Any) -> Any:
        """Returns what a call makes: an empty dict or a tensor."""
        if function == Global(name=DICT) and arguments == ():
            return {}
        match arguments:
            case (StoredTensor() as storage, int(offset), tuple(shape), tuple(stride), bool(), {}):
                tensor = part_of(storage, offset, shape, stride)
                if function == Global(name=TENSOR) and tensor is not None:
                    return tensor
        raise Foreign("it calls functions that tensors do not need")


def part_of(
    storage: StoredTensor, offset: int, shape: tuple[Any, ...], stride: tuple[Any, ...]
) -> StoredTensor | None:
    """Returns a tensor of numbers of a record, or None if the numbers that describe it are odd."""
    whole = all(type(n) is int and 0 <= n < 2**63 for n in (*shape, *stride))
    if not whole or not len(shape) == len(stride) <= _MAX_DIMENSIONS:
        return None
    return replace(storage, offset=storage.offset + offset, shape=shape, stride=stride)
