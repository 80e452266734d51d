"""Checks results and keeps the rows that can be used; those left out are named and counted.

Results come from files that others wrote and from tables that users put together. The schema says
which values a column may hold; every function that takes results relies on the checks made here.
"""

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rdkit_vae.config.foreign import UNKNOWN
from rdkit_vae.errors import BadInput
from rdkit_vae.objectives.losses import OBJECTIVES
from rdkit_vae.store.schema import COLUMNS, MEASURED, NOT_NEGATIVE, NULLABLE, POSITIVE, Status
from rdkit_vae.text import counted, few

Mask = npt.NDArray[np.bool_]

IDENTITY = ("run_id", "epoch", "split", "sigma", "status")  # tells any two rows apart
_STATUSES = (Status.OK, Status.DIVERGED, Status.CRASHED)
# What all rows of a run have in common.
_RUN_FACTS = (
    *("curve", "setup", "dataset", "architecture", "latents", "objective", "beta", "train_sigma2"),
    *("seed", "protocol", "epochs"),
)
_ROUNDING = 1e-3  # a rate of 0 nats may come out this far below 0
_LARGEST = 1e100  # sums and squares of larger numbers overflow
_MOST_NAMED = 6  # missing columns that a note lists


class LoadWarning(UserWarning):
    """A file or rows were left out; the message says which and why."""


def sound_rows(frame: pd.DataFrame, needs: Sequence[str] = ()) -> tuple[pd.DataFrame, list[str]]:
    """Keeps the rows with valid values, each once.

    A row must have a value in every column that other rows fill, unless the schema allows null
    there, and every number must be within its range. All rows of a run must describe one model.

    Args:
        frame: results, with all or some of their columns.
        needs: columns that must be there.

    Returns:
        The rows that were kept, and a note for each reason to leave out others.

    Raises:
        BadInput: a column of `needs` is missing or empty.
    """
    if frame.empty:
        return frame, []
    measured = _measured(frame)
    missing = [
        name for name in needs if name not in frame or not _has_values(frame, name, measured)
    ]
    if missing:
        raise BadInput(
            f"the table has no {', '.join(missing)}: it must have the columns of results, as "
            "load_results returns them"
        )
    frame = frame.assign(**_parsed(frame))
    notes: list[str] = []
    good = np.ones(len(frame), dtype=bool)
    for check in (_incomplete, _out_of_range, _inconsistent):
        for bad, why in check(frame, good, measured):
            if (bad & good).any():
                notes.append(_note(frame[bad & good], why))
            good &= ~bad
    kept = frame if good.all() else _with_integers_restored(frame[good])
    return _without_repeats(kept, notes)


def only_sound(frame: pd.DataFrame, needs: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of `sound_rows`; its notes become warnings (`LoadWarning`)."""
    kept, notes = sound_rows(frame, needs)
    warn(notes, stacklevel=4)
    return kept


def warn(notes: Sequence[str], *, stacklevel: int = 3) -> None:
    """Issues a `LoadWarning` per note, by default at the line that called the caller."""
    for note in notes:
        warnings.warn(note, LoadWarning, stacklevel=stacklevel)


def is_in(column: "pd.Series[Any]", values: Collection[str]) -> Mask:
    """`column.isin(values)` for text that repeats a lot; ten times as fast on a million rows."""
    codes, names = pd.factorize(column)
    chosen = np.array([name in values for name in names] + [False])  # the last: null, code -1
    return np.asarray(chosen[codes])


def from_elsewhere(frame: pd.DataFrame) -> Mask:
    """Which rows are of models that rdvae did not train."""
    elsewhere = np.zeros(len(frame), dtype=bool)
    if "model" in frame:
        elsewhere |= np.array(frame["model"].notna() & (frame["model"] != ""))
    if "objective" in frame:
        elsewhere |= is_in(frame["objective"], (UNKNOWN,))
    return elsewhere


def _measured(frame: pd.DataFrame) -> Mask:
    """Which rows have the numbers of an evaluation; failed runs have none."""
    if "status" not in frame or frame["status"].isna().all():
        return np.ones(len(frame), dtype=bool)
    return is_in(frame["status"], (Status.OK,))


def _has_values(frame: pd.DataFrame, name: str, measured: Mask) -> bool:
    """Whether a column has any value in the rows that should have one; else it is missing."""
    present = np.array(frame[name].notna())
    required = measured if name in MEASURED else np.ones(len(frame), dtype=bool)
    if name == "beta":
        required = ~from_elsewhere(frame)
    return name in NULLABLE or not required.any() or bool(present[required].any())


def _parsed(frame: pd.DataFrame) -> Mapping[str, Any]:
    """Number columns stored as objects or text, converted to float; NaN where that fails."""
    return {
        name: pd.to_numeric(frame[name], errors="coerce").astype(float)
        for name in frame
        if name in COLUMNS
        and COLUMNS[name].is_number
        and not pd.api.types.is_numeric_dtype(frame[name])
    }


def _incomplete(frame: pd.DataFrame, good: Mask, measured: Mask) -> Iterator[tuple[Mask, str]]:
    """Rows without a value that they should have."""
    names = [name for name in COLUMNS if name in frame]
    null = np.stack([frame[name].isna().to_numpy() for name in names], axis=1)
    null &= ~null.all(axis=0)
    null &= _required(frame, names, measured)
    for pattern in dict.fromkeys(map(tuple, null[null.any(axis=1)])):
        absent = [name for name, is_null in zip(names, pattern, strict=True) if is_null]
        yield (null == pattern).all(axis=1), f"without {few(absent, _MOST_NAMED)}"


def _required(frame: pd.DataFrame, names: Sequence[str], measured: Mask) -> Mask:
    """(rows, names): which rows must have a value in which columns."""
    required = np.ones((len(frame), len(names)), dtype=bool)
    required[:, [name in MEASURED for name in names]] = measured[:, None]
    required[:, [name in NULLABLE for name in names]] = False
    if {"train_sigma2", "objective"} <= set(names):
        constant = [key for key, objective in OBJECTIVES.items() if objective.has_sigma2]
        required[:, names.index("train_sigma2")] = is_in(frame["objective"], constant)
    if "beta" in names:  # that of a model from elsewhere may be unknown
        required[:, names.index("beta")] = ~from_elsewhere(frame)
    if {"sigma2", "sigma"} <= set(names):  # a mixture of variances has no single one
        mixtures = [s for s in frame["sigma"].unique() if str(s).startswith("mixture")]
        required[:, names.index("sigma2")] = measured & ~is_in(frame["sigma"], mixtures)
    return required


def _out_of_range(frame: pd.DataFrame, good: Mask, measured: Mask) -> Iterator[tuple[Mask, str]]:
    """Rows with an impossible number or an unknown status."""
    for name in (name for name in COLUMNS if name in frame and COLUMNS[name].is_number):
        numbers = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
        bad = _impossible(numbers, name)
        if (bad & good).any():
            value = numbers[bad & good][0]
            yield bad, f"whose {name} is {value:g}; it must be {_allowed(name)}"
    if "status" in frame and frame["status"].notna().any():
        yield ~is_in(frame["status"], _STATUSES), "of an unknown status"


def _impossible(numbers: npt.NDArray[np.float64], name: str) -> Mask:
    """Which numbers a column cannot hold; NaN is not judged."""
    whole = COLUMNS[name].type == "int64"
    least = -_LARGEST
    if name in NOT_NEGATIVE:
        least = 0 if whole else -_ROUNDING
    bad = (numbers > _LARGEST) | (numbers < least)
    if name in POSITIVE:
        bad |= numbers <= 0
    if whole:
        bad |= ~np.isnan(numbers) & (numbers != np.rint(numbers))
    return bad


def _allowed(name: str) -> str:
    words = ["a whole number" if COLUMNS[name].type == "int64" else "finite"]
    words += ["positive"] if name in POSITIVE else []
    words += ["not negative"] if name in NOT_NEGATIVE else []
    return " and ".join(words)


def _inconsistent(frame: pd.DataFrame, good: Mask, measured: Mask) -> Iterator[tuple[Mask, str]]:
    """Rows that contradict most other rows of their run."""
    if "run_id" not in frame or not good.any():
        return
    place = np.flatnonzero(good)
    runs, _ = pd.factorize(frame["run_id"].iloc[place], use_na_sentinel=False)
    first = np.empty(runs.max() + 1, dtype=np.int64)
    first[runs[::-1]] = np.arange(len(runs))[::-1]  # the earliest row of a run is written last
    for name in (name for name in _RUN_FACTS if name in frame):
        values = pd.factorize(frame[name])[0][place]
        bad = np.zeros(len(frame), dtype=bool)
        for run in np.unique(runs[values != values[first[runs]]]):
            same_run = runs == run
            usual = pd.Series(values[same_run]).value_counts().idxmax()
            bad[place[same_run & (values != usual)]] = True
        yield bad, f"whose {name} is not that of the rest of their run"


def _note(rows: pd.DataFrame, why: str) -> str:
    ids = rows["run_id"].dropna().unique() if "run_id" in rows else ()
    names = f": {few(map(str, ids))}" if len(ids) else ""
    return f"left out {counted(len(rows), 'row')} {why}{names}"


def _with_integers_restored(frame: pd.DataFrame) -> pd.DataFrame:
    """Integer columns that were float only because of the rows now left out."""
    whole = [
        name
        for name in frame
        if name in COLUMNS
        and COLUMNS[name].type == "int64"
        and pd.api.types.is_float_dtype(frame[name])
        and frame[name].notna().all()
    ]
    return frame.astype(dict.fromkeys(whole, "int64"))


def _without_repeats(frame: pd.DataFrame, notes: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """The first of each set of rows with the same `IDENTITY`."""
    if not set(IDENTITY) <= set(frame.columns):
        return frame, notes
    repeated = np.array(frame.duplicated(list(IDENTITY)))
    if not repeated.any():
        return frame, notes
    runs = frame.loc[repeated, "run_id"].nunique()
    where = f"{counted(runs, 'run')} {'lies' if runs == 1 else 'lie'} in more than one place"
    return frame[~repeated], [*notes, f"{where}; each is counted once"]
