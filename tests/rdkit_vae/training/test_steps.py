"""Trials trained in lockstep against the same trials alone."""

import gc
import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rdkit_vae import Trial, evaluate, make_trial, train
from rdkit_vae.config.trial import bind
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput
from rdkit_vae.models import ARCHITECTURES
from rdkit_vae.models.precision import products
from rdkit_vae.objectives.losses import OBJECTIVES
from rdkit_vae.store.checkpoints import checkpoint_bytes, load_checkpoint
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.footprint import bytes_in_training, packs_that_fit
from rdkit_vae.sweeps.runner import run_pack, run_trial
from rdkit_vae.training.inputs import Split
from rdkit_vae.training.networks import is_stacked
from rdkit_vae.training.state import Training
from rdkit_vae.training.steps import Pack, train_pack

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
EPOCHS = {"cpu": 3, "cuda": 6}  # on a GPU, until steps of each size of batch are replayed


@pytest.fixture(autouse=True)
def as_a_worker_does(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings under which equal operations on a GPU give equal bits."""
    if DEVICES[-1] == "cpu":
        yield
        return
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def _trials(trial: Trial, objectives: Sequence[str] = ("constant", "optimal")) -> list[Trial]:
    """Trials of one kind that differ in all that those of one kind may differ in."""
    return [
        replace(
            trial,
            objective=objective,
            train_sigma2=0.2 + beta if OBJECTIVES[objective].has_sigma2 else None,
            beta=beta,
            seed=seed,
        )
        for seed, beta in enumerate((0.01, 0.3, 5.0))
        for objective in objectives
    ]


def _run(
    trials: Sequence[Trial],
    images: Images,
    *,
    epochs: int = 3,
    device: str = "cpu",
) -> list[Training]:
    members = [Training(trial, images, device) for trial in trials]
    group = Pack(members)
    for _ in range(epochs):
        assert group.run_epoch()
    return members


def _weights(training: Training) -> torch.Tensor:
    return torch.cat([w.detach().flatten().cpu() for w in training.model.parameters()])


# What a group of several trials may do to rounding is magnified by AdamW from step to step.
TOLERANCE = 1e-4


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "objectives",
    [("constant", "optimal", "optimal-batch"), ("learned",), ("learned-image",), ("student",)],
)
def test_in_a_group_each_trial_comes_to_what_it_comes_to_alone(
    objectives: tuple[str, ...],
    architecture: str,
    device: str,
    tiny: Images,
    tiny_trial: Trial,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a GPU, also from a captured graph to steps as they are."""
    epochs = EPOCHS[device]
    trial = replace(tiny_trial, architecture=architecture, epochs=epochs, checkpoints=(epochs,))
    trials = _trials(trial, objectives)
    together = _run(trials, tiny, epochs=epochs, device=device)
    monkeypatch.setattr("rdkit_vae.training.steps._UNCAPTURED", 10**9)
    for trial, found in zip(trials, together, strict=True):
        (alone,) = _run([trial], tiny, epochs=epochs, device=device)
        steps = 3 * epochs
        assert (found.epoch, found.step) == (alone.epoch, alone.step) == (epochs, steps)
        assert found.loss == pytest.approx(alone.loss, rel=TOLERANCE)
        distance = (_weights(found) - _weights(alone)).norm() / _weights(alone).norm()
        assert distance < TOLERANCE
        if architecture == "conv":  # one after the other: the very same operations
            assert torch.equal(_weights(found), _weights(alone))


@pytest.mark.parametrize("architecture", [n for n, a in ARCHITECTURES.items() if a.stacks])
def test_of_small_dense_networks_a_group_keeps_every_bit(architecture: str, digits: Images) -> None:
    trials = _trials(make_trial("digits", architecture=architecture, latents=8, epochs=2))
    together = _run(trials, digits, epochs=2)
    for trial, found in zip(trials, together, strict=True):
        assert torch.equal(_weights(found), _weights(_run([trial], digits, epochs=2)[0]))


@pytest.mark.parametrize("architecture", [n for n, a in ARCHITECTURES.items() if a.stacks])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_stacked_and_in_turn_are_the_same_step(
    objective: str,
    architecture: str,
    tiny: Images,
    tiny_trial: Trial,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One step, before AdamW makes much of the rounding: in turn, each network is by itself."""
    trial = replace(tiny_trial, architecture=architecture, batch_size=64)
    trials = _trials(trial, [objective])
    stacked = _run(trials, tiny, epochs=1)
    entry = replace(ARCHITECTURES[architecture], stacks=False)
    monkeypatch.setitem(ARCHITECTURES, architecture, entry)  # type: ignore[arg-type]
    for one, other in zip(stacked, _run(trials, tiny, epochs=1), strict=True):
        assert one.step == other.step == 1
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        for name, expected in other.moments["exp_avg"].items():
            scale = expected.abs().max().item()
            found = one.moments["exp_avg"][name]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * scale)


def test_batch_statistics_in_a_group_are_those_alone(tiny: Images, tiny_trial: Trial) -> None:
    trials = [replace(tiny_trial, architecture="conv", seed=seed) for seed in (0, 1)]
    for trial, found in zip(trials, _run(trials, tiny, epochs=1), strict=True):
        (alone,) = _run([trial], tiny, epochs=1)
        buffers = dict(found.model.named_buffers())
        assert any(name.endswith("running_var") for name in buffers)
        for name, value in alone.model.named_buffers():
            assert torch.equal(buffers[name], value)


def test_stopped_within_an_epoch_a_group_goes_on_with_its_warps(
    as_mnist: Images, tiny_trial: Trial
) -> None:
    """Of images that the paper's protocol warps."""
    images = as_mnist
    trial = replace(tiny_trial, dataset="mnist", protocol="paper", batch_size=8)
    trials = _trials(trial)
    straight = _run(trials, images, epochs=1)
    stopped = [Training(trial, images) for trial in trials]
    assert stopped[0].randomness().warps is not None
    asked = iter(range(2))
    assert not Pack(stopped).run_epoch(stop=lambda: next(asked, None) is None)
    assert [member.epoch_progress.batches for member in stopped] == 6 * [3]
    assert Pack(stopped).run_epoch()
    for one, other in zip(straight, stopped, strict=True):
        assert one.loss == other.loss
        assert torch.equal(_weights(one), _weights(other))


@pytest.mark.parametrize("device", DEVICES)
def test_batches_are_the_images_at_their_positions(device: str, tiny: Images) -> None:
    split = Split(tiny, "train", torch.device(device))
    positions = torch.randint(0, 40, (3, 7))
    taken = split.take(positions.to(split.place))
    assert taken.device.type == device
    assert np.array_equal(taken.cpu().numpy(), tiny.train[positions.numpy()])


def test_a_pack_that_is_let_go_of_is_gone_at_once(tiny: Images, tiny_trial: Trial) -> None:
    """With the memory that it holds; nothing in a worker would look for cycles."""
    group = Pack([Training(tiny_trial, tiny)])
    group.run_epoch()
    watched = weakref.ref(group)
    gc.disable()
    try:
        del group
        assert watched() is None
    finally:
        gc.enable()


def test_what_was_trained_together_is_held_apart(tiny: Images, tiny_trial: Trial) -> None:
    for model in train_pack(_trials(tiny_trial), tiny):
        for weight in model.parameters():
            assert weight.untyped_storage().nbytes() == weight.nbytes


def test_products_on_a_gpu_are_whole_unless_asked_for() -> None:
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision, convolution.fp32_precision
    for precision, kind in (("float32", "ieee"), ("bf16", "ieee"), ("tf32", "tf32")):
        with products(precision, torch.device("cuda")):
            assert (matmul.fp32_precision, convolution.fp32_precision) == (kind, kind)
        assert (matmul.fp32_precision, convolution.fp32_precision) == before


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_trial_that_diverges_does_not_disturb_its_neighbours(
    architecture: str, device: str, tiny: Images, tiny_trial: Trial
) -> None:
    trials = _trials(replace(tiny_trial, architecture=architecture), ("optimal",))
    members = [Training(trial, tiny, device) for trial in trials]
    with torch.no_grad():
        next(members[1].model.parameters()).fill_(math.nan)
    group = Pack(members)
    assert group.run_epoch()
    assert [member.diverged for member in members] == ["", "loss is nan at epoch 1, step 1", ""]
    assert [member.epoch for member in members] == [1, 0, 1]
    sound = _run([trials[0], trials[2]], tiny, epochs=1, device=device)
    for found, alone in zip((members[0], members[2]), sound, strict=True):
        assert found.loss == pytest.approx(alone.loss, rel=1e-6)
        torch.testing.assert_close(_weights(found), _weights(alone), rtol=1e-5, atol=1e-6)


def test_a_pack_has_one_key_and_one_step(tiny: Images, tiny_trial: Trial) -> None:
    begun = Training(tiny_trial, tiny)
    Pack([begun]).run_epoch()
    for other in (
        Training(tiny_trial, tiny),
        Training(replace(tiny_trial, objective="learned"), tiny),
        Training(replace(tiny_trial, batch_size=20), tiny),
    ):
        with pytest.raises(BadInput, match="same pack_key"):
            Pack([begun, other])


def test_models_trained_together_are_those_trained_one_by_one(
    tiny: Images, tiny_trial: Trial
) -> None:
    trials = _trials(tiny_trial)
    for trial, model in zip(trials, train_pack(trials, tiny), strict=True):
        found, expected = (evaluate(m, tiny, trial)["test"] for m in (model, train(trial, tiny)))
        np.testing.assert_allclose(found.sse, expected.sse, rtol=1e-3)
        np.testing.assert_allclose(found.kl, expected.kl, rtol=1e-3)


def test_a_checkpoint_of_a_group_is_that_of_its_trial_alone(digits: Images, tmp_path: Path) -> None:
    """To the byte, so neither a neighbour's weights nor a shared tensor are in it."""
    trials = _trials(make_trial("digits", architecture="linear", latents=4, epochs=3))
    hashes = [
        (tmp_path / "x.pt").write_bytes(checkpoint_bytes(_run(group, digits, epochs=1)[0]))
        for group in (trials, trials[:1])
    ]
    assert hashes[0] == hashes[1]


# --- a sweep folder ---


def _rows(sweep: Sweep, trial: Trial) -> list[dict[str, object]]:
    from rdkit_vae.store.results import read_results

    rows = read_results(sweep.results(trial.run_id)).to_pylist()
    return [{k: v for k, v in row.items() if k != "created_at" and v == v} for row in rows]


def _bound(trials: Sequence[Trial], images: Images) -> list[Trial]:
    return [bind(trial, images.sha256) for trial in trials]


def test_trials_that_are_behind_catch_up_and_go_on_with_the_others(
    digits: Images, tmp_path: Path
) -> None:
    trial = make_trial("digits", architecture="linear", latents=4, epochs=4, draws=2)
    trials = _bound(_trials(trial), digits)
    straight, broken = Sweep(tmp_path / "straight"), Sweep(tmp_path / "broken")
    assert [o.status for _, o in run_pack(trials, digits, straight)] == [Status.OK] * 6
    steps = iter(range(30))  # in the second epoch
    stopped = run_pack(trials[:4], digits, broken, stop=lambda: next(steps, None) is None)
    assert [outcome.status for _, outcome in stopped] == [Status.STOPPED] * 4
    assert run_trial(trials[1], digits, broken).status == Status.OK
    epochs: list[tuple[str, int]] = []
    ended = run_pack(
        trials, digits, broken, on_epoch=lambda t: epochs.append((t.trial.run_id, t.epoch))
    )
    assert {t.run_id: o.status for t, o in ended} == {t.run_id: Status.OK for t in trials}
    assert trials[1].run_id not in {run_id for run_id, _ in epochs}
    assert [epoch for run_id, epoch in epochs if run_id == trials[5].run_id] == [1, 2, 3, 4]
    assert [epoch for run_id, epoch in epochs if run_id == trials[0].run_id] == [2, 3, 4]
    for trial in trials:
        assert _rows(broken, trial) == _rows(straight, trial)


def test_the_rows_of_a_group_with_one_that_diverges(
    tiny: Images, tiny_trial: Trial, tmp_path: Path
) -> None:
    """It is a row with a status, and the rows of its neighbours are theirs alone."""
    trials = _bound(_trials(replace(tiny_trial, architecture="conv")), tiny)
    wild = replace(trials[1], beta=1e38)
    trials[1] = wild
    together, alone = Sweep(tmp_path / "together"), Sweep(tmp_path / "alone")
    found = {t.run_id: o for t, o in run_pack(trials, tiny, together)}
    assert found[wild.run_id].status == Status.DIVERGED
    for trial in trials:
        assert run_trial(trial, tiny, alone) == found[trial.run_id]
        assert _rows(together, trial) == _rows(alone, trial)


# --- precision ---


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bf16_trains_to_about_the_same_and_is_evaluated_in_float32(
    architecture: str, digits: Images, tmp_path: Path
) -> None:
    settings = {"architecture": architecture, "latents": 8, "epochs": 2, "learning_rate": 3e-3}
    whole = make_trial("digits", objective="constant", beta=0.1, **settings)
    half = replace(whole, precision="bf16")
    one, other = (_run([trial], digits, epochs=2)[0] for trial in (whole, half))
    assert one.loss != other.loss
    assert other.loss == pytest.approx(one.loss, rel=0.03)
    assert all(weight.dtype == torch.float32 for weight in other.model.parameters())
    path = tmp_path / "half.pt"
    path.write_bytes(checkpoint_bytes(other))
    assert load_checkpoint(path).trial == bind(half, digits.sha256)
    as_half, as_whole = (evaluate(other.model, digits, trial)["test"] for trial in (half, whole))
    assert np.array_equal(as_half.sse, as_whole.sse)


def test_the_default_precision_is_not_part_of_a_name(tiny_trial: Trial) -> None:
    """Trials that were trained before there were others keep their names."""
    half = replace(tiny_trial, precision="bf16")
    assert "precision" not in tiny_trial.to_dict()
    assert "-bf16-" in half.run_id
    assert half.curve != tiny_trial.curve
    for trial in (tiny_trial, half):
        assert Trial.from_dict(trial.to_dict()) == trial
    with pytest.raises(BadInput, match="unknown precision"):
        replace(tiny_trial, precision="fp8")


# --- memory ---


def test_packs_are_as_large_as_memory_lets_them_be(
    tiny: Images, tiny_trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = _trials(tiny_trial)
    assert packs_that_fit(trials, tiny, "cpu") == [trials]
    state, activations = bytes_in_training(trials[0], tiny)
    weights = _weights(Training(trials[0], tiny))
    assert state >= 4 * weights.nbytes
    assert activations > 16 * (36 + 64) * 4  # of a batch, the pixels and a hidden layer at least
    monkeypatch.setattr("rdkit_vae.sweeps.footprint._MOST_ON_CPU", 4.5 * (state + activations))
    assert sorted(map(len, packs_that_fit(trials, tiny, "cpu"))) == [3, 3]
    monkeypatch.setattr("rdkit_vae.sweeps.footprint._MOST_ON_CPU", 1)
    assert packs_that_fit(trials, tiny, "cpu") == [[trial] for trial in trials]


def test_on_a_cpu_only_small_dense_networks_share_their_steps(
    tiny: Images, tiny_trial: Trial
) -> None:
    """Of others each is by itself, and so has the same bits whatever it was given out with."""
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for architecture, shape, stacked in (
        ("linear", (1, 28, 28), True),
        ("mlp", (1, 8, 8), True),
        ("mlp", (1, 28, 28), False),
        ("conv", (1, 8, 8), False),
    ):
        trial = replace(tiny_trial, architecture=architecture, latents=16)
        assert is_stacked(trial, shape, cpu) == stacked
        assert is_stacked(trial, shape, gpu) == (architecture != "conv")
    alone = _trials(replace(tiny_trial, architecture="conv"))
    assert packs_that_fit(alone, tiny, "cpu") == [[trial] for trial in alone]
