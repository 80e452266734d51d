"""Which rows of results can be used: the others are left out, named and counted.

Results come from files that others wrote and from tables that users put together. What a number may
be stands in the schema; every function that takes results relies on what is checked here.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rdkit_vae.errors import BadInput
from rdkit_vae.objectives.losses import OBJECTIVES
from rdkit_vae.store.schema import COLUMNS, MEASURED, NOT_NEGATIVE, NULLABLE, POSITIVE, Status
from rdkit_vae.text import counted, few

Mask = npt.NDArray[np.bool_]

IDENTITY = ("run_id", "epoch", "split", "sigma", "status")  # what tells rows apart
_STATUSES = (Status.OK, Status.DIVERGED, Status.CRASHED)
# What all rows of a run have in common.
_OF_A_RUN = (
    *("curve", "setup", "dataset", "architecture", "latents", "objective", "beta", "train_sigma2"),
    *("seed", "protocol", "epochs"),
)
_ROUNDING = 1e-3  # a rate of 0 nats may be less than 0 by that much
_LARGEST = 1e100  # beyond, sums and squares overflow
_NAMED = 6  # columns that a row lacks and that are told


class LoadWarning(UserWarning):
    """A file or rows were left out; the message says which and why."""


def sound_rows(frame: pd.DataFrame, needs: Sequence[str] = ()) -> tuple[pd.DataFrame, list[str]]:
    """The rows whose values can be what they say, each once; and in words what was left out.

    A row must have a value in every column that other rows fill, unless the schema lets it
    be null, and every number within its range. All rows of a run must be of one model.

    Args:
        frame: results, whole or of some columns.
        needs: columns that must be there.

    Raises:
        BadInput: one of `needs` is not there, or holds nothing.
    """
    if frame.empty:
        return frame, []
    missing = [name for name in needs if name not in frame or not _is_filled(frame, name)]
    if missing:
        raise BadInput(
            f"the table has no {', '.join(missing)}: it must have the columns of results, as "
            "load_results gives them"
        )
    frame = frame.assign(**_parsed(frame))
    notes: list[str] = []
    good = np.ones(len(frame), dtype=bool)
    for check in (_lacking, _out_of_range, _at_odds):
        for bad, why in check(frame, good):
            if (bad & good).any():
                notes.append(_note(frame[bad & good], why))
            good &= ~bad
    kept = frame if good.all() else _with_whole_numbers(frame[good])
    return _once(kept, notes)


def only_sound(frame: pd.DataFrame, needs: Sequence[str] = ()) -> pd.DataFrame:
    """As `sound_rows`, for functions that return no words: what is left out is a `LoadWarning`."""
    kept, notes = sound_rows(frame, needs)
    warn(notes, stacklevel=4)
    return kept


def warn(notes: Sequence[str], *, stacklevel: int = 3) -> None:
    """Warns of what was left out, a `LoadWarning` each; by default where the caller was called."""
    for note in notes:
        warnings.warn(note, LoadWarning, stacklevel=stacklevel)


def _measured(frame: pd.DataFrame) -> Mask:
    """Which rows have the numbers of an evaluation; failed runs have none."""
    if "status" not in frame or frame["status"].isna().all():
        return np.ones(len(frame), dtype=bool)
    return np.array(frame["status"].astype(object) == Status.OK)


def _is_filled(frame: pd.DataFrame, name: str) -> bool:
    """Whether a column holds anything where it should; else it counts as not there."""
    there = np.array(frame[name].notna())
    wanted = there[_measured(frame)] if name in MEASURED else there
    return name in NULLABLE or not len(wanted) or bool(wanted.any())


def _parsed(frame: pd.DataFrame) -> Mapping[str, Any]:
    """Columns of numbers that are held as objects or texts, as numbers; NaN for what is none."""
    return {
        name: pd.to_numeric(frame[name], errors="coerce").astype(float)
        for name in frame
        if name in COLUMNS
        and COLUMNS[name].is_number
        and not pd.api.types.is_numeric_dtype(frame[name])
    }


def _lacking(frame: pd.DataFrame, good: Mask) -> Iterator[tuple[Mask, str]]:
    """Rows without values that they should have."""
    names = [name for name in COLUMNS if name in frame]
    null = frame[names].isna().to_numpy()
    filled = ~null.all(axis=0)
    null &= _wanted(frame, names) & filled
    for pattern in dict.fromkeys(map(tuple, null[null.any(axis=1)])):
        lacked = [name for name, lacks in zip(names, pattern, strict=True) if lacks]
        yield (null == pattern).all(axis=1), f"without {few(lacked, _NAMED)}"


def _wanted(frame: pd.DataFrame, names: Sequence[str]) -> Mask:
    """(rows, names): which rows must have a value in which columns."""
    wanted = np.ones((len(frame), len(names)), dtype=bool)
    wanted[:, [name in MEASURED for name in names]] = _measured(frame)[:, None]
    wanted[:, [name in NULLABLE for name in names]] = False
    if {"train_sigma2", "objective"} <= set(names):
        constant = [key for key, objective in OBJECTIVES.items() if objective.has_sigma2]
        wanted[:, names.index("train_sigma2")] = frame["objective"].isin(constant)
    if {"sigma2", "sigma"} <= set(names):  # a mixture over variances has no single one
        mixture = np.array(frame["sigma"].astype(str).str.startswith("mixture"))
        wanted[:, names.index("sigma2")] = _measured(frame) & ~mixture
    return wanted


def _out_of_range(frame: pd.DataFrame, good: Mask) -> Iterator[tuple[Mask, str]]:
    """Rows with a number that cannot be, or a status that is none."""
    names = [name for name in COLUMNS if name in frame and COLUMNS[name].is_number]
    numbers = frame[names].to_numpy(dtype=np.float64, na_value=np.nan)
    least = np.full(len(names), -_LARGEST)
    least[[name in NOT_NEGATIVE for name in names]] = 0
    least[[name in NOT_NEGATIVE and COLUMNS[name].type == "double" for name in names]] = -_ROUNDING
    beyond = (numbers > _LARGEST) | (numbers < least)
    beyond |= (numbers <= 0) & [name in POSITIVE for name in names]
    fraction = ~np.isnan(numbers) & (numbers != np.rint(numbers))
    beyond |= fraction & [COLUMNS[name].type == "int64" for name in names]
    for place in np.flatnonzero(beyond[good].any(axis=0)):
        bad = beyond[:, place]
        value = numbers[bad & good, place]
        if len(value):
            yield bad, f"whose {names[place]} is {value[0]:g}; it must be {_must(names[place])}"
    if "status" in frame and frame["status"].notna().any():
        yield ~np.array(frame["status"].isin(_STATUSES)), "of an unknown status"


def _must(name: str) -> str:
    words = ["a whole number" if COLUMNS[name].type == "int64" else "finite"]
    words += ["positive"] if name in POSITIVE else []
    words += ["not negative"] if name in NOT_NEGATIVE else []
    return " and ".join(words)


def _at_odds(frame: pd.DataFrame, good: Mask) -> Iterator[tuple[Mask, str]]:
    """Rows that say of their run what most of its other rows do not."""
    if "run_id" not in frame or not good.any():
        return
    place = np.flatnonzero(good)
    runs, _ = pd.factorize(frame["run_id"].to_numpy(dtype=object)[place])
    _, first = np.unique(runs, return_index=True)
    for name in (name for name in _OF_A_RUN if name in frame):
        values = pd.factorize(frame[name])[0][place]
        bad = np.zeros(len(frame), dtype=bool)
        for run in np.unique(runs[values != values[first[runs]]]):
            mine = runs == run
            usual = pd.Series(values[mine]).value_counts().idxmax()
            bad[place[mine & (values != usual)]] = True
        yield bad, f"whose {name} is not that of the rest of their run"


def _note(rows: pd.DataFrame, why: str) -> str:
    """In words, what is left out and why."""
    ids = rows["run_id"].dropna().unique() if "run_id" in rows else ()
    of = f": {few(map(str, ids))}" if len(ids) else ""
    return f"left out {counted(len(rows), 'row')} {why}{of}"


def _with_whole_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """With integers again where what was no integer has gone."""
    whole = [
        name
        for name in frame
        if name in COLUMNS
        and COLUMNS[name].type == "int64"
        and pd.api.types.is_float_dtype(frame[name])
        and frame[name].notna().all()
    ]
    return frame.astype(dict.fromkeys(whole, "int64"))


def _once(frame: pd.DataFrame, notes: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Rows that are there twice, once: the first of each."""
    if not set(IDENTITY) <= set(frame.columns):
        return frame, notes
    repeated = np.array(frame.duplicated(list(IDENTITY)))
    if not repeated.any():
        return frame, notes
    runs = frame.loc[repeated, "run_id"].nunique()
    where = f"{counted(runs, 'run')} {'lies' if runs == 1 else 'lie'} in more than one place"
    return frame[~repeated], [*notes, f"{where}; each is counted once"]
