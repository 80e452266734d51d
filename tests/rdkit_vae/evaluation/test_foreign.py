"""Models from elsewhere: their numbers are those of the same network in rdvae's own form."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

import rdkit_vae as rdv
from rdkit_vae.adapters import Loaded
from rdkit_vae.config.foreign import ForeignModel, units_of
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData, BadInput, NotFinite
from rdkit_vae.evaluation.foreign import (
    evaluate_prepared,
    hash_of_weights,
    prepared,
)
from rdkit_vae.models.adapted import adapt
from rdkit_vae.scoring.statistics import Statistics
from rdkit_vae.store.evaluations import Evaluation, read_evaluation
from rdkit_vae.store.paths import Sweep
from rdkit_vae.sweeps.verify import verify

from ...conftest import Run

SHAPE, LATENTS = (3, 6, 6), 8
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.5)


@pytest.fixture
def colour() -> Images:
    return _ramps()


def _ramps() -> Images:
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, 108).reshape(1, 3, 6, 6) * rng.uniform(0.2, 1, (60, 1, 1, 1))
    pixels = np.rint(ramp + rng.integers(0, 40, (60, 3, 6, 6))).astype(np.uint8)
    return Images(name="ramps", train=pixels[:40], test=pixels[40:], split_rule="by hand")


class Flat(nn.Module):
    """A small VAE for pixels in [0, 1] with flat latents."""

    variance = 3  # an attribute with a meaning of its own

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(108, 2 * LATENTS)
        self.decoder = nn.Sequential(nn.Linear(LATENTS, 108), nn.Sigmoid(), nn.Dropout(0.0))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = self.encoder(x.flatten(1)).chunk(2, dim=1)
        return mean, log_var

    def decode(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(z)
        return decoded.view(-1, *SHAPE)


@functools.cache
def _trained() -> dict[str, Tensor]:
    model, x = Flat(), torch.from_numpy(_ramps().train).float() / 255
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(100):
        mean, log_var = model.encode(x)
        z = mean + (log_var / 2).exp() * torch.randn_like(mean)
        kl = (mean.square() + log_var.exp() - log_var - 1).sum() / 2
        loss = (model.decode(z) - x).square().sum() + 0.1 * kl
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return model.state_dict()


def trained() -> Flat:
    model = Flat()
    model.load_state_dict(_trained())
    return model


def _evaluated(model: nn.Module, images: Images, **facts: Any) -> Evaluation:
    return evaluate_prepared(prepared(model, images, draws=5, **facts), device="cpu")[0]


def _same(one: Evaluation, other: Evaluation, tolerance: float = 0.0) -> None:
    for split, statistics in one.statistics.items():
        for name in ("kl", "sse", "log_ratio"):
            np.testing.assert_allclose(
                getattr(statistics, name),
                getattr(other.statistics[split], name),
                rtol=tolerance,
                atol=10 * tolerance,
            )


def test_a_foreign_model_has_the_statistics_of_a_trial_of_the_same_network(colour: Images) -> None:
    trial = rdv.make_trial("npz:ramps", architecture="mlp", latents=LATENTS, draws=5)
    model = Flat()
    statistics = rdv.evaluate(model, colour, trial)
    evaluation = _evaluated(model, colour)
    for split in ("train", "test"):
        for name in ("kl", "sse", "log_ratio", "image"):
            one, other = statistics[split], evaluation.statistics[split]
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_latents_of_any_shape_have_the_rate_of_flat_ones(colour: Images) -> None:
    flat = Flat()
    maps = adapt(
        flat,
        encode=lambda x: [part.view(-1, 2, 2, 2) for part in flat.encode(x)],
        decode=lambda z: flat.decode(z.flatten(1)),
    )
    evaluation = _evaluated(maps, colour)
    assert evaluation.trial.latent_shapes == ((2, 2, 2),)  # type: ignore[union-attr]
    _same(evaluation, _evaluated(flat, colour))


def test_a_hierarchy_has_the_sum_of_the_rates_of_its_levels(colour: Images, rdvae: Run) -> None:
    flat = Flat()

    def encode(x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        mean, log_var = flat.encode(x)
        first, second = ([p[:, :2].reshape(-1, 2, 1, 1), p[:, 2:]] for p in (mean, log_var))
        return first, second

    levels = adapt(
        flat, encode=encode, decode=lambda z: flat.decode(torch.cat([z[0].flatten(1), z[1]], 1))
    )
    evaluation = _evaluated(levels, colour)
    assert evaluation.trial.latent_shapes == ((2, 1, 1), (6,))  # type: ignore[union-attr]
    _same(evaluation, _evaluated(flat, colour))
    test = evaluation.statistics["test"]
    assert test.rate_terms is not None
    x = torch.from_numpy(colour.test).float() / 255
    mean, log_var = (part.detach().double() for part in flat.encode(x))
    kl = (mean.square() + log_var.exp() - log_var - 1) / 2
    by_level = [test.rate_terms.unit_rate[:2].sum(), test.rate_terms.unit_rate[2:].sum()]
    expected = [float(part.sum(1).mean()) for part in (kl[:, :2], kl[:, 2:])]
    np.testing.assert_allclose(by_level, expected, rtol=1e-6)
    assert sum(by_level) == pytest.approx(test.kl.mean())


RANGES: dict[str, tuple[Any, Callable[[Tensor], Tensor]]] = {
    "-1..1": ((-1, 1), lambda x: 2 * x - 1),
    "0..255": ((0, 255), lambda x: 255 * x),
    "normalised": (
        (MEAN, STD),
        lambda x: (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1),
    ),
}


@pytest.mark.parametrize("name", RANGES)
def test_pixels_in_another_range_are_converted(name: str, colour: Images) -> None:
    pixel_range, to_own = RANGES[name]
    flat, zero, one = Flat(), to_own(torch.zeros(3, 1, 1)), to_own(torch.ones(3, 1, 1))
    other = adapt(
        flat,
        encode=lambda y: flat.encode((y - zero) / (one - zero)),
        decode=lambda z: to_own(flat.decode(z)),
        pixel_range=pixel_range,
    )
    _same(_evaluated(other, colour), _evaluated(flat, colour), tolerance=1e-4)


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 1), (1, 6, 6), (3, 6, 6)])
def test_a_density_of_own_pixels_changes_its_variables(
    name: str, shape: tuple[int, ...], colour: Images
) -> None:
    """log p(x) = log p(y) + log |dy/dx|, with p(y) from torch.distributions in the own pixels."""
    pixel_range, to_own = RANGES[name]
    flat = Flat()
    variance = torch.rand(shape) * 0.3 + 0.1
    other = adapt(
        flat,
        encode=lambda y: flat.encode(torch.zeros_like(y)),
        decode=lambda z: (to_own(flat.decode(z)), variance),
        pixel_range=pixel_range,
    )
    evaluation = _evaluated(other, colour)
    (row,) = (r for r in evaluation.rows(["own"]) if r["split"] == "test")
    subject, test = evaluation.trial, evaluation.statistics["test"]
    assert isinstance(subject, ForeignModel)
    # The same posterior samples, from their log density ratios' own inputs: decode them again.
    x = torch.from_numpy(colour.test).float() / 255
    mean, log_var = flat.encode(torch.zeros_like(x))
    from rdkit_vae.config import seeds

    noise = seeds.generator(0, "draws", 1).standard_normal((len(x), 5, LATENTS), np.float32)
    z = mean[:, None] + (log_var[:, None] / 2).exp() * torch.from_numpy(noise)
    flat.eval()
    own = to_own(flat.decode(z.flatten(0, 1))).unflatten(0, (len(x), 5)).detach().double()
    density = Normal(own, variance.double().sqrt().expand_as(own))
    log_p = density.log_prob(to_own(x).double()[:, None]).flatten(2).sum(2)
    assert row["distortion"] == pytest.approx(-(float(log_p.mean()) + subject.log_volume), rel=2e-6)
    if shape in ((), (1,)) and name != "normalised":
        assert test.own_nll is None  # a single variance in [0, 1] units too


def test_own_variances_survive_their_file(colour: Images, tmp_path: Path) -> None:
    flat = trained()
    per_image = adapt(flat, decode=lambda z: (flat.decode(z), 0.01 + z[:, 0].square()))
    per_pixel = adapt(flat, decode=lambda z: (flat.decode(z), 0.01 + flat.decode(z)))
    for name, model in (("image", per_image), ("pixel", per_pixel)):
        rows = rdv.add_model(model, colour, name=name, out=tmp_path / name)
        again = rdv.rescore(tmp_path / name)
        columns = ["split", "sigma", "sigma2", "distortion", "elbo"]
        assert rows[columns].equals(again[columns])
        assert "own" in set(rows["sigma"])


def test_nothing_about_the_module_changes(colour: Images) -> None:
    model = trained().train()
    model.encoder.eval()
    modes = [module.training for module in model.modules()]
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    _evaluated(model, colour, reconstruction="sse")
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    bad = adapt(model, decode=lambda z: 1 / 0)
    with pytest.raises(BadInput):
        _evaluated(bad, colour)
    assert [module.training for module in model.modules()] == modes


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "deterministic": (
        {"encode": lambda x: x.flatten(1)[:, :8]},
        "a deterministic encoder has no rate",
    ),
    "three values": ({"encode": lambda x: (x, x, x)}, r"must return \(mean, log_var\), got 3"),
    "shapes": (
        {"encode": lambda x: (x.flatten(1)[:, :8], x.flatten(1)[:, :4])},
        r"different shapes: \[\(8,\)\] and \[\(4,\)\]|different shapes",
    ),
    "latents": (
        {"encode": lambda x: (x.flatten(1)[:, :7], x.flatten(1)[:, :7])},
        "the decoder fails on latents of 7, as the encoder gives them for images of 3x6x6",
    ),
    "encoder": (
        {"encode": lambda x: nn.Linear(5, 5)(x.flatten(1))},
        "the encoder fails on images of 3x6x6: .*give its image_size",
    ),
    "output": (
        {"decode": lambda z: z.view(-1, 2, 2, 2)},
        "the decoder makes images of 2x2x2 from images of 3x6x6",
    ),
    "variance": (
        {"decode": lambda z: (z.new_zeros(len(z), *SHAPE), z.new_ones(5, 5))},
        r"variance has the shape \(5, 5\)",
    ),
    "negative": (
        {"decode": lambda z: (z.new_zeros(len(z), *SHAPE), -z.new_ones(()))},
        "variance must be positive, got -1",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_gaussian_vae_is_said_in_a_line(name: str, colour: Images) -> None:
    functions, words = BAD[name]
    with pytest.raises(BadInput, match=words) as caught:
        _evaluated(adapt(trained(), **functions), colour)
    assert "\n" not in str(caught.value)


def test_numbers_that_are_not_finite_name_the_model(colour: Images) -> None:
    broken = adapt(trained(), decode=lambda z: torch.full((len(z), *SHAPE), float("nan")))
    with pytest.raises(NotFinite, match=r"mine: the decoder's output is not finite.*pixel_range"):
        _evaluated(broken, colour, name="mine")


def test_images_are_resized_to_what_the_model_takes(colour: Images) -> None:
    flat = trained()
    large = Images(
        name="large",
        train=colour.train.repeat(2, axis=2).repeat(2, axis=3),
        test=colour.test.repeat(2, axis=2).repeat(2, axis=3),
        split_rule="by hand",
    )
    with pytest.raises(BadInput, match=r"images of 3x12x12.*image_size"):
        _evaluated(flat, large)
    evaluation = _evaluated(adapt(flat, image_size=6), large)
    assert evaluation.statistics["test"].dims == 108
    assert evaluation.trial.dataset == "large at 6x6"  # so that no figure mixes the two sizes


def test_what_is_not_known_is_not_invented(colour: Images, tmp_path: Path) -> None:
    rows = rdv.add_model(trained(), colour, name="mine", out=tmp_path / "mine")
    assert set(rows["sigma"]) == {"half", "optimal", "shared", "mixture", "student"}
    for column in ("beta", "train_sigma2", "implied_tau", "implied_beta"):
        assert rows[column].isna().all()
    assert set(rows["architecture"]) == {f"{Flat.__module__.partition('.')[0]}.Flat"}
    known = rdv.add_model(
        trained(), colour, name="mine", out=tmp_path / "known", beta=2, train_sigma2=0.25
    )
    variances = known[known["split"] == "test"].set_index("sigma")["sigma2"]
    assert variances["beta-half"] == 2 * 0.25
    assert variances["own"] == 0.25


def test_a_folder_of_models_is_read_by_every_part(colour: Images, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "mine"
    rows = rdv.add_model(trained(), colour, name="my VAE", out=out, beta=0.5)
    loaded = rdv.load_results(tmp_path / "runs")
    assert loaded.equals(rows)
    assert rdv.rescore(out)["elbo"].equals(rows["elbo"])
    assert rdv.rescore(out, sigma="constant:0.1")["sigma2"].eq(0.1).all()
    report = verify(Sweep(out))
    assert not report.findings
    assert report.n_rows == len(rows)


def test_a_name_stands_for_one_model(colour: Images, tmp_path: Path, rdvae: Run) -> None:
    out, model = tmp_path / "mine", trained()
    first = rdv.add_model(model, colour, name="mine", out=out)
    again = rdv.add_model(model, colour, name="mine", out=out)
    assert first["run_id"].equals(again["run_id"])
    with torch.no_grad():
        model.encoder.bias.add_(0.1)
    with pytest.raises(BadInput, match="already holds another model named mine"):
        rdv.add_model(model, colour, name="mine", out=out)
    rdv.add_model(model, colour, name="later", out=out)
    assert rdv.load_results(out)["model"].nunique() == 2
    shutil.copytree(Path(__file__).parents[3] / "runs" / "example", tmp_path / "sweep")
    with pytest.raises(BadInput, match="holds a sweep"):
        rdv.add_model(model, colour, name="mine", out=tmp_path / "sweep")
    assert not (tmp_path / "sweep" / "lock").exists()


def test_damaged_results_are_made_again_from_the_statistics(
    colour: Images, tmp_path: Path, rdvae: Run
) -> None:
    out = tmp_path / "mine"
    rows = rdv.add_model(trained(), colour, name="mine", out=out)
    (file,) = (out / "results").iterdir()
    file.write_bytes(file.read_bytes()[:-40])
    assert rdvae("verify", out).returncode != 0
    assert "10 rows" in rdvae("verify", "--repair", out).stdout
    assert rdvae("verify", out).returncode == 0
    columns = ["split", "sigma", "elbo", "run_id", "model"]
    assert rdv.load_results(out)[columns].equals(rows[columns])
    (statistics,) = (out / "statistics").glob("*/*.parquet")
    statistics.write_bytes(statistics.read_bytes()[:-40])
    done = rdvae("verify", "--repair", out)
    assert done.returncode != 0
    assert statistics.exists()


def test_a_scale_that_is_probably_wrong_is_said(colour: Images, tmp_path: Path) -> None:
    flat = trained()
    with pytest.warns(UserWarning, match="more than the variance of the images"):
        rdv.add_model(
            adapt(flat, decode=lambda z: 255 * flat.decode(z)),
            colour,
            name="wrong",
            out=tmp_path / "wrong",
        )


def test_the_hash_depends_on_every_weight_and_on_nothing_else() -> None:
    model = trained()
    before = hash_of_weights(model)
    assert hash_of_weights(trained()) == before
    assert hash_of_weights(trained().double()) != before
    with torch.no_grad():
        model.decoder[0].bias[3] += 1e-6  # type: ignore[index]
    assert hash_of_weights(model) != before


def test_units_are_latents_or_the_channels_of_maps() -> None:
    assert units_of([(3,)]) == ["latent 0", "latent 1", "latent 2"]
    assert units_of([(2, 1, 2), (1, 2)]) == [
        *("level 0, channel 0", "level 0, channel 0", "level 0, channel 1", "level 0, channel 1"),
        *("level 1, latent 0", "level 1, latent 1"),
    ]


def test_records_survive_json_and_refuse_damage() -> None:
    model = ForeignModel(
        name="m",
        dataset="d",
        data_sha256="0",
        architecture="A",
        weights_sha256="1",
        latent_shapes=((4, 2, 2), (3,)),
        beta=2,
    )
    assert ForeignModel.from_dict(model.to_dict()) == model
    assert model.latents == 19
    for change in (
        {"beta": -1.0},
        {"beta": "1"},
        {"latent_shapes": [[10**9, 10**9]]},
        {"latent_shapes": []},
        {"latent_shapes": [[0]]},
        {"latent_shapes": 3},
        {"draws": 10**6},
        {"name": "\n"},
        {"name": "x" * 10_000},
        {"reconstruction": "mse"},
        {"epoch": 1.5},
        {"log_volume": float("nan")},
        {"extra": 1},
    ):
        with pytest.raises(BadInput):
            ForeignModel.from_dict(model.to_dict() | change)


def test_what_an_adapter_knows_is_recorded(colour: Images, tmp_path: Path) -> None:
    loaded = Loaded(
        model=adapt(trained()),
        sha256="ab" * 32,
        weights="model.pt",
        architecture="lib.Flat",
        adapter="lib",
        library="lib 1.0",
        reconstruction="sse",
        beta=1.0,
        train_sigma2=0.5,
    )
    with pytest.warns(UserWarning, match="latents differ by"):  # its training was short
        rows = rdv.add_model(loaded, colour, name="mine", out=tmp_path / "mine", beta=3)
    row = rows.iloc[0]
    assert (row["adapter"], row["architecture"], row["beta"]) == ("lib", "lib.Flat", 3)
    assert row["checkpoint_sha256"] == "ab" * 32
    assert row["implied_beta"] == pytest.approx(row["implied_tau"] / 0.5)
    (file,) = (tmp_path / "mine" / "statistics").glob("*/*.parquet")
    subject = read_evaluation(file).trial
    assert isinstance(subject, ForeignModel)
    assert (subject.weights, subject.library) == ("model.pt", "lib 1.0")


def test_statistics_refuse_own_likelihoods_of_another_shape() -> None:
    numbers = {"image": np.arange(2), "kl": np.ones(2), "dims": 3}
    with pytest.raises(BadInput, match="own_nll"):
        Statistics(**numbers, sse=np.ones((2, 3)), log_ratio=np.ones((2, 3)), own_nll=np.ones(2))


def test_a_missing_folder_of_statistics_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no such file"):
        rdv.rescore(tmp_path / "none.pt")


def test_a_decoder_with_a_variance_of_each_image_shows_its_beta(colour: Images) -> None:
    """Slopes of -log p(x|z) under that variance: scaling all variances scales beta inversely."""
    flat = trained()
    models = [
        adapt(flat, decode=lambda z, s=s: (flat.decode(z), s * (0.01 + z[:, 0].square())))
        for s in (1.0, 4.0)
    ]
    one, four = (_evaluated(model, colour, reconstruction="sse").implied for model in models)
    assert one is not None
    assert four is not None
    constant = adapt(flat, decode=lambda z: (flat.decode(z), torch.tensor(0.02)))
    plain = rdv.implied_weight(flat, colour)
    own = rdv.implied_weight(constant, colour)
    assert own.tau == pytest.approx(plain.tau, rel=1e-6)
    assert own.beta == pytest.approx(plain.tau / 0.02, rel=1e-6)
    assert one.beta != pytest.approx(four.beta, rel=0.1)


MISTAKES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no gradients": (
        {"decode": torch.no_grad()(lambda z: trained().decode(z))},
        {"reconstruction": "sse"},
        "needs gradients, but decode computes none",
    ),
    "not in [0, 1]": (
        {"decode": lambda z: trained().decode(z) * 3},
        {"reconstruction": "bce"},
        r"bce needs decoder outputs in \[0, 1\]",
    ),
    "several deviations": (
        {"pixel_range": (MEAN, STD)},
        {"reconstruction": "sse"},
        "normalised by several standard deviations",
    ),
    "one image at a time": (
        {"decode": lambda z: trained().decode(z).view(1, *SHAPE)},
        {},
        "the decoder fails on latents of 8",
    ),
    "beta 0": ({}, {"beta": 0}, "beta must be positive, got 0"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_use_are_said_in_a_line(name: str, colour: Images, tmp_path: Path) -> None:
    functions, facts, words = MISTAKES[name]
    with pytest.raises(BadInput, match=words):
        rdv.add_model(
            adapt(trained(), **functions), colour, name="mine", out=tmp_path / "mine", **facts
        )
    assert not (tmp_path / "mine").exists()


def test_images_must_be_images(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"images must be rdv\.Images, got a str"):
        rdv.add_model(trained(), "digits", name="mine", out=tmp_path)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers(colour: Images, tmp_path: Path) -> None:
    rows = rdv.add_model(
        trained(), colour, name="m", out=tmp_path / "m", beta=np.float32(0.5), epoch=np.int64(3)
    )
    assert (rows["beta"].iloc[0], rows["epoch"].iloc[0]) == (0.5, 3)


def test_one_adapted_model_takes_images_of_several_sizes(colour: Images) -> None:
    down, up = nn.Conv2d(3, 4, 2, 2), nn.ConvTranspose2d(2, 3, 2, 2)
    model = adapt(nn.ModuleList([down, up]), encode=lambda x: down(x).chunk(2, 1), decode=up)
    large = Images(
        name="large",
        train=colour.train.repeat(2, axis=2).repeat(2, axis=3),
        test=colour.test.repeat(2, axis=2).repeat(2, axis=3),
        split_rule="by hand",
    )
    latents = [_evaluated(model, images).trial.latents for images in (colour, large)]
    assert latents == [2 * 3 * 3, 2 * 6 * 6]
