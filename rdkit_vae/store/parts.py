"""Part files: the results of many trials in one object, so that large sweeps are few objects."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from rdkit_vae.store.mirror import Mirror
from rdkit_vae.store.objects import ObjectStore
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.results import encode_table, read_results
from rdkit_vae.store.schema import Status
from rdkit_vae.store.tables import about_of

RUNS = "runs"  # the entry of a part's `about` that has those of its trials, by run_id
TRIALS = 500  # of a part
_PART = "part-"  # begins the name of a part, and no name of a trial


def is_part(path: Path) -> bool:
    """Whether a file of results is a part, according to its name."""
    return path.name.startswith(_PART)


def parts_of(sweep: Sweep) -> list[Path]:
    """The part files of a sweep, sorted."""
    return sorted((sweep.root / "results").glob(f"{_PART}*.parquet"))


def merged_runs(sweep: Sweep) -> set[str]:
    """The trials whose results are in part files; all of them have ended well.

    Raises:
        BadData: a part cannot be read.
    """
    columns = (read_results(path, ["run_id"])["run_id"] for path in parts_of(sweep))
    return {run_id for column in columns for run_id in column.unique().to_pylist()}


def results_in(folder: Path) -> list[Path]:
    """The files of results in a folder, without those of trials that are in its parts.

    Such a file was left or written anew by a process that did not know of the part.

    Raises:
        BadData: a part cannot be read.
    """
    paths = sorted(folder.glob("*.parquet"))
    if not any(map(is_part, paths)):
        return paths
    merged = merged_runs(Sweep(folder.parent))
    return [path for path in paths if path.stem not in merged]


def merge(mirror: Mirror, trials: int = TRIALS) -> None:
    """Puts results of trials that have ended well into parts, and removes what nobody needs now.

    Args:
        mirror: of the sweep.
        trials: how many make a part; what is left over stays single.

    Raises:
        BadData: a file cannot be read.
        StoreFails: the store does not answer, or refuses.
    """
    sweep = Sweep(mirror.pull())
    single = [path for path in results_in(sweep.root / "results") if not is_part(path)]
    ended = [path for path in single if _has_ended_well(path)]  # others may be run again
    for at in range(0, len(ended) - trials + 1, trials):
        _write_part(mirror.store, ended[at : at + trials])
    if len(ended) >= trials:
        mirror.pull()
    merged = merged_runs(sweep)
    repeated = [run_id for run_id in merged if sweep.results(run_id).exists()]
    mirror.store.remove(f"results/{run_id}.parquet" for run_id in repeated)
    done = merged | {path.stem for path in ended}
    unfinished = mirror.store.marks("unfinished")  # left by processes that died or came too late
    mirror.store.remove(name for name in unfinished if name.split("/")[1] in done)
    if repeated:
        mirror.pull()


def _write_part(store: ObjectStore, paths: Sequence[Path]) -> None:
    import pyarrow as pa

    tables = [read_results(path) for path in paths]
    runs = {path.stem: about_of(table) for path, table in zip(paths, tables, strict=True)}
    data = encode_table(pa.concat_tables(tables), {RUNS: runs})
    store.put(f"results/{_PART}{hashlib.sha256(data).hexdigest()[:16]}.parquet", data)


def _has_ended_well(path: Path) -> bool:
    return set(read_results(path, ["status"])["status"].to_pylist()) == {Status.OK}
