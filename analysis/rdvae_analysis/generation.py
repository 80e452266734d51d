"""Loads what `rdvae generation` and the fits of priors measured; nothing unsound is used."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rdkit_vae.errors import BadData, OtherKind
from rdkit_vae.store.generation import GENERATION_FILES, PRIOR_FILES, Kind, read_rows, rows_frame
from rdkit_vae.store.mirror import local
from rdkit_vae.store.schema import Column
from rdkit_vae.text import counted, few
from rdvae_analysis.load import parquet_files
from rdvae_analysis.sound import Mask, from_elsewhere, warn

SOURCES = ("prior", "reconstruction", "images")
# Folders of a sweep in which no such file lies.
_OTHER_FOLDERS = {
    *("results", "statistics", "checkpoints", "samples", "partial", "damaged", "tensorboard"),
}
_READERS = 2  # threads, as in load
_NAMED = 10  # files left out that are named with the reason
_ROUNDING = 1e-6  # the distance of a set from itself may come out this far below 0
_BY_DRAWS = 0.1  # nats; so far below 0 a rate of 0 may come out, since it is estimated by draws
_LARGEST = 1e100

_SHARE = (0.0, 1.0)
_NOT_NEGATIVE = (0.0, _LARGEST)
_ANY = (-_LARGEST, _LARGEST)
_RANGES: Mapping[str, tuple[float, float]] = {
    **{name: _NOT_NEGATIVE for name in ("kid_se", "density", "rate_se", "train_sigma2", "step")},
    **{name: _SHARE for name in ("precision", "recall", "coverage")},
    **{name: (-_BY_DRAWS, _LARGEST) for name in ("rate", "rate_fitted", "rate_held_out")},
    **{name: (1, _LARGEST) for name in ("n_samples", "n_reference", "n_images", "n_draws")},
    **{name: _NOT_NEGATIVE for name in ("seed", "epoch", "epochs")},
    "frechet": (-_ROUNDING, _LARGEST),
    "ssim": (-1.0, 1.0),
    "beta": (np.nextafter(0, 1), _LARGEST),
}
_NEEDED = ("run_id", "curve", "dataset", "objective", "seed", "epoch", "epochs", "split")
_NEEDED_OF: Mapping[str, tuple[str, ...]] = {
    GENERATION_FILES.folder: ("source", "features", "pixels", "n_samples", "n_reference"),
    PRIOR_FILES.folder: ("prior", "rate"),
}


def load_generation(path: str | Path) -> pd.DataFrame:
    """Loads the distances of samples at or below a path, or URL of an object store.

    Its columns are those of `store.schema.GENERATION`. A `LoadWarning` names each file that is left
    out, and says how many rows cannot be used.

    Raises:
        BadData: there is no such folder, or nothing of this kind below it.
    """
    return _loaded(path, GENERATION_FILES, scan_generation)


def load_priors(path: str | Path) -> pd.DataFrame:
    """As `load_generation`, of rates under fitted priors: columns `store.schema.PRIOR_RATES`."""
    return _loaded(path, PRIOR_FILES, scan_priors)


def scan_generation(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """As `load_generation`, but returns notes instead of warning, and no rows if there are none.

    Raises:
        BadData: there is no such file or folder.
    """
    return _scan(path, GENERATION_FILES)


def scan_priors(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """As `scan_generation`, of rates under fitted priors."""
    return _scan(path, PRIOR_FILES)


def remarks(rows: pd.DataFrame) -> list[str]:
    """What the rows themselves say that one should know, each remark once with its priors."""
    noted = rows[rows["note"].fillna("") != ""].fillna({"prior": ""})
    remarks = []
    for note, part in noted.groupby("note"):
        priors = [name for name in dict.fromkeys(part["prior"]) if name]
        which = f", prior {few(priors)}" if priors else ""
        remarks.append(f"{counted(part['run_id'].nunique(), 'model')}{which}: {note}")
    return remarks


def _loaded(
    path: str | Path, kind: Kind, scan: Callable[[Path], tuple[pd.DataFrame, list[str]]]
) -> pd.DataFrame:
    frame, notes = scan(local(str(path), (kind.folder,)))
    if frame.empty:
        reason = f": {notes[0]}" if notes else ""
        raise BadData(f"{path}: no files of {kind.folder} below it{reason}")
    warn(notes, stacklevel=4)
    return frame


def _scan(path: Path, kind: Kind) -> tuple[pd.DataFrame, list[str]]:
    if not path.exists():
        raise BadData(f"{path}: no such file or folder")
    with ThreadPoolExecutor(_READERS) as pool:
        results = list(pool.map(lambda file: _read(file, kind), _files(path, kind)))
    damaged = [str(r) for r in results if isinstance(r, BadData) and not isinstance(r, OtherKind)]
    notes = [f"left out {error}" for error in damaged[:_NAMED]]
    if len(damaged) > _NAMED:
        notes.append(f"left out {counted(len(damaged) - _NAMED, 'more file')} of {kind.folder}")
    frames = [result for result in results if isinstance(result, pd.DataFrame)]
    frame = pd.concat(frames, ignore_index=True) if frames else rows_frame([], kind)
    kept, unsound = _sound(frame, kind)
    return kept, notes + unsound


def _files(path: Path, kind: Kind) -> Iterator[Path]:
    """The file, or the files in folders of this kind and in the folders of runs in these."""
    for file in parquet_files(path, _OTHER_FOLDERS):
        if path.is_file() or kind.folder in (file.parent.name, file.parent.parent.name):
            yield file


def _read(file: Path, kind: Kind) -> "pd.DataFrame | BadData":
    try:
        table = read_rows(file, kind)
    except BadData as error:
        return error
    frame: pd.DataFrame = table.to_pandas()
    # A number that was not measured is null; one that came out as NaN is no number.
    nulls = {name: table.column(name).is_null().to_numpy() for name in kind.columns}
    doubles = [name for name, column in kind.columns.items() if column.type == "double"]
    broken = np.array([frame[name].isna() & ~nulls[name] for name in doubles], dtype=bool)
    return frame.assign(broken=broken.any(axis=0))


def _sound(frame: pd.DataFrame, kind: Kind) -> tuple[pd.DataFrame, list[str]]:
    """The rows that can be used, each once, and a note for each reason to leave out others."""
    frame = frame if "broken" in frame else frame.assign(broken=False)
    notes, good = [], np.ones(len(frame), dtype=bool)
    for bad, why in _flaws(frame, kind):
        if (bad & good).any():
            runs = few(map(str, frame.loc[bad & good, "run_id"].dropna().unique()))
            count = counted(int((bad & good).sum()), "row")
            notes.append(f"left out {count} of {kind.folder} {why}: {runs}")
        good &= ~bad
    kept = frame[good].drop(columns="broken")
    repeated = kept.duplicated(list(kind.key)).to_numpy(dtype=bool)
    if repeated.any():
        count = counted(int(repeated.sum()), "row")
        notes.append(f"{count} of {kind.folder} lie in more than one place; each is counted once")
    return kept[~repeated].reset_index(drop=True), notes


def _flaws(frame: pd.DataFrame, kind: Kind) -> Iterator[tuple[Mask, str]]:
    """Which rows cannot be used, and why."""
    for name in (*_NEEDED, *_NEEDED_OF[kind.folder]):
        yield frame[name].isna().to_numpy(), f"without {name}"
    yield (frame["beta"].isna() & ~from_elsewhere(frame)).to_numpy(dtype=bool), "without beta"
    yield frame["broken"].to_numpy(dtype=bool), "with a number that is not finite"
    for name, column in kind.columns.items():
        if column.is_number:
            yield _impossible(frame[name], column), f"whose {name} is impossible"
    if "source" in frame:
        yield ~frame["source"].isin(SOURCES).to_numpy(dtype=bool), "of an unknown source"
        unnamed = (frame["source"] == "prior") & (frame["prior"].fillna("") == "")
        yield unnamed.to_numpy(dtype=bool), "of samples without the name of their prior"


def _impossible(values: "pd.Series[Any]", column: Column) -> Mask:
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    least, most = _RANGES.get(str(values.name), _ANY)
    return np.asarray((numbers < least) | (numbers > most))
