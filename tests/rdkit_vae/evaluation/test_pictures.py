"""Pictures of checkpoints: what they are of, and that every model is shown the same."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.evaluation.pictures import sample
from rdkit_vae.store.samples import Samples, read_samples, write_samples

Run = Callable[..., subprocess.CompletedProcess[str]]


class Recorder(nn.Module):
    """Encodes every image to mean 2 and standard deviation 3, and keeps what it has to decode."""

    def __init__(self) -> None:
        super().__init__()
        self.decoded: list[Tensor] = []

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full((len(x), 3), 2.0), torch.full((len(x), 3), np.log(9.0))

    def decode(self, z: Tensor) -> Tensor:
        self.decoded.append(z)
        return torch.full((len(z), 1, 6, 6), 0.25)


def test_pictures_are_of_the_first_images_and_of_given_latents(tiny: Images) -> None:
    model = Recorder()
    made = sample(model, tiny, latents=3, n_images=4, n_prior=1000, seed=5)
    np.testing.assert_array_equal(made.original, tiny.test[:4])
    assert (made.reconstruction == 64).all()
    assert made.prior.shape == (1000, *tiny.shape)
    posterior, prior = model.decoded
    assert prior.mean().abs() < 0.1
    assert prior.std().item() == pytest.approx(1, abs=0.05)
    other = Recorder()
    sample(other, tiny, latents=3, n_images=2, n_prior=7, seed=5)
    assert torch.equal(other.decoded[0], posterior[:2])
    assert torch.equal(other.decoded[1], prior[:7])
    sample(other, tiny, latents=3, n_images=2, n_prior=7, seed=6)
    assert not torch.equal(other.decoded[2], posterior[:2])


def test_another_number_of_latents_is_refused(tiny: Images) -> None:
    with pytest.raises(BadInput, match="3 latents, not 4"):
        sample(Recorder(), tiny, latents=4, n_images=1, n_prior=1)


def test_a_file_gives_back_its_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(256, size=(n, 3, 4, 5), dtype=np.uint8) for n in (12, 12, 3)]
    names = ("original", "reconstruction", "prior")
    samples = Samples(split="train", seed=9, **dict(zip(names, arrays, strict=True)))
    write_samples(tmp_path / "a.parquet", samples, {"epoch": 3})
    found, about = read_samples(tmp_path / "a.parquet")
    for name, array in zip(names, arrays, strict=True):
        np.testing.assert_array_equal(getattr(found, name), array)
    assert (found.split, found.seed, about["epoch"]) == ("train", 9, 3)


def test_what_is_not_pictures_is_named(tmp_path: Path, sweep_folder: Path) -> None:
    results = next((sweep_folder / "results").iterdir())
    with pytest.raises(BadData, match="not rdvae-samples"):
        read_samples(results)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadData, match="not a readable Parquet file"):
        read_samples(tmp_path / "x.parquet")


def test_the_command_takes_each_runs_last_checkpoint(
    rdvae: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    done = rdvae("sample", sweep_folder, "--images", "3", "--prior", "2", "--out", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "p").iterdir())
    assert len(files) == 12
    first, then = done.stdout.splitlines()
    assert first == f"pictures of 12 checkpoints, seed 0: {tmp_path / 'p'}"
    assert then == f"Draw them: rdvae plot samples {tmp_path / 'p'}"
    found = [read_samples(path) for path in files]
    assert {about["epoch"] for _, about in found} == {3}
    assert {samples.original.tobytes() for samples, _ in found} == {found[0][0].original.tobytes()}
    assert all(len(samples.prior) == 2 for samples, _ in found)
    before = [path.stat().st_mtime_ns for path in files]
    again = rdvae("sample", sweep_folder, "--images", "3", "--prior", "2", "--out", tmp_path / "p")
    assert again.stdout == done.stdout
    assert [path.stat().st_mtime_ns for path in files] == before  # the same pictures stay
    rdvae("sample", sweep_folder, "--images", "3", "--seed", "1", "--out", tmp_path / "p")
    assert all(path.stat().st_mtime_ns > then for path, then in zip(files, before, strict=True))


def test_a_checkpoint_in_no_sweep_needs_a_folder(
    rdvae: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    checkpoint = next(sweep_folder.glob("checkpoints/*/epoch=00003.pt"))
    (tmp_path / "moved.pt").write_bytes(checkpoint.read_bytes())
    done = rdvae("sample", tmp_path / "moved.pt")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not in a sweep folder: give a folder with --out" in done.stderr
    done = rdvae("sample", tmp_path / "moved.pt", "--out", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "p").iterdir())) == 1


@pytest.mark.parametrize(
    ("argument", "reason"), [("nope.pt", "cannot be read"), (".", "there is no checkpoint")]
)
def test_what_cannot_be_sampled_is_said(
    argument: str, reason: str, rdvae: Run, tmp_path: Path
) -> None:
    done = rdvae("sample", argument, "--out", "p", cwd=tmp_path)
    assert done.returncode == 4
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
