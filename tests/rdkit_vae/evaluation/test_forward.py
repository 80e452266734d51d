"""Whatever runs a model leaves it as it was, and refuses outputs that are not what images need."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rdkit_vae import Trial, evaluate
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput, NotFinite
from rdkit_vae.evaluation.evaluate import evaluate_discretized
from rdkit_vae.evaluation.pictures import sample
from rdkit_vae.models.variance import ImageVariance

PASSES: dict[str, Callable[[nn.Module, Images, Trial], Any]] = {
    "evaluate": evaluate,
    "evaluate_discretized": lambda model, images, trial: evaluate_discretized(
        model, images, trial, {"test": {"half": 0.5}}
    ),
    "sample": lambda model, images, trial: sample(
        model, images, latents=trial.latents, n_images=4, n_prior=3
    ),
}


class Constant(nn.Module):
    """Encodes to given numbers, and decodes to a given shape, the first image to a given number."""

    def __init__(
        self,
        shape: tuple[int, ...] = (3, 6, 6),
        *,
        decoded: float = 0.5,
        mean: float = 0.0,
        log_var: float = 0.0,
        columns: int = 3,
    ) -> None:
        super().__init__()
        self.shape, self.decoded, self.mean, self.log_var = shape, decoded, mean, log_var
        self.columns = columns
        self.norm = nn.BatchNorm1d(3)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.zeros(len(x), 3)
        mean[-1, 0] = self.mean
        return mean, torch.full((len(x), self.columns), self.log_var)

    def decode(self, z: Tensor) -> Tensor:
        decoded = torch.full((len(z), *self.shape), 0.5)
        decoded[0] = self.decoded
        return decoded


@pytest.fixture
def colour() -> Images:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3, 6, 6), np.uint8)
    return Images(name="npz:tiny", train=pixels[:40], test=pixels[40:], split_rule="by hand")


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("fails", [False, True])
def test_every_part_keeps_its_mode(
    name: str, fails: bool, colour: Images, tiny_trial: Trial
) -> None:
    model = Constant(decoded=float("nan") if fails else 0.5)
    model.train()
    model.norm.eval()  # as where a part is frozen
    if fails:
        with pytest.raises(NotFinite):
            PASSES[name](model, colour, tiny_trial)
    else:
        PASSES[name](model, colour, tiny_trial)
    assert model.training
    assert not model.norm.training


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("shape", [(1, 6, 6), (108,), (3, 6, 7), (3, 1, 1), ()])
def test_an_output_that_is_no_image_is_refused(
    name: str, shape: tuple[int, ...], colour: Images, tiny_trial: Trial
) -> None:
    """Most of these would be broadcast to the images, and give a number."""
    n = 4 if name == "sample" else 10 * tiny_trial.draws
    if name == "evaluate":
        colour = replace(colour, train=colour.train[:10], sha256="")
    with pytest.raises(BadInput) as raised:
        PASSES[name](Constant(shape), colour, tiny_trial)
    assert not isinstance(raised.value, NotFinite)
    assert f"has the shape {(n, *shape)}, not {(n, 3, 6, 6)}" in str(raised.value)
    assert "images of 3x6x6" in str(raised.value)


@pytest.mark.parametrize("name", PASSES)
def test_a_log_variance_of_another_shape_is_refused(
    name: str, colour: Images, tiny_trial: Trial
) -> None:
    with pytest.raises(BadInput, match=r"encoder's log_var has the shape \(\d+, 1\), not \(\d+, 3"):
        PASSES[name](Constant(columns=1), colour, tiny_trial)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"mean": float("nan")}, r"the encoder's mean is not finite: nan in 1 of \d+ numbers"),
        (
            {"log_var": float("-inf")},
            r"the encoder's log_var is not finite: -inf in (\d+) of \1 numbers",
        ),
        ({"log_var": 500.0}, "the latent that is drawn is not finite: -?inf in"),
        (
            {"decoded": float("inf")},
            r"the decoder's output is not finite: inf in 108 of \d+ numbers",
        ),
    ],
)
def test_numbers_that_are_not_finite_are_named(
    name: str, numbers: dict[str, float], words: str, colour: Images, tiny_trial: Trial
) -> None:
    with pytest.raises(NotFinite, match=words):
        PASSES[name](Constant(**numbers), colour, tiny_trial)  # type: ignore[arg-type]


def test_a_variance_that_is_not_finite_is_named(colour: Images, tiny_trial: Trial) -> None:
    model, trial = Constant(), replace(tiny_trial, objective="learned-image")
    model.variance = ImageVariance(trial.latents, trial.sigma2_floor)
    torch.nn.init.constant_(model.variance.head[-1].bias, float("nan"))
    with pytest.raises(
        NotFinite, match="own_sigma2 of the train split is not finite: nan in 50 of"
    ):
        evaluate(model, colour, trial)
