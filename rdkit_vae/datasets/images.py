"""The common form of all datasets, and how processes share it without copies."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from rdkit_vae.errors import BadData, BadInput, CannotWrite, cause_of

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint8]  # (N,)
_SHARED_PREFIX = "rdvae-images-"
_SHARED_NAME = re.compile(rf"{_SHARED_PREFIX}[a-z0-9_]{{8}}")  # as made by mkdtemp
_SHARED_FILES = ("train.npy", "test.npy")
SCRATCH = "scratch"  # a folder there, for files of trials that are on their way to a store
_BLOCK = 1024  # images that are copied at once
_LARGEST = 4096  # side of resized images
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

    @classmethod
    def from_data(
        cls,
        train: Any,
        test: Any = None,
        *,
        name: str,
        levels: int | None = None,
        pixel_range: "tuple[float | Sequence[float], float | Sequence[float]]" = (0, 1),
    ) -> "Images":
        """Makes images from arrays, tensors or datasets of PyTorch.

        uint8 arrays are used in place if the channels come first; memory maps are never read as a
        whole, unless they have to be split. Floats become grey levels; a `RoundedPixels` warning
        says by how much they were rounded, if they were not on levels already.

        Args:
            train, test: a NumPy array or memory map, a tensor on any device, or anything with a
                length whose items are an image or (image, label, ...), with an image that is an
                array, a tensor or a Pillow image. Arrays are (N, H, W), (N, C, H, W) or
                (N, H, W, C) with C from 1 to 4. Without `test`, every fifth image is test.
            name: of the dataset.
            levels: number of grey levels: uint8 pixels are 0 to levels - 1. By default 2 for arrays
                of bool and 256 for others.
            pixel_range: of floats: `(0, 1)`, `(-1, 1)`, `(-0.5, 0.5)`, `(0, 255)`, or otherwise the
                `(mean, std)` with which pixels in [0, 1] were normalised, as numbers or as
                sequences with one number per channel.

        Raises:
            BadData: the images have a wrong type, shape or range, or are too few.
            BadInput: levels or pixel_range are none of these.
        """
        from rdkit_vae.datasets.arrays import images_from_data

        return images_from_data(train, test, name=name, levels=levels, pixel_range=pixel_range)

    def resized(self, size: int) -> "Images":
        """Returns the images resized to `size` x `size`, as `folder:PATH` with --image-size does.

        Images that are not square are cut to the largest centred square first. The filter is
        Pillow's bilinear one on 8-bit pixels, which is that of torchvision's `Resize` on images of
        Pillow. `split_rule` records the size.

        Raises:
            BadInput: size is not a whole number from 1 to 4096, or the images do not have 256
                levels.
        """
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= _LARGEST:
            raise BadInput(f"size must be a whole number from 1 to {_LARGEST}, got {size!r}")
        if self.levels != 256:
            raise BadInput(
                f"{self.name}: only images of 256 grey levels can be resized, not of {self.levels}"
            )
        if self.shape[1:] == (size, size):
            return self
        train, test = (_resized(pixels, size) for pixels in (self.train, self.test))
        rule = f"{self.split_rule}; resized to {size}x{size}"
        return replace(self, train=train, test=test, split_rule=rule, sha256="")

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


def every_fifth(count: int) -> npt.NDArray[np.bool_]:
    """Which of so many images are test, by the rule `EVERY_FIFTH`."""
    is_test: npt.NDArray[np.bool_] = np.arange(count) % 5 == 4
    return is_test


def split_by_rule(name: str, pixels: Pixels, **facts: Any) -> Images:
    """Splits an array that has no official split, by the rule `EVERY_FIFTH`."""
    is_test = every_fifth(len(pixels))
    return Images(
        name=name, train=pixels[~is_test], test=pixels[is_test], split_rule=EVERY_FIFTH, **facts
    )


def fingerprint(train: Pixels, test: Pixels, levels: int) -> str:
    """Returns the SHA-256 of the levels, shapes and pixels of both splits."""
    digest = hashlib.sha256(f"levels={levels}".encode())
    for pixels in (train, test):
        digest.update(str(pixels.shape).encode())
        for start in range(0, len(pixels), _BLOCK):
            digest.update(np.ascontiguousarray(pixels[start : start + _BLOCK]).data)
    return digest.hexdigest()


def _resized(pixels: Pixels, size: int) -> Pixels:
    """Resizes each channel by itself, which gives the bytes that Pillow has for colour images."""
    from PIL import Image

    from rdkit_vae.datasets.decode import resized_to

    out = np.empty((*pixels.shape[:2], size, size), np.uint8)
    for n, image in enumerate(pixels):
        for c, channel in enumerate(image):
            out[n, c] = resized_to(Image.fromarray(np.ascontiguousarray(channel)), size)
    return out


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
    """Removes the files of `share` and the scratch folder, and then the folder if it is empty."""
    shutil.rmtree(SCRATCH, ignore_errors=True, dir_fd=descriptor)
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
        if not _is_mapped(pixels):
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


def _is_mapped(pixels: Pixels) -> "TypeGuard[np.memmap[Any, Any]]":
    """Whether the pixels lie in a file one after the other, so that others can map them."""
    if not isinstance(pixels, np.memmap) or pixels.filename is None:
        return False
    return pixels.flags.c_contiguous


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
