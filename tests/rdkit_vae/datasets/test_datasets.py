"""What holds for every dataset, and digits."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rdkit_vae import load_dataset
from rdkit_vae.datasets import DATASETS, source_of
from rdkit_vae.datasets.gaussian import EIGENVALUES
from rdkit_vae.datasets.images import Images, share, shared, shared_folder
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


def test_why_the_images_cannot_be_written_is_said(tiny: Images, tmp_path: Path) -> None:
    """NumPy's own error on a disk that is full has no error number."""
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from rdkit_vae.datasets.images import Images, share\n"
        "from rdkit_vae.errors import CannotWrite\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "pixels = np.zeros((50, 1, 40, 40), np.uint8)\n"
        "images = Images(name='npz:x', train=pixels, test=pixels, split_rule='')\n"
        "try:\n"
        "    share(images, Path(sys.argv[1]))\n"
        "except CannotWrite as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.search(r"cannot be written \(80000 requested and \d+ written\)", done.stdout)


HOLD = (
    "import sys\n"
    "from rdkit_vae.datasets import load_dataset\n"
    "from rdkit_vae.datasets.images import share, shared, shared_folder\n"
    "with shared_folder() as folder:\n"
    "    share(load_dataset('digits'), folder)\n"
    "    print(folder, flush=True)\n"
    "    sys.stdin.read()\n"
)


def test_images_of_a_killed_sweep_are_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a living one are not, nor anything that only looks like them."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    command = [sys.executable, "-c", HOLD]
    living, killed = (subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(2))
    with living, killed:
        folders = []
        for process in (living, killed):
            assert process.stdout is not None
            folders.append(Path(process.stdout.readline().strip()))
        killed.kill()
        killed.wait()
        kept = _what_only_looks_like_it(tmp_path)
        assert folders[1].is_dir()
        with shared_folder() as own:
            assert not folders[1].exists()
            assert {*tmp_path.iterdir()} == {own, folders[0], *kept}
            assert {path.name for path in folders[0].iterdir()} == {"train.npy", "test.npy"}
        living.communicate("")
    assert {*tmp_path.iterdir()} == kept
    assert (tmp_path / "elsewhere" / "train.npy").read_text() == "another's"
    assert (tmp_path / "rdvae-images-linked_1" / "train.npy").is_symlink()


def _what_only_looks_like_it(place: Path) -> set[Path]:
    elsewhere, link, linked = (
        place / "elsewhere",
        place / "rdvae-images-linkto_1",
        "rdvae-images-linked_1",
    )
    elsewhere.mkdir()
    (elsewhere / "train.npy").write_text("another's")
    link.symlink_to(elsewhere)
    (place / linked).mkdir()
    (place / linked / "train.npy").symlink_to(elsewhere / "train.npy")
    (place / "rdvae-images-file_123").write_text("no folder")
    (place / "rdvae-images-abc_1234.bak").mkdir()
    return {
        elsewhere,
        link,
        place / linked,
        place / "rdvae-images-file_123",
        place / "rdvae-images-abc_1234.bak",
    }
