from typing import cast

import pytest
import torch

from rdkit_vae import make_trial
from rdkit_vae.models import ARCHITECTURES, VAE, Shape
from rdkit_vae.training import build_model

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 64, 64), (2, 5, 9)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_shapes_and_that_every_weight_is_used(name: str, shape: Shape) -> None:
    module = ARCHITECTURES[name].build(shape, 7)
    model = cast(VAE, module)
    x = torch.rand(4, *shape)
    mean, log_var = model.encode(x)
    decoded = model.decode(mean + log_var.exp())
    assert mean.shape == log_var.shape == (4, 7)
    assert decoded.shape == x.shape
    (decoded - x).square().sum().backward()
    for parameter_name, parameter in module.named_parameters():
        assert parameter.grad is not None, parameter_name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_initial_weights_are_those_of_the_seed(name: str) -> None:
    trials = [make_trial(architecture=name, seed=seed) for seed in (0, 0, 1)]
    states = [build_model(trial, (1, 8, 8)).state_dict() for trial in trials]
    weights = [torch.cat([v.double().flatten() for v in state.values()]) for state in states]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("shape", "widths"),
    [
        ((1, 8, 8), [32, 64]),
        ((1, 28, 28), [32, 64, 128]),
        ((3, 64, 64), [32, 64, 128, 256]),
        ((3, 128, 128), [32, 64, 128, 256, 256]),
    ],
)
def test_conv_grows_with_the_image(shape: Shape, widths: list[int]) -> None:
    model = ARCHITECTURES["conv"].build(shape, 8)
    stages = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.stride == (2, 2)]
    assert sorted({conv.out_channels for conv in stages}) == sorted(set(widths))
    # Each stage halves the image twice over: in its body and in its shortcut.
    assert len(stages) == 2 * len(widths)


def test_the_linear_posterior_variance_is_the_same_for_every_image() -> None:
    model = cast(VAE, ARCHITECTURES["linear"].build((1, 4, 4), 3))
    _, log_var = model.encode(torch.rand(5, 1, 4, 4))
    assert torch.equal(log_var, log_var[:1].expand(5, 3))
