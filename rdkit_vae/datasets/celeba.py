"""CelebA in its published layout, decoded once into a file that is then memory-mapped."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from rdkit_vae.datasets import Request, folder_of
from rdkit_vae.datasets.decode import Recipe, decode
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData, cause_of

CROP, SIZE = 148, 64
_CACHE = f"rdvae-celeba-{CROP}-{SIZE}"
_TRAIN, _TEST = "0", "2"  # 1 is validation, which rdvae does not use


def load(request: Request) -> Images:
    """Maps the 64x64 images of the published train and test partitions.

    The first call decodes `img_align_celeba/*.jpg` and writes `rdvae-celeba-148-64.npy` and `.json`
    beside it; later calls only map that file. It is rebuilt when the partition list changes.

    Raises:
        BadData: the files are not found, an image is missing or damaged, or the decoded images
            cannot be written.
    """
    root = folder_of(request, "img_align_celeba/ and list_eval_partition.txt")
    partition = root / "list_eval_partition.txt"
    try:
        text = partition.read_text("utf-8", "replace")
    except OSError as error:
        raise BadData(f"{partition}: cannot be read ({cause_of(error)})") from error
    list_sha256 = hashlib.sha256(text.encode()).hexdigest()
    facts = _cached_facts(root)
    if facts is None or facts["partition_sha256"] != list_sha256:
        facts = _build(root, *_names(partition, text), list_sha256, request)
    return _mapped(root, facts, request)


def _names(partition: Path, text: str) -> tuple[list[str], list[str]]:
    """Returns the file names of the train and the test partition, in the order of the list."""
    names: dict[str, list[str]] = {"0": [], "1": [], "2": []}
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or fields[1] not in names or Path(fields[0]).name != fields[0]:
            raise BadData(
                f"{partition}:{number}: must be NAME.jpg PARTITION, with partition 0, 1 or 2"
            )
        names[fields[1]].append(fields[0])
    if len(names[_TRAIN]) < 2 or not names[_TEST]:
        raise BadData(f"{partition}: lists too few train (0) or test (2) images")
    return names[_TRAIN], names[_TEST]


def _cached_facts(root: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads((root / f"{_CACHE}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    required = {"partition_sha256", "n_train", "n_test", "sha256"}
    return facts if isinstance(facts, dict) and required <= facts.keys() else None


def _build(
    root: Path, train: list[str], test: list[str], list_sha256: str, request: Request
) -> dict[str, Any]:
    folder = root / "img_align_celeba"
    paths = [folder / name for name in train + test]
    part = root / f".{_CACHE}.{os.getpid()}.part"
    try:
        digest = _decode_into(part, paths, len(train), request)
        facts = {
            "partition_sha256": list_sha256,
            "n_train": len(train),
            "n_test": len(test),
            "sha256": digest,
        }
        # Removed first and written last, so that the description never belongs to another file.
        (root / f"{_CACHE}.json").unlink(missing_ok=True)
        part.replace(root / f"{_CACHE}.npy")
        part.write_text(json.dumps(facts, indent=1), "utf-8")
        part.replace(root / f"{_CACHE}.json")
    except OSError as error:
        raise BadData(f"{root}: cannot write the decoded images ({error})") from error
    finally:
        part.unlink(missing_ok=True)
    return facts


def _decode_into(part: Path, paths: list[Path], n_train: int, request: Request) -> str:
    """Writes the decoded images to a .npy file, flushes it, and returns their fingerprint."""
    shape = (len(paths), 3, SIZE, SIZE)
    out = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    digest, start = hashlib.sha256(f"{_CACHE} {n_train} {shape}".encode()), 0
    for chunk in decode(paths, Recipe(mode="RGB", crop=CROP, size=SIZE), request.progress):
        out[start : start + len(chunk)] = chunk
        digest.update(chunk.data)
        start += len(chunk)
    out.flush()
    return digest.hexdigest()


def _mapped(root: Path, facts: dict[str, Any], request: Request) -> Images:
    cache = root / f"{_CACHE}.npy"
    n_train, n_test = facts["n_train"], facts["n_test"]
    try:
        pixels = np.load(cache, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadData(
            f"{cache}: cannot be read ({error}); delete it to decode the images again"
        ) from error
    if pixels.shape != (n_train + n_test, 3, SIZE, SIZE) or pixels.dtype != np.uint8:
        raise BadData(f"{cache}: does not hold the expected images; delete it to decode them again")
    return Images(
        name=request.name,
        train=pixels[:n_train],
        test=pixels[n_train:],
        split_rule="the published partition: 0 is train, 2 is test, 1 is left out",
        sha256=facts["sha256"],
    )
