import math
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from rdkit_vae import Trial, evaluate, make_trial, score, train
from rdkit_vae.config import seeds
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput
from rdkit_vae.models import ARCHITECTURES, VAE
from rdkit_vae.objectives.losses import OBJECTIVES
from rdkit_vae.store.checkpoints import load_checkpoint, save_resume_file
from rdkit_vae.training.augmentation import Augmentation, to_unit
from rdkit_vae.training.state import Training, build_model, learning_rate
from rdkit_vae.training.steps import Pack


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_same_trial_twice_gives_the_same_bytes(
    architecture: str, tiny: Images, tiny_trial: Trial, tmp_path: Path
) -> None:
    hashes = []
    for name in ("a.pt", "b.pt"):
        training = Training(replace(tiny_trial, architecture=architecture), tiny)
        torch.manual_seed(len(hashes))  # the global generator must not matter
        Pack([training]).run_epoch()
        Pack([training]).run_epoch()
        hashes.append(save_resume_file(tmp_path / name, training))
    assert hashes[0] == hashes[1]
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_going_on_from_a_checkpoint_is_never_having_stopped(
    architecture: str, tiny: Images, tiny_trial: Trial, tmp_path: Path
) -> None:
    trial = replace(tiny_trial, architecture=architecture)
    whole, first = Training(trial, tiny), Training(trial, tiny)
    for _ in range(2):
        Pack([first]).run_epoch()
    save_resume_file(tmp_path / "half.pt", first)
    second = Training(trial, tiny)
    second.restore(load_checkpoint(tmp_path / "half.pt").state)
    for training, epochs in ((whole, 4), (second, 2)):
        for _ in range(epochs):
            Pack([training]).run_epoch()
    assert whole.step == second.step
    assert save_resume_file(tmp_path / "a.pt", whole) == save_resume_file(tmp_path / "b.pt", second)


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
    for epoch in range(2):
        one.epoch = other.epoch = epoch
        assert torch.equal(one.randomness().order, other.randomness().order)
        assert torch.equal(one.randomness().noise, other.randomness().noise)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_epochs_against_a_recomputation(
    objective: str, tiny: Images, tiny_trial: Trial
) -> None:
    """Draws, losses, schedule and AdamW written out once more, step by step."""
    sigma2 = 0.3 if OBJECTIVES[objective].has_sigma2 else None
    trial = replace(
        tiny_trial, objective=objective, train_sigma2=sigma2, learning_rate=0.01, beta=0.7
    )
    training = Training(trial, tiny)
    module = build_model(trial, tiny.shape)
    model, weights = cast(VAE, module), list(module.parameters())
    moments = [(torch.zeros_like(w), torch.zeros_like(w)) for w in weights]
    step, total = 0, 4 * 3
    for epoch in range(2):
        noise = torch.Generator().manual_seed(seeds.integer(trial.seed, "noise", epoch))
        losses = []
        for batch in training.randomness().order.split(training.batch_sizes()):
            x = torch.tensor(tiny.train[batch.numpy()] / 255, dtype=torch.float32)
            mean, log_var = model.encode(x)
            q = Normal(mean, torch.sqrt(torch.exp(log_var)))
            z = q.mean + q.stddev * torch.randn(mean.shape, generator=noise)
            kl = torch.distributions.kl_divergence(q, Normal(0.0, 1.0)).sum(1)
            sse = ((x - model.decode(z)) ** 2).sum((1, 2, 3))
            nll = _nll(objective, sse, module, z)
            loss = (nll + 0.7 * kl).sum() / len(batch)
            losses += [loss.item()] * len(batch)
            gradients = torch.autograd.grad(loss, weights)
            rate = 0.01 * (1 + math.cos(math.pi * step / total)) / 2
            step += 1
            with torch.no_grad():
                for w, g, (m, v) in zip(weights, gradients, moments, strict=True):
                    m += 0.1 * (g - m)
                    v += 0.001 * (g * g - v)
                    w -= rate * 1e-5 * w
                    w -= rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
        Pack([training]).run_epoch()
        assert training.loss == pytest.approx(np.mean(losses), rel=1e-4)
    for found, expected in zip(training.model.parameters(), weights, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def _nll(
    objective: str, sse: torch.Tensor, module: torch.nn.Module, z: torch.Tensor
) -> torch.Tensor:
    if objective == "constant":
        return sse / 0.6
    if objective in ("optimal", "optimal-batch"):
        fitted = sse if objective == "optimal" else sse.mean()
        return 18 * (torch.log(2 * torch.pi * fitted / 36) + 1) + 0 * sse
    variance = module.variance
    if objective == "student":
        nu = torch.exp(10 * variance.scaled_log_nu)
        s2 = 1e-6 + torch.exp(10 * variance.scaled_log)
        constant = torch.lgamma(nu / 2) - torch.lgamma((nu + 36) / 2)
        constant = constant + 18 * torch.log(nu * torch.pi * s2)
        return constant + (nu + 36) / 2 * torch.log1p(sse / (nu * s2))
    if objective == "learned":
        s2 = 1e-6 + torch.exp(10 * variance.scaled_log)
    else:
        s2 = 1e-6 + torch.exp(variance.head(z).squeeze(1))
    return sse / (2 * s2) + 18 * torch.log(2 * torch.pi * s2)


def test_the_network_starts_alike_whatever_the_objective(tiny_trial: Trial) -> None:
    plain = build_model(tiny_trial, (1, 6, 6)).state_dict()
    for objective in ("learned", "learned-image", "student"):
        found = build_model(replace(tiny_trial, objective=objective), (1, 6, 6)).state_dict()
        assert set(found) > set(plain)
        assert all(torch.equal(found[name], value) for name, value in plain.items())


@pytest.mark.parametrize("objective", [n for n, entry in OBJECTIVES.items() if entry.variance])
@pytest.mark.parametrize("beta", [1e-4, 1.0, 1e3])
def test_a_trained_variance_is_stable_over_seven_decades(
    objective: str, beta: float, digits: Images
) -> None:
    trial = make_trial(
        "digits", architecture="mlp", latents=8, objective=objective, beta=beta, epochs=40, draws=2
    )
    statistics = evaluate(train(trial, digits), digits, trial)
    own, fitted = (
        {row.split: row for row in score(statistics, trial, [sigma])}["train"]
        for sigma in ("own", "shared")
    )
    # What was trained is what fits: the reading of training is no worse than a wrong one.
    assert own.elbo > fitted.elbo - 3
    assert 0.5 < own.sigma2 / fitted.sigma2 < 2


def test_the_papers_protocol_trains_on_warped_images(
    tiny: Images, tiny_trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    black = replace(tiny, train=np.zeros_like(tiny.train), sha256="")
    expected = Training(tiny_trial, black)
    Pack([expected]).run_epoch()
    erase = Augmentation(
        numbers=1,
        parameters=lambda numbers, shape: numbers,
        inputs=lambda pixels, levels, parameters: 0 * to_unit(pixels, levels),
    )
    for module in ("state", "steps"):
        monkeypatch.setattr(
            f"rdkit_vae.training.{module}.augmentation_of", lambda trial, shape: erase
        )
    found = Training(tiny_trial, tiny)
    Pack([found]).run_epoch()
    assert found.loss == expected.loss


def test_a_linear_vae_lands_on_its_closed_form() -> None:
    """DESIGN 1, invariant 6: reverse water-filling over the eigenvalues of the sample covariance.

    Source: Lucas et al. 2019, "Don't Blame the ELBO!".
    """
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    x = 0.5 + rng.normal(size=(1000, 4)) * np.sqrt([0.06, 0.03, 0.004, 0.002]) @ basis.T
    pixels = np.rint(x.clip(0, 1) * 255).astype(np.uint8).reshape(1000, 1, 2, 2)
    images = Images(name="npz:gauss", train=pixels, test=pixels[:50], split_rule="")
    eigenvalues = np.linalg.eigvalsh(np.cov(pixels.reshape(1000, 4).T / 255, bias=True))[::-1]
    for beta in (0.01, 0.03):
        trial = make_trial(
            "npz:gauss",
            architecture="linear",
            objective="constant",
            latents=3,
            beta=beta,
            epochs=300,
            batch_size=50,
            learning_rate=0.03,
            train_images="all",
        )
        found = evaluate(train(trial, images), images, trial)["train"]
        tau, kept = beta * 0.5, eigenvalues[:3]
        rate = np.maximum(np.log(kept / tau) / 2, 0).sum()
        sse = np.minimum(kept, tau).sum() + eigenvalues[3:].sum()
        assert found.kl.mean() == pytest.approx(rate, rel=0.02)
        assert found.sse.mean() == pytest.approx(sse, rel=0.02)


def test_pairs_of_one_product_reach_the_same_weights_and_claim_other_likelihoods(
    tiny: Images, tiny_trial: Trial
) -> None:
    """DESIGN 1, invariant 2 (Beta-Sigma VAE, Eq. 5): only beta x C is ever set."""
    base = replace(tiny_trial, objective="constant", train_sigma2=0.5, beta=0.02)
    pair = replace(base, train_sigma2=0.01, beta=1.0)
    models = [train(trial, tiny) for trial in (base, pair)]
    ours, theirs = (torch.nn.utils.parameters_to_vector(m.parameters()) for m in models)
    assert (ours - theirs).norm() < 1e-3 * ours.norm()
    statistics = evaluate(models[0], tiny, base)
    # The claims of the very same statistics, and by hand what lies between them.
    claims = [
        score({"test": replace(statistics["test"], own_sigma2=c)}, base, ["own"])[0].elbo
        for c in (0.5, 0.01)
    ]
    mean_sse = statistics["test"].sse.mean()
    between = mean_sse / 0.02 - mean_sse / 1.0 + 36 / 2 * math.log(0.01 / 0.5)
    assert claims[0] - claims[1] == pytest.approx(between, rel=1e-10)
    assert abs(between) > 5


def test_an_epoch_sees_every_image_once(tiny: Images, tiny_trial: Trial) -> None:
    training = Training(tiny_trial, tiny)
    order = training.randomness().order
    assert sorted(order.tolist()) == list(range(40))
    assert training.batch_sizes() == [14, 13, 13]
    training.epoch = 1
    assert not torch.equal(order, training.randomness().order)


def test_the_papers_protocol_drops_the_last_batch(as_mnist: Images, tiny_trial: Trial) -> None:
    paper = replace(tiny_trial, dataset="mnist", protocol="paper", batch_size=8)
    training = Training(replace(paper, batch_size=9), as_mnist)
    assert training.batch_sizes() == [9, 9, 9, 9]
    assert len(training.randomness().order) == 36
    statistics = evaluate(build_model(paper, as_mnist.shape), as_mnist, paper)
    assert [len(statistics[split].image) for split in ("train", "test")] == [8, 8]  # of 40 and 10
    everything = evaluate(
        build_model(paper, as_mnist.shape), as_mnist, replace(paper, train_images="all")
    )
    assert everything["train"].image.tolist() == list(range(40))
    for size, split in ((41, "40 train"), (11, "10 test")):
        with pytest.raises(BadInput, match=f"{size} is more than the {split} images"):
            Training(replace(paper, batch_size=size), as_mnist)
    # Older releases evaluated all of the test split.
    before = replace(paper, protocol_revision=2, batch_size=11)
    assert len(evaluate(build_model(before, as_mnist.shape), as_mnist, before)["test"].image) == 10


@pytest.mark.parametrize(
    ("dataset", "asked", "warp"),
    [
        ("mnist", "", "mnist"),
        ("celeba", "", "celeba"),
        ("mnist", "none", None),
        ("fashion-mnist", "mnist", "mnist"),
        ("npz:x", "celeba", "celeba"),
        ("npz:x", "none", None),
    ],
)
def test_other_data_than_the_papers_are_augmented_if_asked(
    dataset: str, asked: str, warp: str | None, as_mnist: Images, tiny_trial: Trial
) -> None:
    trial = replace(tiny_trial, dataset=dataset, protocol="paper", augmentation=asked, batch_size=8)
    assert trial.warp(as_mnist.shape) == warp
    assert (Training(trial, as_mnist).randomness().warps is None) == (warp is None)
    evaluate(build_model(trial, as_mnist.shape), as_mnist, trial)


@pytest.mark.parametrize("dataset", ["digits", "fashion-mnist", "npz:x", "folder:x"])
def test_other_data_than_the_papers_must_be_asked_about(
    dataset: str, as_mnist: Images, tiny_trial: Trial
) -> None:
    trial = replace(tiny_trial, dataset=dataset, protocol="paper", batch_size=8)
    words = f"for {dataset}, say which augmentation to use: mnist, celeba or none"
    with pytest.raises(BadInput, match=words):
        Training(trial, as_mnist)
    with pytest.raises(BadInput, match=words):
        evaluate(build_model(trial, as_mnist.shape), as_mnist, trial)
    with pytest.raises(BadInput, match="protocol clean does not augment"):
        replace(tiny_trial, augmentation="mnist")


def test_the_learning_rate_is_annealed_once_or_twice() -> None:
    clean, paper = make_trial("mnist"), make_trial("mnist", protocol="paper")
    for trial in (clean, paper):
        assert learning_rate(trial, 0, 1000) == 1e-3
        assert learning_rate(trial, 999, 1000) < 1e-7
    assert learning_rate(clean, 500, 1000) == pytest.approx(5e-4)
    assert learning_rate(paper, 500, 1000) < 1e-7
    assert learning_rate(paper, 501, 1000) == 1e-3


@pytest.mark.parametrize("total", [10, 11, 5850])
def test_the_learning_rate_of_the_paper_is_that_of_pytorchs_warm_restarts(total: int) -> None:
    paper = make_trial("mnist", protocol="paper")
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, total // 2 + 1)
    for step in range(total):
        assert learning_rate(paper, step, total) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    before = replace(paper, protocol_revision=2)
    assert learning_rate(before, -(-total // 2), total) == 1e-3


def test_a_loss_that_is_not_finite_is_told_with_its_step(tiny: Images, tiny_trial: Trial) -> None:
    training = Training(tiny_trial, tiny)
    Pack([training]).run_epoch()
    with torch.no_grad():
        next(training.model.parameters()).fill_(float("inf"))
    before = training.step
    assert Pack([training]).run_epoch()
    assert training.diverged.endswith(f"at epoch 2, step {before + 1}")
    assert training.step == before


def test_other_images_than_the_trials_are_refused(tiny: Images, tiny_trial: Trial) -> None:
    with pytest.raises(BadInput, match="changed"):
        Training(replace(tiny_trial, data_sha256="0" * 64), tiny)
