"""Labels of the datasets that have some; images are used without them everywhere else."""

import gzip
import struct
import zlib
from importlib import resources
from pathlib import Path

import numpy as np

from rdkit_vae.datasets import folder_of, request_for
from rdkit_vae.datasets.idx import plain_or_gz
from rdkit_vae.datasets.images import Pixels, is_of_test
from rdkit_vae.errors import BadData, BadInput

IDX_LABELS = ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte")
LABELLED = ("digits", "mnist", "fashion-mnist")
CLASSES = 10  # of each of them
_MAGIC, _HEADER = 0x00000801, 8  # unsigned bytes, one dimension


def load_labels(name: str, *, data_dir: str | Path | None = None) -> tuple[Pixels, Pixels]:
    """Loads the labels of the train and test images of a dataset, (N,) and (M,), 0 to 9.

    Args:
        name: of `LABELLED`.
        data_dir: folder that holds the files; searched before RDVAE_DATA.

    Raises:
        BadInput: the dataset has no labels.
        BadData: a file is missing or damaged.
    """
    if name not in LABELLED:
        raise BadInput(f"{name} has no labels; datasets with labels: {', '.join(LABELLED)}")
    if name == "digits":
        with resources.files("rdkit_vae.datasets").joinpath("data", "digits.npz").open("rb") as f:
            labels: Pixels = np.load(f, allow_pickle=False)["labels"]
        of_test = is_of_test(len(labels))
        return labels[~of_test], labels[of_test]
    folder = folder_of(request_for(name, data_dir=data_dir), f"{' and '.join(IDX_LABELS)} (.gz)")
    train, test = (read_idx_labels(plain_or_gz(folder, file)) for file in IDX_LABELS)
    return train, test


def read_idx_labels(path: Path) -> Pixels:
    """Reads an IDX file of labels as (N,).

    Raises:
        BadData: the file is not an IDX file of labels, its length contradicts its header, or a
            label is not below `CLASSES`.
    """
    open_file = gzip.open if path.suffix == ".gz" else open
    try:
        with open_file(path, "rb") as file:
            header = file.read(_HEADER)
            magic, count = struct.unpack(">2I", header) if len(header) == _HEADER else (0, 0)
            if magic != _MAGIC:
                raise BadData(f"{path}: not an IDX file of labels (magic number {magic:#010x})")
            body = file.read(count + 1)
    except (OSError, EOFError, zlib.error, MemoryError, OverflowError) as error:
        raise BadData(f"{path}: cannot be read ({error})") from error
    if len(body) != count or not count:
        raise BadData(f"{path}: its header claims {count:,} labels, but its length is another")
    labels = np.frombuffer(body, np.uint8)
    if labels.max() >= CLASSES:
        raise BadData(f"{path}: damaged (a label is {labels.max()})")
    return labels
