"""The weight of the KL, read back from weights whose optimum is known."""

import gzip
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import rdkit_vae as rdv
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput
from rdkit_vae.evaluation.implied import RECONSTRUCTIONS, ImpliedWeight, implied_weight
from rdkit_vae.models.linear import LinearVAE
from rdkit_vae.models.variance import ImageVariance, StudentScale

from ...conftest import Run

ROOT = Path(__file__).parents[3]
ZOO = ROOT.parent / "shared" / "data" / "zoo"
MNIST = ROOT.parent / "shared" / "data" / "train-images-idx3-ubyte.gz"
LATENTS, COUNT = 4, 40_000


@pytest.fixture(scope="module")
def gaussian() -> Images:
    """Images of correlated Gaussian pixels."""
    rng = np.random.default_rng(0)
    scales = np.sqrt([0.03, 0.012, 0.006, 0.003, 0.001, 0.0005])
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    x = 0.5 + rng.normal(size=(COUNT, 6)) * scales @ basis.T
    pixels = np.rint(x.clip(0, 1) * 255).astype(np.uint8).reshape(-1, 1, 2, 3)
    return Images(name="npz:made", train=pixels, test=pixels[:1], split_rule="made up")


def _optimum(images: Images, tau: float) -> LinearVAE:
    """The linear VAE at its optimum for beta x s2 = tau: posterior variances are tau/eigenvalue."""
    x = images.train.reshape(len(images.train), -1) / 255
    eigenvalues, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    eigenvalues, vectors = eigenvalues[::-1][:LATENTS], vectors[:, ::-1][:, :LATENTS]
    kept = np.maximum(eigenvalues - tau, 0)
    scales = np.sqrt(kept)  # of the decoder's columns
    variances = np.where(kept > 0, tau / eigenvalues, 1.0)
    model, mean = LinearVAE((1, 2, 3), LATENTS), x.mean(axis=0) - 0.5
    decoder = vectors * scales
    encoder = (scales / eigenvalues)[:, None] * vectors.T
    with torch.no_grad():
        model.decoder.weight.copy_(torch.from_numpy(decoder))
        model.decoder.bias.copy_(torch.from_numpy(mean))
        model.encoder.weight.copy_(torch.from_numpy(encoder))
        model.encoder.bias.copy_(torch.from_numpy(-encoder @ mean))
        model.log_var.copy_(torch.from_numpy(np.log(variances)))
    return model


def _trial(objective: str, **settings: object) -> rdv.Trial:
    return rdv.make_trial(
        "npz:made",
        architecture="linear",
        latents=LATENTS,
        objective=objective,
        train_images="all",
        **settings,
    )


@pytest.mark.parametrize("tau", [0.0004, 0.0016, 0.004])
def test_the_optimum_of_a_linear_vae_says_its_weight(gaussian: Images, tau: float) -> None:
    weight = implied_weight(_optimum(gaussian, tau), gaussian, _trial("constant"))
    assert weight.tau == pytest.approx(tau, rel=0.01)
    assert weight.beta == pytest.approx(tau / 0.5, rel=0.01)
    assert weight.beta_at_half == pytest.approx(weight.beta)
    assert weight.converged
    eigenvalues = np.linalg.eigvalsh(np.cov(gaussian.train.reshape(COUNT, -1).T / 255, bias=True))
    assert np.isfinite(weight.per_latent).sum() == (eigenvalues > tau).sum().clip(max=LATENTS)


@pytest.mark.parametrize("objective", ["learned", "optimal-batch"])
def test_a_fitted_variance_turns_it_into_beta(gaussian: Images, objective: str) -> None:
    tau = 0.0016
    weight = implied_weight(_optimum(gaussian, tau), gaussian, _trial(objective))
    x = gaussian.train.reshape(COUNT, -1) / 255
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    kept = np.where(np.arange(6) < LATENTS, np.maximum(eigenvalues - tau, 0), 0)
    # What is not coded, and tau for each latent in use: E[sse] = sum over what is lost.
    sse = (eigenvalues - kept).sum()
    assert weight.tau == pytest.approx(tau, rel=0.01)
    assert weight.beta == pytest.approx(tau / (sse / 6), rel=0.02)


def test_of_a_student_t_each_image_counts_by_its_own_variance(gaussian: Images) -> None:
    """A Gaussian optimum that gets a Student t of very large nu is the optimum of that too."""
    tau, s2 = 0.0016, 0.004
    model = _optimum(gaussian, tau)
    model.variance = StudentScale(LATENTS, 0.0)
    with torch.no_grad():
        model.variance.scaled_log.fill_(math.log(s2) / 10)
        model.variance.scaled_log_nu.fill_(math.log(1e6) / 10)
    weight = implied_weight(model, gaussian, _trial("student"))
    assert weight.beta * s2 == pytest.approx(tau, rel=0.02)
    assert weight.converged


def test_of_a_variance_that_depends_on_z_its_own_gradient_counts(gaussian: Images) -> None:
    """s2(z) = exp(a + c z3), where the images do not use z3, so that E[1/s2] = exp(c^2/2 - a).

    The other latents are at the optimum of beta E[1/s2]^-1, and E[s2] = exp(c^2/2 + a).
    """
    tau, a, c = 0.004, math.log(0.003), 0.5

    class Exponential(ImageVariance):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return (a + c * z[..., 3]).exp()

    model = _optimum(gaussian, tau)
    model.variance = Exponential(LATENTS, 0.0)
    weight = implied_weight(model, gaussian, _trial("learned-image"))
    assert np.isfinite(weight.per_latent).tolist() == [True, True, True, False]
    assert weight.beta == pytest.approx(tau * math.exp(c**2 / 2 - a), rel=0.02)
    assert weight.tau == pytest.approx(tau * math.exp(c**2), rel=0.02)
    assert weight.converged


def test_weights_that_are_no_optimum_are_said_to_be_none(gaussian: Images) -> None:
    model = _optimum(gaussian, 0.0004)
    with torch.no_grad():
        model.log_var += torch.tensor([0.6, 0.0, -0.6, 0.0])
    weight = implied_weight(model, gaussian, _trial("constant"))
    assert not weight.converged
    assert weight.chi2 > 100 * weight.degrees


def test_its_errors_are_those_over_images(gaussian: Images) -> None:
    """Parts of the images, with noise of their own, scatter by what the standard error says."""
    model = _optimum(gaussian, 0.0016)
    whole = implied_weight(model, gaussian, _trial("constant"))
    parts = []
    for seed, part in enumerate(np.split(gaussian.train, 20)):
        images = Images(name="npz:made", train=part, test=part[:1], split_rule="made up")
        parts.append(implied_weight(model, images, _trial("constant", seed=seed)))
    scatter = np.std([part.tau for part in parts], ddof=1)
    claimed = np.mean([part.standard_error for part in parts])
    assert 0.6 < scatter / claimed < 1.6
    # Of a linear decoder only the noise counts: a pair for each image, or five for each of a part.
    assert whole.standard_error == pytest.approx(claimed / math.sqrt(20 / 5), rel=0.2)


def test_one_latent_agrees_with_nobody(gaussian: Images) -> None:
    weight = implied_weight(_optimum(gaussian, 0.014), gaussian, _trial("constant"))
    assert np.isfinite(weight.per_latent).sum() == 1
    assert weight.tau == pytest.approx(0.014, rel=0.03)
    assert not weight.converged


def test_a_model_that_has_just_begun_is_not_taken_for_one_that_converged(
    main: Run, tmp_path: Path
) -> None:
    asked = {"architecture": "mlp", "objectives": ["constant"], "betas": [0.1], "latents": 8}
    rdv.sweep(**asked, epochs=3, draws=1, jobs=1, checkpoints="last", out=tmp_path / "runs")
    (path,) = tmp_path.glob("runs/checkpoints/*/epoch=00003.pt")
    done = main("describe", "--implied-weight", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "had not converged" in done.stdout or "only one latent" in done.stdout


def test_nothing_is_said_where_no_latent_is_active(gaussian: Images) -> None:
    weight = implied_weight(_optimum(gaussian, 0.1), gaussian, _trial("constant"))
    assert math.isnan(weight.tau)
    assert np.isnan(weight.per_latent).all()
    assert not weight.converged


@pytest.mark.parametrize("objective", ["constant", "optimal"])
@pytest.mark.parametrize("beta", ["0.1", "1"])
def test_trained_models_say_what_they_were_trained_with(objective: str, beta: str) -> None:
    (path,) = ROOT.glob(f"runs/example/checkpoints/*-{objective}-beta={beta}-*/epoch=00200.pt")
    weight: ImpliedWeight = rdv.implied_weight(path)
    assert weight.beta == pytest.approx(float(beta), rel=0.05)
    assert weight.converged


def test_describe_reports_it(main: Run) -> None:
    shown = {}
    for beta in ("0.1", "1000"):
        (path,) = ROOT.glob(f"runs/example/checkpoints/*-constant-beta={beta}-*/epoch=00200.pt")
        done = main("describe", "--implied-weight", path, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        shown[beta] = done.stdout
    (value,) = re.findall(r"beta = ([\d.]+) with the training variance", shown["0.1"])
    assert float(value) == pytest.approx(0.1, rel=0.05)
    assert "latents agree within their errors" in shown["0.1"]
    assert "not the beta of the trial" not in shown["0.1"]
    assert "cannot be read: no latent is active" in shown["1000"]


def test_models_keep_their_mode_and_bad_input_is_refused(gaussian: Images) -> None:
    model = _optimum(gaussian, 0.0016).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    implied_weight(model, gaussian, _trial("constant"))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    with pytest.raises(BadInput, match="needs the images"):
        implied_weight(model)
    with pytest.raises(BadInput, match=r"unknown reconstruction 'mse'.*sse, bce, l1"):
        implied_weight(model, gaussian, _trial("constant"), reconstruction="mse")


def test_a_loss_of_ones_own_is_taken_as_it_is(gaussian: Images) -> None:
    """Half the squared error over C is a loss without a scale, whose weight is beta."""
    model, trial = _optimum(gaussian, 0.0016), _trial("constant")
    squared = implied_weight(model, gaussian, trial)
    own = implied_weight(
        model,
        gaussian,
        trial,
        reconstruction=lambda x, y: RECONSTRUCTIONS["sse"](x, y) / 0.02,
    )
    assert own.beta == pytest.approx(squared.tau / 0.02)


class Burgess(nn.Module):
    """The network of Burgess et al. 2018, with the names of the two models' weights."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Module(), nn.Module()
        for i, channels in enumerate((1, 32, 32), start=1):
            self.encoder.add_module(f"conv{i}", nn.Conv2d(channels, 32, 4, 2, 1))
            self.decoder.add_module(
                f"convT{i}", nn.ConvTranspose2d(32, 1 if i == 3 else 32, 4, 2, 1)
            )
        for i, (a, b) in enumerate(((512, 256), (256, 256)), start=1):
            self.encoder.add_module(f"lin{i}", nn.Linear(a, b))
        for i, (a, b) in enumerate(((10, 256), (256, 256), (256, 512)), start=1):
            self.decoder.add_module(f"lin{i}", nn.Linear(a, b))
        self.encoder.mu_logvar_gen = nn.Linear(256, 20)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for name in ("conv1", "conv2", "conv3"):
            x = F.relu(self.encoder.get_submodule(name)(x))
        x = x.flatten(1)
        for name in ("lin1", "lin2"):
            x = F.relu(self.encoder.get_submodule(name)(x))
        mean, log_var = self.encoder.mu_logvar_gen(x).view(-1, 10, 2).unbind(2)
        return mean, log_var

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        for name in ("lin1", "lin2", "lin3"):
            z = F.relu(self.decoder.get_submodule(name)(z))
        z = z.view(-1, 32, 4, 4)
        for name in ("convT1", "convT2"):
            z = F.relu(self.decoder.get_submodule(name)(z))
        return self.decoder.convT3(z).sigmoid()


@pytest.mark.skipif(not ZOO.exists(), reason="the models are not there")
@pytest.mark.parametrize(("name", "beta"), [("VAE_mnist", 1.04), ("betaH_mnist", 4.13)])
def test_models_of_others_say_what_they_were_trained_with(name: str, beta: float) -> None:
    """Cross-entropy of MNIST at 32x32; their authors' weights are 1 and 4, what is known of them
    from another program is 1.04 and 4.13."""
    raw = np.frombuffer(gzip.decompress(MNIST.read_bytes()), np.uint8, offset=16)
    x = torch.from_numpy(raw.reshape(-1, 1, 28, 28)[:500].astype(np.float32)) / 255
    x = F.interpolate(x, size=(32, 32), mode="bilinear")
    pixels = (x * 255).round().to(torch.uint8).numpy()
    images = Images(name="npz:mnist", train=pixels, test=pixels[:1], split_rule="resized")
    model = Burgess()
    model.load_state_dict(torch.load(ZOO / name / "model.pt", weights_only=True))
    trial = rdv.make_trial("npz:mnist", architecture="mlp", latents=10, train_images="all")
    weight = implied_weight(model, images, trial, reconstruction="bce")
    assert weight.beta == pytest.approx(beta, rel=0.03)


def test_pixels_and_latents_of_another_form_imply_the_same_weight(gaussian: Images) -> None:
    """Of the same optimum, with pixels in [-1, 1] and its latents as channels of 1x1 maps."""
    model = _optimum(gaussian, 0.0016)
    known = implied_weight(model, gaussian, _trial("constant"))
    maps = rdv.adapt(
        model,
        encode=lambda y: [part[:, :, None, None] for part in model.encode((y + 1) / 2)],
        decode=lambda z: 2 * model.decode(z.flatten(1)) - 1,
        pixel_range=(-1, 1),
    )
    images = replace(gaussian, test=gaussian.train)  # as many of either as there are of the other
    other = implied_weight(maps, images)
    assert other.tau == pytest.approx(known.tau, rel=1e-4)
    assert math.isnan(other.beta)  # nobody told its variance


def test_positions_of_a_channel_are_pooled(gaussian: Images) -> None:
    """Slopes and slacks of a channel add up, so one channel of all latents gives the pooled tau."""
    model = _optimum(gaussian, 0.0004)
    apart = implied_weight(model, gaussian, _trial("constant"))
    one = rdv.adapt(
        model,
        encode=lambda x: [part.view(-1, 1, 2, 2) for part in model.encode(x)],
        decode=lambda z: model.decode(z.flatten(1)),
    )
    pooled = implied_weight(one, gaussian, _trial("constant"))
    assert pooled.per_latent.shape == (1,)
    assert pooled.tau == pytest.approx(apart.tau, rel=1e-6)
    assert pooled.degrees == 0
