"""Matches the names of the weights in a file with those of a network."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from rdkit_vae.errors import BadData

_T = TypeVar("_T")
_COMPILED = "_orig_mod."  # torch.compile puts it into names
_COUNTER = "num_batches_tracked"  # of batch normalisation: not in old files, and not needed
_MAX_DEPTH = 30


def with_prefix_stripped(
    weights: Mapping[str, _T], expected: Collection[str], prefix: str | None = None
) -> tuple[dict[str, _T], list[str]]:
    """Returns the weights of a network under its own names, and the names of all others.

    Training loops put a prefix such as `model.` before the names. The prefix is the one under which
    the file has all expected names. Weights without the prefix are left out, and so are those of
    parts that the network does not have, such as `loss.`; but a network that has fewer layers than
    the file is an error.

    Args:
        weights: by their name in the file.
        expected: the names in the network.
        prefix: None: find it.

    Raises:
        BadData: the names do not match, or do so with several prefixes.
    """
    required = {name for name in expected if not name.endswith(_COUNTER)}
    if not any(_COMPILED in name for name in expected):
        weights = _renamed(weights)
    if prefix is None:
        prefix = _prefix(weights, required)
    own = {
        name.removeprefix(prefix): weight
        for name, weight in weights.items()
        if name.startswith(prefix)
    }
    parts = {name.partition(".")[0] for name in expected}
    surplus = [name for name in own if name not in expected]
    unexpected = [name for name in surplus if _is_of(name, parts)]
    missing = sorted(required - own.keys())
    if missing or unexpected:
        raise BadData(_difference(missing, unexpected, prefix))
    left_out = [name for name in weights if not name.startswith(prefix)]
    left_out += [prefix + name for name in surplus]
    return {name: weight for name, weight in own.items() if name in expected}, left_out


def _renamed(weights: Mapping[str, _T]) -> dict[str, _T]:
    renamed = {name.replace(_COMPILED, ""): weight for name, weight in weights.items()}
    if len(renamed) != len(weights):
        raise BadData(f"two weights differ only by {_COMPILED} in their names")
    return renamed


def _prefix(weights: Mapping[str, object], required: set[str]) -> str:
    """Returns the prefix with all required names, or else the one with the most of them."""
    counts = Counter({"": 0})
    for name in weights:
        parts = name.split(".", _MAX_DEPTH)
        for depth in range(len(parts)):
            if ".".join(parts[depth:]) in required:
                counts["".join(f"{part}." for part in parts[:depth])] += 1
    complete = [prefix for prefix, count in counts.items() if count == len(required)]
    if len(complete) > 1 and "" not in complete:
        raise BadData(
            f"it has the weights of this network more than once, under {listed(complete)}; name "
            "one of these prefixes"
        )
    return "" if "" in complete else counts.most_common(1)[0][0]


def _is_of(name: str, parts: set[str]) -> bool:
    """Whether a name belongs to a part of the network, or to a further layer of a sequence."""
    first = name.partition(".")[0]
    return first in parts or first.isdigit() or "." not in name


def _difference(missing: list[str], unexpected: list[str], prefix: str) -> str:
    sentences = []
    if missing:
        sentences.append(f"the file lacks {listed(missing)}")
    if unexpected:
        sentences.append(f"the network lacks {listed(unexpected)}")
    below = f" (below {prefix} in the file)" if prefix else ""
    return "; ".join(sentences) + below


def listed(names: Sequence[str], most: int = 3) -> str:
    """Returns the first of some names, and how many more there are."""
    shown = ", ".join(repr(name[:80])[1:-1] for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
