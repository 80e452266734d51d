from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch.distributions import Normal

from rdkit_vae import Trial, evaluate, train
from rdkit_vae.config import seeds
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput
from rdkit_vae.evaluation.evaluate import evaluate_discretized, evaluated_images
from rdkit_vae.models import ARCHITECTURES, VAE
from rdkit_vae.training.state import build_model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_depends_on_the_batch_size(
    architecture: str, tiny: Images, tiny_trial: Trial
) -> None:
    trial = replace(tiny_trial, architecture=architecture)
    model = train(trial, tiny)
    whole = evaluate(model, tiny, trial)
    for size in (1, 3, 7):
        parts = evaluate(model, tiny, trial, batch_size=size)
        for split, expected in whole.items():
            for name in ("kl", "sse", "log_ratio"):
                # float32 in the network leaves a relative error of about 1e-6 in each pixel.
                np.testing.assert_allclose(
                    getattr(parts[split], name), getattr(expected, name), rtol=2e-4, atol=2e-5
                )


def test_every_number_against_a_recomputation(tiny: Images, tiny_trial: Trial) -> None:
    """One image and draw at a time, in float64, with the densities of torch.distributions."""
    module = train(tiny_trial, tiny)
    found = evaluate(module, tiny, tiny_trial)["test"]
    model = cast(VAE, module.double())
    noise = seeds.generator(tiny_trial.seed, "draws", 1).standard_normal((10, 5, 3), np.float32)
    for i in range(10):
        x = torch.from_numpy(tiny.test[i : i + 1] / 255.0)
        mean, log_var = model.encode(x)
        posterior = Normal(mean, (log_var / 2).exp())
        prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
        kl = torch.distributions.kl_divergence(posterior, prior).sum()
        assert found.kl[i] == pytest.approx(kl.item(), rel=1e-4)
        for k in range(5):
            z = mean + posterior.scale * torch.from_numpy(noise[i, k]).double()
            sse = (x - model.decode(z)).square().sum()
            log_ratio = (prior.log_prob(z) - posterior.log_prob(z)).sum()
            assert found.sse[i, k] == pytest.approx(sse.item(), rel=1e-4)
            assert found.log_ratio[i, k] == pytest.approx(log_ratio.item(), abs=1e-4)


def test_the_mean_of_minus_log_ratio_is_the_rate(tiny: Images, tiny_trial: Trial) -> None:
    trial = replace(tiny_trial, draws=2000)
    found = evaluate(train(trial, tiny), tiny, trial)["test"]
    error = -found.log_ratio.mean(axis=1) - found.kl
    standard_error = found.log_ratio.std(axis=1) / np.sqrt(2000)
    assert (np.abs(error) < 5 * standard_error).all()


def test_more_draws_begin_with_the_same_noise_for_the_first_image(
    tiny: Images, tiny_trial: Trial
) -> None:
    model = train(tiny_trial, tiny)
    few = evaluate(model, tiny, tiny_trial)["test"]
    many = evaluate(model, tiny, replace(tiny_trial, draws=9))["test"]
    np.testing.assert_allclose(many.sse[0, :5], few.sse[0], rtol=1e-5)
    assert len(np.unique(many.sse[0])) == 9


def test_as_many_training_images_as_test_images_unless_all(tiny: Images, tiny_trial: Trial) -> None:
    chosen = evaluated_images(tiny, "train", tiny_trial)
    assert (len(chosen), chosen[0], chosen[-1]) == (10, 0, 39)
    assert len(np.unique(chosen)) == 10
    every = replace(tiny_trial, train_images="all")
    assert np.array_equal(evaluated_images(tiny, "train", every), np.arange(40))
    model = train(every, tiny)
    assert evaluate(model, tiny, every)["train"].sse.shape == (40, 5)


def test_a_model_of_other_latents_is_refused(tiny: Images, tiny_trial: Trial) -> None:
    model = train(tiny_trial, tiny)
    with pytest.raises(BadInput, match="the model has 3 latents, not 7"):
        evaluate(model, tiny, replace(tiny_trial, latents=7))


def test_evaluation_leaves_the_model_as_it_was(tiny: Images, tiny_trial: Trial) -> None:
    trial = replace(tiny_trial, architecture="conv")
    model = train(trial, tiny).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, tiny, trial)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_papers_protocol_warps_the_test_split_by_its_seed(
    as_mnist: Images, tiny_trial: Trial
) -> None:
    tiny_trial = replace(tiny_trial, batch_size=10)
    paper = replace(tiny_trial, dataset="mnist", protocol="paper")
    model = train(tiny_trial, as_mnist)
    plain, warped, again = (
        evaluate(model, as_mnist, trial)["test"].sse for trial in (tiny_trial, paper, paper)
    )
    assert np.array_equal(warped, again)
    assert not np.allclose(plain, warped)


def test_a_trained_variance_is_what_the_head_says(tiny: Images, tiny_trial: Trial) -> None:
    trial = replace(tiny_trial, objective="learned-image", epochs=30, checkpoints=(30,))
    module = train(trial, tiny)
    found = evaluate(module, tiny, trial)["test"].own_sigma2
    assert isinstance(found, np.ndarray)
    assert found.shape == (10, 5)
    noise = seeds.generator(trial.seed, "draws", 1).standard_normal((10, 5, 3), np.float32)
    with torch.no_grad():
        mean, log_var = cast(VAE, module).encode(torch.from_numpy(tiny.test / 255.0).float())
        z = mean[:, None] + (log_var / 2).exp()[:, None] * torch.from_numpy(noise)
        expected = module.variance(z.flatten(0, 1)).reshape(10, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert len(np.unique(found)) > 10


def test_one_trained_variance_is_one_number(tiny: Images, tiny_trial: Trial) -> None:
    trial = replace(tiny_trial, objective="learned")
    module = train(trial, tiny)
    found = evaluate(module, tiny, trial)
    sigma2 = module.variance(torch.zeros(1, 3)).item()
    assert found["train"].own_sigma2 == found["test"].own_sigma2 == pytest.approx(sigma2)


def test_a_trained_student_t_is_two_numbers(tiny: Images, tiny_trial: Trial) -> None:
    trial = replace(tiny_trial, objective="student")
    module = train(trial, tiny)
    found = evaluate(module, tiny, trial)
    sigma2, nu = module.variance(torch.zeros(1, 3))[0].tolist()
    for split in ("train", "test"):
        assert (found[split].own_sigma2, found[split].own_nu) == (sigma2, nu)
    assert 0 < nu != 1


def test_pixels_one_by_one(tiny: Images, tiny_trial: Trial) -> None:
    """The mass of every bin by scipy, for the very draws of the evaluation."""
    module = train(tiny_trial, tiny)
    spread = np.random.default_rng(0).uniform(0.01, 0.1, (10, 5))
    found = evaluate_discretized(
        module, tiny, tiny_trial, {"test": {"one": 0.04, "each": spread}, "train": {}}
    )
    assert found["train"] == {}
    noise = seeds.generator(tiny_trial.seed, "draws", 1).standard_normal((10, 5, 3), np.float32)
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
    model = cast(VAE, module.double())
    with torch.no_grad():
        mean, log_var = model.encode(torch.from_numpy(tiny.test / 255.0))
        z = mean[:, None] + (log_var / 2).exp()[:, None] * torch.from_numpy(noise).double()
        decoded = model.decode(z.flatten(0, 1)).reshape(10, 5, 36).numpy()
    pixels = tiny.test.reshape(10, 1, 36)
    for name, sigma2 in (("one", np.full((10, 5), 0.04)), ("each", spread)):
        density = norm(decoded, np.sqrt(sigma2)[..., None])
        mass = density.cdf(edges[pixels + 1]) - density.cdf(edges[pixels])
        np.testing.assert_allclose(found["test"][name], -np.log(mass).sum(axis=2), rtol=1e-4)


def test_bilinearly_warped_images_have_no_grey_levels(as_mnist: Images, tiny_trial: Trial) -> None:
    paper = replace(tiny_trial, dataset="mnist", protocol="paper", batch_size=10)
    model, sigma2 = build_model(paper, as_mnist.shape), {"test": {"half": 0.5}}
    with pytest.raises(BadInput, match="grey levels"):
        evaluate_discretized(model, as_mnist, replace(paper, protocol_revision=2), sigma2)
    assert evaluate_discretized(model, as_mnist, paper, sigma2)["test"]["half"].shape == (10, 5)


@pytest.mark.parametrize(("dataset", "warps"), [("mnist", True), ("npz:tiny", False)])
def test_what_an_older_release_trained_is_evaluated_as_it_was(
    dataset: str, warps: bool, tiny: Images, as_mnist: Images, tiny_trial: Trial
) -> None:
    """Its `paper` warped images of whatever shape, and by the name of their dataset alone."""
    named = replace(tiny_trial, dataset=dataset, protocol="paper").to_dict()
    del named["protocol_revision"]
    old = Trial.from_dict(named)
    for images in (tiny, as_mnist):
        clean = replace(old, protocol="clean")
        model = train(clean, images)
        plain, found = (evaluate(model, images, trial)["test"].sse for trial in (clean, old))
        assert np.array_equal(plain, found) != warps
