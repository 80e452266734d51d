"""The user's own code, named as `package.module:name`; imported only if the user names it."""

import functools
import importlib
import re
from typing import Any

from rdkit_vae.errors import BadInput

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


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
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module can raise anything
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


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]
