"""What holds for every dataset, and digits."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rdkit_vae import load_dataset
from rdkit_vae.datasets import DATASETS, source_of
from rdkit_vae.datasets.gaussian import EIGENVALUES
from rdkit_vae.datasets.images import Images, share, shared
from rdkit_vae.errors import BadData, BadInput


def test_digits_are_the_uci_scans(digits: Images) -> None:
    pixels = np.concatenate([digits.train, digits.test])
    assert pixels.shape == (1797, 1, 8, 8)
    assert (pixels.dtype, digits.levels, pixels.max()) == (np.uint8, 17, 16)
    # The mean ink of the published file, over all 64 cells.
    assert pixels.mean() == pytest.approx(4.884164579855314, rel=1e-12)


def test_every_fifth_digit_is_test(digits: Images) -> None:
    assert (len(digits.train), len(digits.test)) == (1438, 359)
    whole = np.empty((1797, 1, 8, 8), np.uint8)
    is_test = np.arange(1, 1798) % 5 == 0
    whole[is_test], whole[~is_test] = digits.test, digits.train
    assert not any((digits.train == image).all(axis=(1, 2, 3)).any() for image in whole[4:20:5])


def test_gaussian_images_have_the_covariance_that_theory_is_told() -> None:
    images = load_dataset("gaussian")
    x = np.concatenate([images.train, images.test]).reshape(-1, 16) / 255
    # A sample's eigenvalue has a relative standard error of sqrt(2/n), here 2%.
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(x.T))[::-1], EIGENVALUES, rtol=0.08)
    assert stats.kurtosis((x - x.mean(axis=0)).sum(axis=1)) == pytest.approx(0, abs=0.2)
    assert ((x > 0) & (x < 1)).mean() > 0.9999


def test_the_attribution_ships_with_the_file() -> None:
    text = Path(source_of.__globals__["__file__"]).parent.joinpath("data", "ATTRIBUTION.md")
    assert "CC BY 4.0" in text.read_text()


def test_the_fingerprint_changes_with_a_pixel(digits: Images) -> None:
    changed = digits.test.copy()
    changed[7, 0, 3, 3] ^= 1
    other = Images(name="digits", train=digits.train, test=changed, levels=17, split_rule="")
    assert other.sha256 != digits.sha256


@pytest.mark.parametrize("name", ["", "nope", "digits:x", "folder", "npz:", "folder:"])
def test_unknown_datasets_are_refused_with_the_known(name: str) -> None:
    with pytest.raises(BadInput, match="digits, gaussian, mnist"):
        load_dataset(name)


@pytest.mark.parametrize("name", [name for name in DATASETS if name not in ("digits", "gaussian")])
def test_a_dataset_that_is_not_there_is_said_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RDVAE_DATA", raising=False)
    if name == "fashion-mnist" and source_of(name).extra_roots[0].joinpath(name).exists():
        pytest.skip("the Debian package is installed")
    missing = name.replace("PATH", str(tmp_path / "missing"))
    with pytest.raises(BadData):
        load_dataset(missing, data_dir=tmp_path)


def test_only_a_folder_is_resized() -> None:
    with pytest.raises(BadInput, match="image-size"):
        load_dataset("digits", image_size=16)


def test_other_processes_map_the_same_images(tiny: Images, tmp_path: Path) -> None:
    again = shared(share(tiny, tmp_path))
    assert np.array_equal(again.train, tiny.train)
    assert np.array_equal(again.test, tiny.test)
    assert again.facts() == tiny.facts()


def test_slices_of_a_memory_map_are_shared_in_place(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 1, 3, 3), np.uint8)
    np.save(tmp_path / "all.npy", pixels)
    mapped = np.load(tmp_path / "all.npy", mmap_mode="r")
    images = Images(name="npz:x", train=mapped[:6], test=mapped[6:], split_rule="")
    again = shared(share(images, tmp_path))
    assert np.array_equal(again.test, pixels[6:])
    assert [path.name for path in tmp_path.iterdir()] == ["all.npy"]
