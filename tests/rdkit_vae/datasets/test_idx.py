import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from rdkit_vae import load_dataset
from rdkit_vae.datasets.idx import read_idx
from rdkit_vae.errors import BadData

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 5, 4), np.uint8)


def idx(pixels: np.ndarray = PIXELS, magic: int = 0x803) -> bytes:
    return struct.pack(">4I", magic, *pixels.shape) + pixels.tobytes()


@pytest.mark.parametrize("zipped", [False, True])
def test_read_idx(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / ("x.gz" if zipped else "x")
    path.write_bytes(gzip.compress(idx()) if zipped else idx())
    assert np.array_equal(read_idx(path)[:, 0], PIXELS)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "too short"),
        (idx()[:10], "too short"),
        (idx()[:-1], "but it holds 239 bytes"),
        (idx() + b"\0", "it holds more"),
        (idx(magic=0x801), "magic number 0x00000801"),
        (struct.pack(">4I", 0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1), "claims"),
        (struct.pack(">4I", 0x803, 0, 5, 4), "claims 0 images"),
        (b"<html>not found</html>", "not an IDX file"),
    ],
)
def test_damaged_files_are_named_with_the_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    for path, content in ((tmp_path / "x", data), (tmp_path / "x.gz", gzip.compress(data))):
        path.write_bytes(content)
        with pytest.raises(BadData, match=reason) as refused:
            read_idx(path)
        assert str(refused.value).startswith(str(path))


def test_a_truncated_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(idx())[:-20])
    with pytest.raises(BadData, match="cannot be read"):
        read_idx(path)


def _fill(folder: Path, train: np.ndarray = PIXELS, test: np.ndarray = PIXELS[:3]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train-images-idx3-ubyte").write_bytes(idx(train))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(test)))


@pytest.mark.parametrize("below", ["", "mnist"])
def test_found_by_option_and_by_environment(
    tmp_path: Path, below: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(tmp_path / below)
    named = load_dataset("mnist", data_dir=tmp_path)
    monkeypatch.setenv("RDVAE_DATA", str(tmp_path))
    assert load_dataset("mnist").sha256 == named.sha256
    assert (len(named.train), len(named.test), named.shape) == (12, 3, (1, 5, 4))


def test_splits_of_different_shape_are_refused(tmp_path: Path) -> None:
    _fill(tmp_path, test=PIXELS[:, :4])
    with pytest.raises(BadData, match="1x5x4, test images 1x4x4"):
        load_dataset("mnist", data_dir=tmp_path)


def test_real_mnist_is_never_taken_for_fashion(mnist_folder: Path) -> None:
    assert len(load_dataset("mnist", data_dir=mnist_folder).train) == 60_000
    with pytest.raises(BadData, match="are those of mnist"):
        load_dataset("fashion-mnist", data_dir=mnist_folder)
