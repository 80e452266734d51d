"""The pictures that `rdvae sample` made: reads them into a table, selects comparable ones."""

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd

from rdkit_vae.config.trial import Trial
from rdkit_vae.errors import BadData, BadInput, OtherKind
from rdkit_vae.store.models import models_in
from rdkit_vae.store.paths import find_sweeps
from rdkit_vae.store.samples import KINDS, Samples, read_samples
from rdkit_vae.text import counted
from rdvae_analysis.load import parquet_files

_OTHER_FOLDERS = {
    *("results", "statistics", "checkpoints", "generation", "priors"),
    *("partial", "damaged", "tensorboard"),
}


def load_pictures(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """All pictures at or below a path.

    Returns:
        A row per checkpoint: `run_id`, `checkpoint_sha256`, its settings (`dataset`, `setup`,
        `objective`, `beta`, `train_sigma2`, `seed`, `epoch`, `epochs`), the images and latents of
        the pictures (`split`, `picture_seed`), and `original`, `reconstruction`, `prior`:
        (n, C, H, W) uint8. And notes on what was left out.

    Raises:
        BadData: the path does not exist.
    """
    if not path.exists():
        raise BadData(f"{path}: no such file or folder")
    rows, notes = [], []
    for file in parquet_files(path, _OTHER_FOLDERS):
        try:
            pictures, about = read_samples(file)
            trial = Trial.from_dict(about["trial"])
            facts = ("dataset", "setup", "objective", "beta", "train_sigma2", "seed", "epochs")
            row = {name: getattr(trial, name) for name in ("run_id", *facts)}
            row |= {name: about[name] for name in ("epoch", "checkpoint_sha256")}
            _check_pictures(pictures, file)
        except OtherKind:
            continue
        except (BadData, BadInput) as error:
            notes.append(f"left out {error}")
            continue
        except KeyError as error:
            notes.append(f"left out {file}: damaged (it lacks {error})")
            continue
        row |= {"split": pictures.split, "picture_seed": pictures.seed}
        rows.append(row | {kind: getattr(pictures, kind) for kind in KINDS})
    frame = pd.DataFrame(rows)
    repeated = frame.duplicated(["run_id", "epoch"]) if rows else np.zeros(0, bool)
    if repeated.any():
        notes.append(
            f"left out {counted(int(repeated.sum()), 'file')} of pictures that were there already"
        )
    return frame[~repeated], notes


def without_pictures(path: Path) -> list[str]:
    """A note on how many models from elsewhere lie below a path; none if there are none."""
    count = 0
    for root in find_sweeps(path) if path.is_dir() else ():
        with contextlib.suppress(BadData):  # an unreadable sweep.json has no models to count
            count += len(models_in(root) or ())
    words = "which have no checkpoint to make pictures of"
    return [f"left out {counted(count, 'model')} from elsewhere, {words}"] if count else []


def _check_pictures(pictures: Samples, file: Path) -> None:
    """Checks that pictures can be shown.

    Raises:
        BadData: a kind has no pictures, or they have neither 1 nor 3 channels.
    """
    empty = [kind for kind in KINDS if not len(getattr(pictures, kind))]
    if empty:
        raise BadData(f"{file}: no pictures of kind {', '.join(empty)}")
    if pictures.original.ndim != 4 or pictures.original.shape[1] not in (1, 3):
        shape = "x".join(map(str, pictures.original.shape[1:]))
        raise BadData(f"{file}: pictures must have 1 or 3 channels, the shape of these is {shape}")


def alike(frame: pd.DataFrame, *, every_seed: bool = False) -> tuple[pd.DataFrame, list[str]]:
    """The pictures of last checkpoints that show the same images and latents.

    Args:
        frame: as `load_pictures` returns it, of one setup.
        every_seed: keeps all seeds of training, not only the lowest.

    Returns:
        A row per objective, C, beta (and seed); and notes on what was left out.
    """
    last = frame[frame["epoch"] == frame["epochs"]]
    notes = _note(len(frame) - len(last), "of a run that is not finished")
    shown = last.assign(shows=[_shows(row) for row in last.to_dict("records")])
    if len(shown):
        usual = shown["shows"].mode().iloc[0]
        notes += _note(int((shown["shows"] != usual).sum()), "made from other images or latents")
        shown = shown[shown["shows"] == usual]
    keys = ["objective", "train_sigma2", "beta", *(["seed"] if every_seed else [])]
    kept = shown.sort_values("seed").drop_duplicates(keys).drop(columns="shows")
    return kept, [*notes, *_note(len(shown) - len(kept), "with other seeds")]


def _shows(row: "dict[str, object]") -> str:
    original, prior = (np.asarray(row[name]) for name in ("original", "prior"))
    shapes = f"{original.shape} {prior.shape}"
    return f"{row['split']} {row['picture_seed']} {shapes} {hash(original.tobytes())}"


def _note(count: int, why: str) -> list[str]:
    return [f"left out the pictures of {counted(count, 'checkpoint')} {why}"] if count else []
