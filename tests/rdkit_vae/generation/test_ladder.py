"""The ladder of priors: ground truth on a linear model, what a rung may see, degenerate cases."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

from rdkit_vae import load_dataset, make_trial, train
from rdkit_vae.config import seeds
from rdkit_vae.datasets.images import Images
from rdkit_vae.evaluation.evaluate import evaluate
from rdkit_vae.generation.ladder import COLLAPSED, Encoded, Ladder, encode_split, ladder_of
from rdkit_vae.scoring.cross_entropy import Gaussian, Posteriors, fit_gaussian
from rdkit_vae.scoring.priors import PRIORS

ABOVE_GAUSSIAN = ("mixture", "vamp", "two-stage")


@pytest.fixture(scope="module")
def gaussian() -> Images:
    return load_dataset("gaussian")


@pytest.fixture(scope="module")
def linear(gaussian: Images) -> Ladder:
    """A trained linear VAE of Gaussian data, whose aggregate posterior is Gaussian."""
    trial = make_trial(
        "gaussian",
        architecture="linear",
        objective="constant",
        beta=2e-4,
        learning_rate=0.01,
        epochs=12,
    )
    return ladder_of(train(trial, gaussian), gaussian, trial)


def rates_of(ladder: Ladder, test: Posteriors, names: "list[str] | None" = None) -> dict:
    return dict(ladder.rates(ladder.fit(names or list(PRIORS)), test))


def test_one_gaussian_is_exact_where_the_aggregate_posterior_is_gaussian(
    linear: Ladder, gaussian: Images
) -> None:
    """Its rate is the information I(x; z) = (log det(W S W' + V) - log det V)/2 of the channel."""
    test = encode_split(linear.model, gaussian, "test", linear.subject, "cpu").posteriors
    rates = rates_of(linear, test)
    everything = np.concatenate([linear.train.posteriors.mean, test.mean])
    variance = test.variance[0]
    aggregate = np.cov(everything.T) + np.diag(variance)
    information = (np.linalg.slogdet(aggregate)[1] - np.log(variance).sum()) / 2
    exact = rates["gaussian"]
    assert exact["rate"] == pytest.approx(information, abs=4 * exact["rate_se"])
    for name in ABOVE_GAUSSIAN:
        assert rates[name]["rate"] > exact["rate"] - 2 * exact["rate_se"], name
    assert rates["standard"]["rate"] > exact["rate"] > 0.5
    assert rates["two-stage"]["is_bound"]
    assert rates["two-stage"]["rate"] < exact["rate"] + 0.2


def test_the_lowest_rung_is_the_rate_of_the_results(linear: Ladder, gaussian: Images) -> None:
    test = encode_split(linear.model, gaussian, "test", linear.subject, "cpu").posteriors
    stored = evaluate(linear.model, gaussian, linear.subject)["test"].kl
    assert rates_of(linear, test, ["standard"])["standard"]["rate"] == pytest.approx(stored.mean())


def two_clusters(n: int, seed: int) -> Posteriors:
    """Posteriors in two tight groups, which no Gaussian describes."""
    rng = np.random.default_rng(seed)
    centres = np.where(rng.random((n, 1)) < 0.5, -3.0, 3.0)
    return Posteriors(centres + 0.1 * rng.standard_normal((n, 2)), np.full((n, 2), 0.01))


class Pixels(nn.Module):
    """Images of two values, whose posteriors are those values times 8, minus 4."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return 8 * x.flatten(1) - 4, torch.full((len(x), 2), np.log(0.01))

    def decode(self, z: Tensor) -> Tensor:
        return ((z + 4) / 8).reshape(-1, 1, 1, 2)


def clustered(n: int = 1000, seed: int = 1) -> Ladder:
    train = two_clusters(n, seed)
    x = torch.from_numpy((train.mean + 4) / 8).float().reshape(-1, 1, 1, 2)
    trial = make_trial("digits", latents=2, architecture="mlp")
    return Ladder(model=Pixels(), subject=trial, train=Encoded(posteriors=train, x=x))


def test_a_mixture_finds_clusters_that_a_gaussian_cannot() -> None:
    """Two clusters of equal weight cost log 2 and what the spread within one costs."""
    test = two_clusters(500, 2)
    rates = rates_of(clustered(), test)
    expected = np.log(2) + 2 * 0.5 * np.log((0.01 + 0.01) / 0.01)
    assert rates["mixture"]["rate"] == pytest.approx(expected, abs=0.1)
    assert rates["vamp"]["rate"] < rates["gaussian"]["rate"] - 1
    assert rates["two-stage"]["rate"] < rates["gaussian"]["rate"]


@pytest.mark.parametrize("name", PRIORS)
def test_samples_have_the_density_of_their_prior(name: str) -> None:
    """Moments of samples, and the mean of 1/density over them, which is the volume it covers."""
    prior = clustered().fit([name])[name]
    rng = np.random.default_rng(0)
    z = prior.sample(20_000, rng)
    assert z.shape == (20_000, 2)
    low, high = z.min(axis=0), z.max(axis=0)
    points = low + (high - low) * rng.random((20_000, 2))
    mass = np.exp(prior.log_density(points, rng)) * np.prod(high - low)
    if prior.is_bound:
        assert mass.mean() < 1.1
    else:
        assert mass.mean() == pytest.approx(1, abs=0.15)


def test_fits_do_not_depend_on_other_rungs_or_on_the_test_images() -> None:
    ladder, test = clustered(), two_clusters(200, 3)
    together = ladder.fit(list(PRIORS))
    rates = dict(ladder.rates(together, test))
    z = test.mean
    for name in PRIORS:
        alone = ladder.fit([name])
        density = alone[name].log_density(z, np.random.default_rng(0))
        again = together[name].log_density(z, np.random.default_rng(0))
        assert_allclose(density, again, err_msg=name)
        (_, first), (_, rest) = (*ladder.rates(alone, test[:100]), *ladder.rates(alone, test[100:]))
        both = (first["rate"] + rest["rate"]) / 2
        assert rates[name]["rate"] == pytest.approx(both, abs=0.05), name


def test_folds_tell_a_rung_that_memorises() -> None:
    """Noise in 12 dimensions: what is gained on the posteriors fitted to is lost on others."""
    rng = np.random.default_rng(0)
    noise = Posteriors(rng.standard_normal((150, 12)), np.full((150, 12), 0.05))
    trial = make_trial("digits", latents=12, architecture="mlp")
    ladder = Ladder(
        model=Pixels(),
        subject=trial,
        train=Encoded(posteriors=noise, x=torch.zeros(150, 1, 1, 1)),
    )
    names = ["per-latent", "gaussian", "mixture"]
    held_out = ladder.held_out(names, 5)
    fitted = {name: row["rate_fitted"] for name, row in rates_of(ladder, noise, names).items()}
    for name in names:
        assert held_out[name] > fitted[name], name
    assert held_out["gaussian"] - fitted["gaussian"] > held_out["per-latent"] - fitted["per-latent"]


def test_the_held_out_rate_is_that_of_the_parts_left_out() -> None:
    ladder = clustered(n=60)
    some, place = ladder.train.posteriors, np.arange(60) % 3
    by_hand = [fit_gaussian(some[place != f]).rate(some[place == f]) for f in range(3)]
    assert ladder.held_out(["gaussian"], 3)["gaussian"] == pytest.approx(
        np.concatenate(by_hand).mean()
    )


def test_collapsed_latents_are_told() -> None:
    nothing = Posteriors(np.full((50, 2), 1e-3), np.ones((50, 2)))
    ladder = clustered()
    ladder = Ladder(
        model=ladder.model,
        subject=ladder.subject,
        train=Encoded(posteriors=nothing, x=ladder.train.x[:50]),
    )
    for name, row in rates_of(ladder, nothing).items():
        if name == "vamp":  # whose encoder here is another one
            continue
        assert COLLAPSED in row["note"], name
        assert_allclose(row["rate"], 0, atol=0.05)


def test_a_gaussian_of_too_few_posteriors_says_so() -> None:
    few = Posteriors(np.random.default_rng(0).standard_normal((3, 5)), np.ones((3, 5)))
    assert "badly determined" in fit_gaussian(few).note
    assert isinstance(fit_gaussian(few), Gaussian)


def test_random_streams_are_separate() -> None:
    """No draw of a prior is one of another stream with the same seed."""
    streams = [seeds.generator(0, name).random() for name in seeds.STREAMS]
    assert len(set(streams)) == len(streams)
