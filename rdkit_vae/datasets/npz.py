"""Images from an .npz file of the user."""

import math
import zipfile
from typing import Any

import numpy.lib.format as npy
import numpy.typing as npt

from rdkit_vae.datasets import Request
from rdkit_vae.datasets.arrays import as_pixels
from rdkit_vae.datasets.images import Images, split_by_rule
from rdkit_vae.errors import BadData

_MAX_INFLATION = 1040  # one byte of a zip file unpacks to at most this many
_PAIRS = (("train", "test"), ("x_train", "x_test"))


def load(request: Request) -> Images:
    """Reads the arrays `train` and `test` (or `x_train`, `x_test`), or splits a single array.

    Raises:
        BadData: the file is not readable, or an array has the wrong type, shape or range.
    """
    path = request.path
    assert path is not None  # `request_for` sets it for datasets that take a path
    if not path.is_file():
        raise BadData(f"{path}: no such file")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            pixels = [as_pixels(read_array(archive, f"{name}.npy")) for name in _chosen(names)]
    except BadData as error:
        raise BadData(f"{path}: {error}") from None
    except Exception as error:  # NumPy and zipfile raise all kinds of errors on damaged files
        reason = " ".join(str(error).split())[:120]
        raise BadData(f"{path}: not a readable .npz file of plain arrays ({reason})") from error
    if len(pixels) == 1:
        return split_by_rule(request.name, pixels[0])
    train, test = pixels
    return Images(name=request.name, train=train, test=test, split_rule="the file's two arrays")


def _chosen(names: list[str]) -> tuple[str, ...]:
    for pair in _PAIRS:
        if set(pair) <= set(names):
            return pair
    if "images" in names:
        return ("images",)
    if len(names) == 1:
        return (names[0],)
    raise BadData(
        f"holds {len(names)} arrays; it must hold train and test, or images, or a single array"
    )


def read_array(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    """Reads an array whose header matches its size, since NumPy allocates what the header says.

    Raises:
        BadData: its header claims another size.
        Exception: of any type; it is damaged, or holds objects.
    """
    record = archive.getinfo(name)
    with archive.open(record) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        size = math.prod(shape) * dtype.itemsize + file.tell()
    is_plausible = size == record.file_size and size <= _MAX_INFLATION * (record.compress_size + 1)
    if not is_plausible and not dtype.hasobject:  # NumPy itself refuses objects
        raise BadData(f"damaged: the array {name} claims to be {shape} of {dtype}")
    with archive.open(record) as file:
        array: npt.NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return array
