"""Interprets pickles of other programs: what is no plain value or tensor becomes a placeholder."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from rdkit_vae.store.archive import Foreign
from rdkit_vae.store.pickles import (
    DICT,
    STORAGES,
    TENSOR,
    Global,
    PlainPickle,
    StoredTensor,
    part_of,
)

_MAX_OPERATIONS = 1_000_000  # a tensor takes about 25
_V1 = "torch._utils _rebuild_tensor"
_PARAMETERS = (
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_parameter_with_state",
)
_FROM_TYPE = "torch._tensor _rebuild_from_type_v2"
_RECONSTRUCTORS = ("copyreg._reconstructor", "copy_reg._reconstructor")


@dataclass(frozen=True, eq=False)
class Opaque:
    """Stands for a value that is not interpreted.

    Attributes:
        name: of its class, or of the function that would have made it.
        is_module: whether it is a module of PyTorch.
    """

    name: str
    is_module: bool = False

    @property
    def is_tensor(self) -> bool:
        """Whether it is a tensor of a type that is not interpreted."""
        return self.name.startswith(("torch._utils._rebuild", "torch._tensor._rebuild")) or (
            self.name.startswith("torch.") and self.name.endswith("Storage")
        )


class TolerantPickle(PlainPickle):
    """Interprets a pickle of any program, in time and memory proportional to its length.

    Values may be shared and even contain themselves, so whoever walks through them has to stop
    after a few levels. Dicts keep only the items whose keys are text.

    Attributes:
        records: a tensor with all numbers of a record, by the key of the record.
        unknown_records: types of the records whose numbers are of an unknown type.
    """

    most_bytes = 2**24
    storages = STORAGES | {
        "torch ShortStorage": torch.int16,
        "torch CharStorage": torch.int8,
        "torch ByteStorage": torch.uint8,
        "torch BoolStorage": torch.bool,
    }

    def __init__(self) -> None:
        """Starts with nothing on the stack."""
        super().__init__()
        self.records: dict[str, StoredTensor] = {}
        self.unknown_records: list[str] = []
        self._operations = 0

    def step(self, name: str, argument: Any) -> None:
        """Carries out one operation, of any protocol up to 5."""
        self._operations += 1
        if self._operations > _MAX_OPERATIONS:
            raise Foreign("its parts other than tensors are too large")
        if not (self._made_plain(name, argument) or self._made_object(name, argument)):
            super().step(name, argument)

    def _made_plain(self, name: str, argument: Any) -> bool:
        stack = self.stack
        match name:
            case "FRAME":
                pass
            case "PUT":
                if not 0 <= argument < 2**32:  # longer ones could all have the same hash
                    raise ValueError("its values are damaged")
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET":
                stack.append(self.memo[argument])
            case "INT" | "LONG" | "LONG4" | "FLOAT" | "UNICODE" | "SHORT_BINUNICODE":
                stack.append(argument)
            case "BINUNICODE8" | "STRING" | "BINSTRING" | "SHORT_BINSTRING":
                stack.append(argument)
            case "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                stack.append(argument)
            case "POP":
                at_mark = self.marks and self.marks[-1] == len(stack)
                self.marks.pop() if at_mark else stack.pop()
            case "POP_MARK":
                self.since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "LIST":
                stack.append(self.since_mark())
            case "DICT":
                values = self.since_mark()
                stack.append({})
                self.set_items(values)
            case _:
                return False
        return True

    def _made_object(self, name: str, argument: Any) -> bool:
        stack = self.stack
        match name:
            case "EMPTY_SET":
                stack.append(Opaque("set"))
            case "ADDITEMS":
                self.since_mark()
            case "FROZENSET":
                self.since_mark()
                stack.append(Opaque("frozenset"))
            case "STACK_GLOBAL":
                module, attribute = self.popped(2)
                if not (isinstance(module, str) and isinstance(attribute, str)):
                    raise ValueError("its values are damaged")
                stack.append(self.known(f"{module} {attribute}"))
            case "PERSID":
                stack.append(Opaque("a persistent object"))
            case "INST":
                self.since_mark()
                stack.append(_opaque(self.known(str(argument))))
            case "OBJ":
                values = self.since_mark()
                stack.append(_opaque(values[0]))
            case "NEWOBJ":
                kind, _ = self.popped(2)
                stack.append(_opaque(kind))
            case "NEWOBJ_EX":
                kind, _, _ = self.popped(3)
                stack.append(_opaque(kind))
            case "BUILD":
                state = stack.pop()
                stack[-1] = _with_state(stack[-1], state)
            case _:
                return False
        return True

    def recalled(self, value: Any) -> Any:
        """Returns a value that the pickle refers to again."""
        return value

    def set_items(self, values: list[Any]) -> None:
        """Puts keys and values, in turn, into the dict on the stack."""
        if len(values) % 2:
            raise ValueError("its values are damaged")
        if not isinstance(self.stack[-1], Opaque):
            pairs = zip(values[::2], values[1::2], strict=True)
            super().set_items([item for pair in pairs if type(pair[0]) is str for item in pair])

    def append(self, values: list[Any]) -> None:
        """Puts values into the list on the stack."""
        if not isinstance(self.stack[-1], Opaque):
            super().append(values)

    def known(self, name: str) -> Any:
        """Returns what stands for a type or function, given as `module name`."""
        if name in self.storages or name in (DICT, TENSOR, _V1, _FROM_TYPE, *_PARAMETERS):
            return Global(name=name)
        return Opaque(name.replace(" ", ".", 1))

    def storage(self, value: Any) -> Any:
        """Returns the description of a record as that of a tensor with all of its numbers."""
        match value:
            case ("module", Opaque() as unknown, *_):
                return unknown
            case ("storage", Opaque() as unknown, *_):
                self.unknown_records.append(unknown.name[:80])
                return unknown
            case ("storage", kind, key, place, count, view):  # before version 1.6 of PyTorch
                record = super().storage(("storage", kind, _key(key), place, count))
            case ("storage", kind, key, place, count):
                view = None
                record = super().storage(("storage", kind, _key(key), place, count))
            case _:
                raise ValueError("the description of a record is damaged")
        if not 0 <= record.count < 2**63 or self.records.setdefault(record.key, record) != record:
            raise ValueError(
                f"the descriptions of record {_shown(record.key)} contradict each other"
            )
        return record if view is None else _view(record, view)

    def rebuilt(self, function: Any, arguments: Any) -> Any:
        """Returns what a call makes: a dict, a tensor, or a placeholder."""
        name = function.name if isinstance(function, Global) else ""
        match arguments:
            case () if name == DICT:
                return {}
            case (StoredTensor() | Opaque() as data, *_) if name in _PARAMETERS:
                return data
            case (Global(name=(str() as inner)), _, tuple(inputs), *_) if (
                name == _FROM_TYPE and inner != _FROM_TYPE
            ):
                return self.rebuilt(Global(name=inner), inputs)
            case (Opaque() as unknown, *_) if name in (TENSOR, _V1):
                return unknown
            case (StoredTensor() as storage, int(offset), tuple(shape), tuple(stride), *_) if (
                name in (TENSOR, _V1) and 0 <= offset < 2**63
            ):
                tensor = part_of(storage, offset, shape, stride)
                return Opaque(name.replace(" ", ".", 1)) if tensor is None else tensor
            case (Opaque() as kind, *_) if _opaque(function).name in _RECONSTRUCTORS:
                return kind
        return _opaque(function)


def _key(key: Any) -> str:
    if type(key) not in (str, int):
        raise ValueError("the description of a record is damaged")
    return str(key)


def _view(record: StoredTensor, view: Any) -> StoredTensor:
    match view:
        case (_, int(offset), int(count)) if 0 <= offset <= offset + count <= record.count:
            return replace(record, offset=offset)
    raise ValueError("the description of a record is damaged")


def _opaque(value: Any) -> Opaque:
    if isinstance(value, Global):
        return Opaque(value.name.replace(" ", ".", 1))
    return value if isinstance(value, Opaque) else Opaque(type(value).__name__)


def _with_state(value: Any, state: Any) -> Any:
    """Returns a value whose attributes were set; those of dicts and tensors are left out."""
    is_module = isinstance(state, dict) and {"_parameters", "_modules"} <= state.keys()
    return Opaque(value.name, is_module=True) if is_module and isinstance(value, Opaque) else value


def _shown(text: str) -> str:
    return repr(text[:60])[1:-1]
