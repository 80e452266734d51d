"""Files of pictures: originals, reconstructions and prior samples. Never imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rdkit_vae.datasets.images import Pixels
from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.store.pages import MOST_UNPACKED
from rdkit_vae.store.tables import about_of, encoded, file_metadata, read_table
from rdkit_vae.system.files import Write, write_atomic

KINDS = ("original", "reconstruction", "prior")
_KIND = b"rdvae-samples"


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Pictures of a checkpoint, for the same images and latents as of every other checkpoint.

    Attributes:
        split: the split whose first images are the originals.
        seed: seed of the latents.
        original: (n, C, H, W) uint8.
        reconstruction: (n, C, H, W) decoder means at one posterior sample, whose noise is the same
            for every model.
        prior: (m, C, H, W) decoder means at latents from N(0, I).
    """

    split: str
    seed: int
    original: Pixels
    reconstruction: Pixels
    prior: Pixels


def write_samples(
    path: Path, samples: Samples, about: Mapping[str, Any], *, write: Write = write_atomic
) -> None:
    """Writes a row per picture; `about` (JSON) describes the checkpoint.

    Raises:
        BadInput: the pictures are too large for `read_samples`.
        BadData: the file cannot be written.
    """
    import pyarrow as pa

    size = sum(getattr(samples, kind).nbytes for kind in KINDS)
    if size > MOST_UNPACKED:
        raise BadInput(
            f"{path}: the pictures have {size:,} bytes, but a file holds {MOST_UNPACKED:,} "
            "at most; ask for fewer"
        )
    pictures = [(kind, i, p) for kind in KINDS for i, p in enumerate(getattr(samples, kind))]
    table = pa.table(
        {
            "kind": [kind for kind, _, _ in pictures],
            "index": [i for _, i, _ in pictures],
            "pixels": [p.tobytes() for _, _, p in pictures],
        }
    )
    facts = {
        **about,
        "split": samples.split,
        "seed": samples.seed,
        "shape": list(samples.original.shape[1:]),
    }
    write(path, encoded(table.replace_schema_metadata(file_metadata(_KIND, facts))))


def read_samples(path: Path) -> tuple[Samples, dict[str, Any]]:
    """Reads the pictures and `about` that `write_samples` wrote.

    Raises:
        BadData: the file is damaged, not from rdvae, or of a newer schema.
    """
    table = read_table(path, _KIND, most=2 * MOST_UNPACKED)
    about = about_of(table)
    try:
        shape = tuple(int(side) for side in about["shape"])
        rows = table.to_pandas().sort_values("index")
        arrays = {
            kind: np.frombuffer(b"".join(rows.loc[rows["kind"] == kind, "pixels"]), np.uint8)
            for kind in KINDS
        }
        pictures = {kind: flat.reshape(-1, *shape) for kind, flat in arrays.items()}
        return Samples(split=str(about["split"]), seed=int(about["seed"]), **pictures), about
    except Exception as error:  # damaged columns cause all kinds of errors
        raise BadData(f"{path}: damaged ({' '.join(str(error).split())[:120]})") from error
