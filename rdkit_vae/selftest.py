"""Trains linear VAEs on Gaussian data and compares them with their known optimum.

This tests the whole chain: data, loss, optimiser, posterior samples, evaluation, interpretations.
The optimum of a linear VAE is exact and depends only on the covariance of its training images.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from rdkit_vae.config.grid import make_trial
from rdkit_vae.config.trial import Trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.evaluation.evaluate import evaluate
from rdkit_vae.scoring.scores import score
from rdkit_vae.training.steps import train_pack
from rdvae_analysis.theory import Floats, Optimum, linear_optimum, shared_optimum

TOLERANCE = 0.01
# Objectives with a closed form: the betas to test, and the interpretation to score under.
CLOSED_FORMS = {
    "constant": ((0.006, 0.03, 0.2), "own"),
    "learned": ((0.25, 1.0, 5.0), "own"),
    "optimal-batch": ((0.25, 1.0, 2.0, 5.0), "shared"),
}
NO_CLOSED_FORM = {"optimal": ((0.25, 2.0), "shared")}

_SPECTRUM = (0.05, 0.025, 0.012, 0.006, 0.003, 0.002, 0.001, 0.0008)
_SHAPE, _IMAGES, _LATENTS = (1, 2, 4), 512, 4
_EPOCHS, _LEARNING_RATE, _DRAWS = 2400, 0.1, 200


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number of a trained model and its exact value; `unit` is `nats` or `squared pixel`."""

    name: str
    trained: float
    exact: float
    unit: str

    @property
    def error(self) -> float:
        """Relative to the exact value, or to one nat if that is larger."""
        least = 1.0 if self.unit == "nats" else 0.0
        return (self.trained - self.exact) / max(abs(self.exact), least)


@dataclass(frozen=True, kw_only=True)
class Check:
    """A trained linear VAE against its optimum.

    Attributes:
        objective, beta: the training objective and its weight of the rate.
        has_closed_form: whether the optimum of this objective is known. Otherwise the model is
            compared with the optimum for a shared variance, from which it may differ.
        active: number of latents that the optimum uses.
        quantities: rate, distortion, elbo and s2.
    """

    objective: str
    beta: float
    has_closed_form: bool
    active: int
    quantities: tuple[Quantity, ...]

    @property
    def passed(self) -> bool:
        """Whether every quantity is within the tolerance; always true without a closed form."""
        return not self.has_closed_form or all(abs(q.error) <= TOLERANCE for q in self.quantities)


def gaussian_images() -> tuple[Images, Floats]:
    """512 images of 2x4 Gaussian pixels of 8 bits, and the eigenvalues of their covariance."""
    rng, dims = np.random.default_rng(0), len(_SPECTRUM)
    basis = np.linalg.qr(rng.normal(size=(dims, dims)))[0]
    x = 0.5 + rng.normal(size=(_IMAGES, dims)) * np.sqrt(_SPECTRUM) @ basis.T
    pixels = np.rint(x.clip(0, 1) * 255).astype(np.uint8)
    shaped = pixels.reshape(_IMAGES, *_SHAPE)
    images = Images(name="npz:gaussian", train=shaped, test=shaped[:1], split_rule="made up")
    return images, np.linalg.eigvalsh(np.cov(pixels.T / 255, bias=True))


def selftest() -> Iterator[Check]:
    """Trains and checks every model on one thread, packing the models that can share a pack."""
    images, eigenvalues = gaussian_images()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        objectives = {**CLOSED_FORMS, **NO_CLOSED_FORM}
        trials = [_trial(name, beta) for name, (betas, _) in objectives.items() for beta in betas]
        models: dict[Trial, nn.Module] = {}
        for trial in trials:
            if trial not in models:
                pack = [other for other in trials if other.pack_key == trial.pack_key]
                models.update(zip(pack, train_pack(pack, images), strict=True))
            _, sigma = objectives[trial.objective]
            yield _check(trial, models[trial], images, eigenvalues, sigma)
    finally:
        torch.set_num_threads(threads)


def _trial(objective: str, beta: float) -> Trial:
    # With full batches, `optimal-batch` uses the variance of the whole training set.
    return make_trial(
        "npz:gaussian",
        architecture="linear",
        latents=_LATENTS,
        objective=objective,
        beta=beta,
        epochs=_EPOCHS,
        batch_size=_IMAGES,
        learning_rate=_LEARNING_RATE,
        checkpoints="last",
        draws=_DRAWS,
        train_images="all",
    )


def _check(
    trial: Trial, model: nn.Module, images: Images, eigenvalues: Floats, sigma: str
) -> Check:
    statistics = {"train": evaluate(model, images, trial)["train"]}
    scored = score(statistics, trial, sigmas=[sigma])[0]
    exact = _optimum(trial, eigenvalues)
    pairs = {
        "rate": (scored.rate, exact.rate, "nats"),
        "distortion": (scored.distortion, exact.distortion, "nats"),
        "elbo": (scored.elbo, exact.elbo, "nats"),
        # With a constant variance there is no s2 to fit, so mse is checked instead.
        "s2": (scored.mse, exact.sse / images.dims, "squared pixel"),
    }
    if trial.train_sigma2 is None:
        pairs["s2"] = (scored.sigma2, exact.sigma2, "squared pixel")
    return Check(
        objective=trial.objective,
        beta=trial.beta,
        has_closed_form=trial.objective in CLOSED_FORMS,
        active=exact.active,
        quantities=tuple(
            Quantity(name=name, trained=a, exact=b, unit=unit)
            for name, (a, b, unit) in pairs.items()
        ),
    )


def _optimum(trial: Trial, eigenvalues: Floats) -> Optimum:
    if trial.train_sigma2 is None:
        return shared_optimum(eigenvalues, latents=trial.latents, beta=trial.beta)
    return linear_optimum(
        eigenvalues, latents=trial.latents, beta=trial.beta, sigma2=trial.train_sigma2
    )
