"""The user's own code, named as `package.module:name`; imported only if the user names it."""

import functools
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from rdkit_vae.errors import BadInput, NotNamed

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


T = TypeVar("T")


class Imported(Generic[T]):
    """Registry entries made from the user's own code; files alone never choose which code runs.

    Args:
        what: `architecture` or `objective`; also the option that names one.
        entry: type of the entries.
        wrap: makes an entry from a callable.
        call: how that is called, for the error message.
    """

    def __init__(self, what: str, entry: type[T], wrap: Callable[[Any], T], call: str) -> None:
        self._what, self._entry, self._wrap, self._call = what, entry, wrap, call
        self._entries: dict[str, T] = {}

    def load(self, name: str) -> None:
        """Imports the entry, or the callable to make it from, that the user names.

        Raises:
            BadInput: it cannot be imported, or is neither.
        """
        if name in self._entries:
            return
        value = import_name(name, self._what)
        if not isinstance(value, self._entry):
            if not callable(value):
                raise BadInput(f"{self._what} {name}: it cannot be called as {self._call}")
            value = self._wrap(value)
        self._entries[name] = value

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise NotNamed(
                f"{self._what} {name} is not part of rdvae; if you trust its code, give "
                f"--{self._what} {name}"
            )
        return self._entries[name]


def is_import_name(name: str) -> bool:
    """Whether a name has the form `package.module:name`."""
    return len(name) <= 120 and _NAME.fullmatch(name) is not None


def import_name(name: str, what: str) -> Any:
    """Imports what `package.module:name` names.

    Args:
        name: a name of that form.
        what: what the name stands for, used in the error message.

    Raises:
        BadInput: the module cannot be imported or does not define the name.
    """
    module_name, _, attribute = name.partition(":")
    if module_name in _names_of_the_program():
        raise BadInput(
            f"{what} {name}: {module_name} is the program that is running, which workers cannot "
            "import; put the code into a module of its own"
        )
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a module can raise anything
        if isinstance(error, ModuleNotFoundError) and error.name in _parents(module_name):
            reason = f"there is no module {error.name}"
            advice = "; set PYTHONPATH to the folder that contains it"
        else:
            text = " ".join(str(error).split())[:200]
            reason, advice = f"importing {module_name} raised {type(error).__name__}: {text}", ""
        raise BadInput(f"{what} {name}: {reason}{advice}") from error
    try:
        return functools.reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        raise BadInput(f"{what} {name}: {module_name} has no {attribute}") from error


def _names_of_the_program() -> set[str]:
    """The names under which the program that is running could be imported."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return {"__main__"} | ({Path(file).stem} if file else set())


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]
