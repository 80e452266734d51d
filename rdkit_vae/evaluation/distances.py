"""Distances between the weights of the runs of a sweep."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rdkit_vae.errors import BadData, RdvaeError
from rdkit_vae.store.checkpoints import Checkpoint, load_checkpoint, relative_distance
from rdkit_vae.store.paths import Sweep, find_sweeps

if TYPE_CHECKING:
    import pandas as pd

Pair = tuple[str, str]


def weight_distances(
    folder: Path, pairs: Sequence[Pair], rows: "pd.DataFrame"
) -> tuple[dict[Pair, float], list[str]]:
    """Relative distances between the weights of pairs of runs, where both checkpoints are there.

    Args:
        folder: the sweeps are below it; or the results folder of one.
        pairs: of run_ids.
        rows: of one checkpoint of each run, which name its epoch and SHA-256.

    Returns:
        The distances by pair, and why others are missing.
    """
    sweeps = [Sweep(r) for r in find_sweeps(folder.parent if folder.name == "results" else folder)]
    of_run = rows.groupby("run_id")[["epoch", "checkpoint_sha256"]].first()
    distances, notes = {}, []
    for pair in pairs:
        try:
            one, other = (_load(sweeps, run_id, *of_run.loc[run_id]) for run_id in pair)
            distances[pair] = relative_distance(one, other)
        except RdvaeError as error:
            notes.append(f"the distance between weights is unknown: {error}")
    return distances, notes


def _load(sweeps: Sequence[Sweep], run_id: str, epoch: int, sha256: str) -> Checkpoint:
    paths = (sweep.checkpoint(run_id, epoch) for sweep in sweeps)
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise BadData(f"the checkpoint of {run_id} is missing")
    checkpoint = load_checkpoint(path)
    if checkpoint.sha256 != sha256:
        raise BadData(f"the checkpoint of {run_id} is not the one that its results are from")
    return checkpoint
