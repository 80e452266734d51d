"""The common form of all datasets, and how processes share it without copies."""

import contextlib
import fcntl
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rdkit_vae.errors import BadData, CannotWrite, cause_of

Pixels = npt.NDArray[np.uint8]
_SHARED_PREFIX = "rdvae-images-"
_SHARED_NAME = re.compile(rf"{_SHARED_PREFIX}[a-z0-9_]{{8}}")  # as made by mkdtemp
_SHARED_FILES = ("train.npy", "test.npy")
EVERY_FIFTH = "every fifth image, counted from the fifth, is test; the others are train"


@dataclass(frozen=True, kw_only=True)
class Images:
    """A dataset in memory or memory-mapped. A pixel p means x = p / (levels - 1) in [0, 1].

    Attributes:
        name: the name that the user gave.
        train, test: uint8 arrays, (N, C, H, W).
        levels: number of grey levels, 256 for 8-bit images.
        split_rule: how the images were split into train and test, in words.
        sha256: hash of both splits, their shapes and levels.
    """

    name: str
    train: Pixels
    test: Pixels
    levels: int = 256
    split_rule: str
    sha256: str = ""

    def __post_init__(self) -> None:
        if len(self.train) < 2 or len(self.test) < 1:
            raise BadData(
                f"{self.name}: too few images ({len(self.train)} train, {len(self.test)} test)"
            )
        if self.train.shape[1:] != self.test.shape[1:]:
            raise BadData(
                f"{self.name}: train images are {shape_text(self.train)}, "
                f"test images {shape_text(self.test)} (channels x height x width)"
            )
        if not self.sha256:
            object.__setattr__(self, "sha256", fingerprint(self.train, self.test, self.levels))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.train.shape[1:]
        return channels, height, width

    @property
    def dims(self) -> int:
        """D, the number of values in an image."""
        return int(np.prod(self.shape))

    def split(self, name: str) -> Pixels:
        """Returns the array of `train` or `test`."""
        return {"train": self.train, "test": self.test}[name]

    def facts(self) -> dict[str, Any]:
        """Returns what `sweep.json` records about the images."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "shape": list(self.shape),
            "levels": self.levels,
            "n_train": len(self.train),
            "n_test": len(self.test),
            "split_rule": self.split_rule,
        }


def shape_text(pixels: Pixels) -> str:
    """Returns `3x64x64` for an array (N, 3, 64, 64)."""
    return "x".join(str(side) for side in pixels.shape[1:])


def split_by_rule(name: str, pixels: Pixels, **facts: Any) -> Images:
    """Splits an array that has no official split, by the rule `EVERY_FIFTH`."""
    is_test = np.arange(len(pixels)) % 5 == 4
    return Images(
        name=name, train=pixels[~is_test], test=pixels[is_test], split_rule=EVERY_FIFTH, **facts
    )


def fingerprint(train: Pixels, test: Pixels, levels: int) -> str:
    """Returns the SHA-256 of the levels, shapes and pixels of both splits."""
    digest = hashlib.sha256(f"levels={levels}".encode())
    for pixels in (train, test):
        digest.update(str(pixels.shape).encode())
        digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


@contextlib.contextmanager
def shared_folder() -> Iterator[Path]:
    """Makes a temporary folder for `share`, and removes it at the end of the context.

    The folder is locked until then. A lock ends with its process, even if that is killed, so an
    unlocked folder is abandoned; those are removed first.

    Raises:
        CannotWrite: the folder cannot be made.
    """
    _remove_abandoned(Path(tempfile.gettempdir()))
    folder, descriptor = _locked_folder()
    try:
        yield folder
    finally:
        _remove(folder, descriptor)
        os.close(descriptor)


def _locked_folder() -> tuple[Path, int]:
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=_SHARED_PREFIX))
        except OSError as error:
            place = tempfile.gettempdir()
            raise CannotWrite(f"{place}: cannot be written ({cause_of(error)})") from error
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.is_dir():  # otherwise another sweep removed it before it was locked
            return folder, descriptor
        os.close(descriptor)


def _remove_abandoned(place: Path) -> None:
    """Removes the shared folders of this user that no process has locked."""
    for folder in place.glob(f"{_SHARED_PREFIX}*"):
        if not _SHARED_NAME.fullmatch(folder.name):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(descriptor).st_uid == os.geteuid():
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails if locked
                    _remove(folder, descriptor)
            finally:
                os.close(descriptor)


def _remove(folder: Path, descriptor: int) -> None:
    """Removes the files that `share` writes, and then the folder if it is empty."""
    for name in _SHARED_FILES:
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=descriptor)
    with contextlib.suppress(OSError):
        folder.rmdir()


def share(images: Images, folder: Path) -> dict[str, Any]:
    """Returns a small description with which other processes map the same images.

    Splits that are not memory-mapped yet are first written to `folder`.

    Raises:
        CannotWrite: the folder cannot be written.
    """
    splits = {}
    for split in ("train", "test"):
        pixels = images.split(split)
        if not isinstance(pixels, np.memmap) or pixels.filename is None:
            try:
                np.save(folder / f"{split}.npy", pixels)
            except OSError as error:
                raise CannotWrite(f"{folder}: cannot be written ({cause_of(error)})") from error
            pixels = np.load(folder / f"{split}.npy", mmap_mode="r")
        splits[split] = (str(pixels.filename), _offset(pixels), pixels.shape)
    return {
        "splits": splits,
        "name": images.name,
        "levels": images.levels,
        "split_rule": images.split_rule,
        "sha256": images.sha256,
    }


def _offset(pixels: "np.memmap[Any, Any]") -> int:
    # A slice of a memory map has the offset of the whole map, so compute its own from addresses.
    base = pixels
    while isinstance(base.base, np.memmap):
        base = base.base
    return int(base.offset) + pixels.ctypes.data - base.ctypes.data


def shared(description: dict[str, Any]) -> Images:
    """Opens the images that `share` described."""
    facts = dict(description)
    arrays: dict[str, Any] = {
        split: np.memmap(path, dtype=np.uint8, mode="r", offset=offset, shape=tuple(shape))
        for split, (path, offset, shape) in facts.pop("splits").items()
    }
    return Images(**arrays, **facts)
