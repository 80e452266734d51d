from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rdkit_vae import Trial, make_trial, train
from rdkit_vae.checkpoint import load_checkpoint, save_checkpoint
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput
from rdkit_vae.models import ARCHITECTURES
from rdkit_vae.objectives import OBJECTIVES
from rdkit_vae.training import Diverged, Training, learning_rate


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_same_trial_twice_gives_the_same_bytes(
    architecture: str, tiny: Images, tiny_trial: Trial, tmp_path: Path
) -> None:
    hashes = []
    for name in ("a.pt", "b.pt"):
        training = Training(replace(tiny_trial, architecture=architecture), tiny)
        torch.manual_seed(len(hashes))  # the global generator must not matter
        training.run_epoch()
        training.run_epoch()
        hashes.append(save_checkpoint(tmp_path / name, training))
    assert hashes[0] == hashes[1]
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_going_on_from_a_checkpoint_is_never_having_stopped(
    architecture: str, tiny: Images, tiny_trial: Trial, tmp_path: Path
) -> None:
    trial = replace(tiny_trial, architecture=architecture)
    whole, first = Training(trial, tiny), Training(trial, tiny)
    for _ in range(2):
        first.run_epoch()
    save_checkpoint(tmp_path / "half.pt", first)
    second = Training(trial, tiny)
    second.restore(load_checkpoint(tmp_path / "half.pt").state)
    for training, epochs in ((whole, 4), (second, 2)):
        for _ in range(epochs):
            training.run_epoch()
    assert whole.step == second.step
    assert save_checkpoint(tmp_path / "a.pt", whole) == save_checkpoint(tmp_path / "b.pt", second)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_lowers_the_loss(objective: str, tiny: Images, tiny_trial: Trial) -> None:
    losses = []
    sigma2 = 0.5 if OBJECTIVES[objective].has_sigma2 else None
    trial = replace(
        tiny_trial, objective=objective, train_sigma2=sigma2, epochs=30, checkpoints=(30,)
    )
    train(trial, tiny, on_epoch=lambda training: losses.append(training.loss))
    assert len(losses) == 30
    assert losses[-1] < losses[0] - 1


def test_trials_of_one_seed_share_weights_order_and_noise(tiny: Images, tiny_trial: Trial) -> None:
    one, other = Training(tiny_trial, tiny), Training(replace(tiny_trial, beta=50.0), tiny)
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(one.batches(), other.batches(), strict=True):
        assert np.array_equal(a, b)


def test_an_epoch_sees_every_image_once(tiny: Images, tiny_trial: Trial) -> None:
    training = Training(tiny_trial, tiny)
    batches = list(training.batches())
    assert sorted(np.concatenate(batches)) == list(range(40))
    assert [len(batch) for batch in batches] == [14, 13, 13]
    training.epoch = 1
    assert not np.array_equal(np.concatenate(batches), np.concatenate(list(training.batches())))


def test_the_papers_protocol_drops_the_last_batch(tiny: Images, tiny_trial: Trial) -> None:
    training = Training(replace(tiny_trial, protocol="paper"), tiny)
    assert [len(batch) for batch in training.batches()] == [16, 16]
    with pytest.raises(BadInput, match="more than the 40"):
        Training(replace(tiny_trial, protocol="paper", batch_size=41), tiny)


def test_the_learning_rate_is_annealed_once_or_twice() -> None:
    clean, paper = make_trial("mnist"), make_trial("mnist", protocol="paper")
    for trial in (clean, paper):
        assert learning_rate(trial, 0, 1000) == 1e-3
        assert learning_rate(trial, 999, 1000) < 1e-7
    assert learning_rate(clean, 500, 1000) == pytest.approx(5e-4)
    assert learning_rate(paper, 499, 1000) < 1e-7
    assert learning_rate(paper, 500, 1000) == 1e-3


def test_a_loss_that_is_not_finite_stops_before_the_step(tiny: Images, tiny_trial: Trial) -> None:
    training = Training(tiny_trial, tiny)
    training.run_epoch()
    with torch.no_grad():
        next(training.model.parameters()).fill_(float("inf"))
    before = training.step
    with pytest.raises(Diverged, match=f"epoch 2, step {before + 1}"):
        training.run_epoch()
    assert training.step == before


def test_other_images_than_the_trials_are_refused(tiny: Images, tiny_trial: Trial) -> None:
    with pytest.raises(BadInput, match="changed"):
        Training(replace(tiny_trial, data_sha256="0" * 64), tiny)


def test_the_papers_warps_keep_images_in_range_and_move_them(mnist_folder: Path) -> None:
    from rdkit_vae import load_dataset, seeds
    from rdkit_vae.inputs import AUGMENTATIONS, to_unit

    images = load_dataset("mnist", data_dir=mnist_folder)
    x = to_unit(images.test[:64], 256, torch.device("cpu"))
    warp = AUGMENTATIONS["mnist"]
    drawn = warp.draw(seeds.generator(0, "augment"), 64)
    warped = warp.apply(x, torch.from_numpy(drawn))
    assert warped.shape == x.shape
    assert 0 <= warped.min() <= warped.max() <= 1
    assert (warped - x).abs().mean() > 0.01
    # A crop of 0.9-1 of the area enlarges what it shows: the ink grows by no more than 1/0.9.
    assert 0.9 < warped.sum() / x.sum() < 1.15


def test_warp_parameters_are_rotations_of_crops_inside_the_image() -> None:
    from rdkit_vae import seeds
    from rdkit_vae.inputs import AUGMENTATIONS

    theta = AUGMENTATIONS["mnist"].draw(seeds.generator(0, "augment"), 2000).astype(float)
    width, height = (
        np.hypot(theta[:, 0, 0], theta[:, 1, 0]),
        np.hypot(theta[:, 0, 1], theta[:, 1, 1]),
    )
    angle = np.rad2deg(np.arctan2(theta[:, 1, 0], theta[:, 0, 0]))
    assert np.abs(angle).max() <= 10
    assert np.abs(angle).max() > 9.5
    assert (width * height).min() >= 0.9 - 1e-6
    assert max(width.max(), height.max()) <= 1 + 1e-6
    assert (width / height).min() >= 0.9 - 1e-6
    centre = theta[:, :, 2]
    assert (np.hypot(centre[:, 0], centre[:, 1]) <= np.hypot(1 - width, 1 - height) + 1e-6).all()


def test_a_flip_is_exact() -> None:
    from rdkit_vae.inputs import AUGMENTATIONS

    x = torch.rand(2, 3, 4, 5)
    flipped = AUGMENTATIONS["celeba"].apply(x, torch.tensor([0.0, 1.0]))
    assert torch.equal(flipped[0], x[0])
    assert torch.equal(flipped[1], x[1].flip(2))
