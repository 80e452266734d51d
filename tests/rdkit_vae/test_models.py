import math
import os
import subprocess
import sys
from dataclasses import replace
from typing import cast

import pytest
import torch
import torch.nn.functional as F

from rdkit_vae import make_trial
from rdkit_vae.models import ARCHITECTURES, VAE, Shape
from rdkit_vae.training.state import build_model

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
    assert [conv.kernel_size for conv in stages].count((3, 3)) == len(widths)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("sides", [(8, 8), (7, 7), (6, 9), (1, 5)])
def test_the_shortcut_of_conv_is_a_convolution_of_stride_2(
    channels: int, sides: tuple[int, int]
) -> None:
    """In its values and in all its gradients, whichever way it takes to them."""
    model = ARCHITECTURES["conv"].build((channels, 8, 8), 4).double()
    shortcut = model.get_submodule("encoder.0.0.shortcut.0")
    weight, bias = shortcut.get_parameter("weight"), shortcut.get_parameter("bias")
    x = torch.rand(5, channels, *sides, dtype=torch.float64, requires_grad=True)
    ours, expected = shortcut(x), F.conv2d(x, weight, bias, stride=2)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    weights = torch.rand_like(expected)
    for found, wanted in zip(
        *(torch.autograd.grad((y * weights).sum(), [x, weight, bias]) for y in (ours, expected)),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_weights_have_the_same_names_on_any_number_of_channels() -> None:
    """`strict` loading of what was trained before depends on it."""
    states = [ARCHITECTURES["conv"].build((c, 8, 8), 4).state_dict() for c in (1, 2, 3, 8)]
    assert len({tuple(state) for state in states}) == 1
    shapes = [state["encoder.0.0.shortcut.0.weight"].shape for state in states]
    assert shapes == [(32, c, 1, 1) for c in (1, 2, 3, 8)]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64)])
def test_under_paper_conv_ends_as_a_transposed_convolution_starts(shape: Shape) -> None:
    """Against the very layer; all else, and all of `clean`, starts as it did."""
    clean, paper = (make_trial("mnist", protocol=name) for name in ("clean", "paper"))
    ours: dict[str, list[float]] = {"weight": [], "bias": []}
    theirs: dict[str, list[float]] = {"weight": [], "bias": []}
    for seed in range(12):
        plain = build_model(replace(clean, seed=seed), shape).state_dict()
        found = build_model(replace(paper, seed=seed), shape).state_dict()
        last = [name for name in plain if not torch.equal(plain[name], found[name])]
        assert [plain[name].shape for name in last] == [(shape[0], 32, 3, 3), (shape[0],)]
        reference = torch.nn.ConvTranspose2d(32, shape[0], 3, padding=1)
        for name, kind in zip(last, ours, strict=True):
            ours[kind].append(found[name].abs().max().item())
            theirs[kind].append(reference.get_parameter(kind).abs().max().item())
            wider = math.sqrt(32 / shape[0])
            torch.testing.assert_close(found[name], wider * plain[name], rtol=1e-6, atol=0)
    bound = 1 / math.sqrt(9 * shape[0])  # of all that are drawn, uniform weights reach it
    assert max(ours["weight"]) == pytest.approx(bound, rel=0.005)
    assert max(theirs["weight"]) == pytest.approx(bound, rel=0.005)
    for values in (ours["bias"], theirs["bias"]):
        assert 0.6 * bound < max(values) <= bound * (1 + 1e-6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_an_older_release_began_under_paper_starts_as_it_did(name: str) -> None:
    clean = make_trial("mnist", architecture=name)
    old = replace(clean, protocol="paper", protocol_revision=1)
    states = [build_model(trial, (1, 28, 28)).state_dict() for trial in (clean, old)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


SIDES = ["8x8", "7x7", "6x9"]
TRAINING = """
import sys, faulthandler
import numpy as np
from rdkit_vae import make_trial, train
from rdkit_vae.datasets.images import Images

faulthandler.enable()
for text in sys.argv[2:]:
    print("at", text, flush=True)
    shape = tuple(map(int, text.split("x")))
    rng = np.random.default_rng(0)
    pixels = np.ones((32, *shape)) * rng.integers(256, size=(32, 1, 1, 1))
    pixels = pixels.astype(np.uint8)
    images = Images(name="npz:x", train=pixels[:24], test=pixels[24:], split_rule="")
    settings = dict(objective="constant", beta=0.01, epochs=4, batch_size=8, learning_rate=0.02)
    trial = make_trial("npz:x", architecture=sys.argv[1], latents=3, **settings)
    losses = []
    train(trial, images, on_epoch=lambda training: losses.append(training.loss))
    assert np.isfinite(losses).all() and losses[-1] < losses[0], losses
print("done")
"""


@pytest.mark.parametrize("isa", ["DEFAULT", "AVX2"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_training_survives_every_shape_of_image(name: str, isa: str) -> None:
    """Without AVX-512, oneDNN has kernels that wrote out of bounds: processes crashed or hung."""
    shapes = [f"{channels}x{sides}" for channels in (1, 2, 3, 4) for sides in SIDES]
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, name, *shapes],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": isa, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    last = done.stdout.splitlines()[-1:]
    assert (done.returncode, last) == (0, ["done"]), f"{name} {last}: {done.stderr}"


def test_the_linear_posterior_variance_is_the_same_for_every_image() -> None:
    model = cast(VAE, ARCHITECTURES["linear"].build((1, 4, 4), 3))
    _, log_var = model.encode(torch.rand(5, 1, 4, 4))
    assert torch.equal(log_var, log_var[:1].expand(5, 3))
