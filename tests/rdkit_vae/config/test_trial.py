import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rdkit_vae import Trial, make_trial
from rdkit_vae.config.grid import grid, pairs
from rdkit_vae.config.trial import PROTOCOLS, bind
from rdkit_vae.datasets import DATASETS
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput
from rdkit_vae.objectives.losses import OBJECTIVES
from rdkit_vae.store.paths import Sweep
from rdkit_vae.sweeps.plan import Plan
from rdkit_vae.sweeps.run import check_same, describe
from rdkit_vae.system.files import write_json


@pytest.mark.parametrize("dataset", [name.replace("PATH", "x") for name in DATASETS])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_trial_survives_json(dataset: str, objective: str, protocol: str) -> None:
    trial = make_trial(dataset, objective=objective, protocol=protocol, beta=0.1)
    again = Trial.from_dict(json.loads(json.dumps(trial.to_dict())))
    assert again == trial
    assert again.run_id == trial.run_id


def test_every_setting_is_part_of_the_name() -> None:
    base = make_trial(objective="constant")
    changes = {
        "data_sha256": "ab",
        "image_size": 9,
        "architecture": "mlp",
        "latents": 3,
        "beta": 2.0,
        "train_sigma2": 0.1,
        "sigma2_floor": 1e-5,
        "seed": 4,
        "protocol": "paper",
        "batch_size": 7,
        "learning_rate": 0.1,
        "checkpoints": (25,),
        "draws": 3,
        "train_images": "all",
        "options": {"width": 3},
        "precision": "bf16",
    }
    names = {replace(base, **{key: value}).run_id for key, value in changes.items()}
    names.add(make_trial(objective="constant", epochs=7).run_id)
    names.add(make_trial("mnist", objective="constant").run_id)
    names.add(make_trial().run_id)
    names.add(replace(base, protocol="paper", protocol_revision=1).run_id)
    names.add(replace(base, protocol="paper", augmentation="none").run_id)
    assert len(names | {base.run_id}) == len(Trial.__dataclass_fields__) + 1


def test_what_a_protocol_did_in_an_older_release_is_another_trial(tmp_path: Path) -> None:
    """So no sweep goes on with half of its models trained in one way and half in another."""
    now = make_trial("mnist", protocol="paper")
    old = {key: value for key, value in now.to_dict().items() if key != "protocol_revision"}
    before = Trial.from_dict(old)
    assert before.to_dict() == old
    assert before.protocol_revision == 1
    assert (before.run_id != now.run_id, before.setup != now.setup) == (True, True)
    assert replace(make_trial("mnist"), protocol="paper", epochs=9, checkpoints=(9,)) == replace(
        now, batch_size=512, draws=8, train_images="matched", epochs=9, checkpoints=(9,)
    )
    images = Images(
        name="mnist",
        train=np.ones((9, 1, 28, 28), np.uint8),
        test=np.ones((2, 1, 28, 28), np.uint8),
        split_rule="",
    )
    plan = Plan(
        trials=(before,),
        images=images,
        sweep=Sweep(tmp_path),
        data_dir=None,
        jobs=1,
        pack=None,
        device="cpu",
        join=False,
        retry_failed=False,
        fail_fast=False,
    )
    write_json(tmp_path / "sweep.json", describe(plan))
    check_same(plan)
    with pytest.raises(BadInput, match=r"another sweep \(protocol_revision 1, not 3\)"):
        check_same(replace(plan, trials=(now,)))
    # `clean` has not changed, nor has the name of any trial of it.
    clean = make_trial("mnist")
    assert "protocol_revision" not in clean.to_dict()
    assert Trial.from_dict(clean.to_dict()) == replace(clean, protocol_revision=1) == clean
    with pytest.raises(BadInput, match=r"protocol_revision must be in 1\.\.3, got 4"):
        Trial.from_dict({**now.to_dict(), "protocol_revision": 4})


def test_one_and_one_point_zero_are_the_same_trial() -> None:
    assert make_trial(beta=1).run_id == make_trial(beta=1.0).run_id


def test_batches_must_suit_the_images() -> None:
    def images(n: int) -> Images:
        pixels = np.zeros((n, 1, 2, 2), np.uint8)
        return Images(name="x", train=pixels, test=pixels[:20], split_rule="")

    make_trial(batch_size=2).check_images(images(40))
    with pytest.raises(BadInput, match="leaves a batch of one of 41"):
        make_trial(batch_size=2).check_images(images(41))
    paper = make_trial(protocol="paper", batch_size=20, augmentation="none")
    paper.check_images(images(41))
    with pytest.raises(BadInput, match="full batches only"):
        replace(paper, batch_size=42).check_images(images(41))


def test_a_curve_joins_betas_and_seeds_only() -> None:
    base = make_trial()
    assert replace(base, beta=3.0, seed=5).curve == base.curve
    assert replace(base, latents=3).curve != base.curve


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beta": 0.0}, "beta must be positive, got 0.0"),
        ({"beta": float("nan")}, "beta"),
        ({"latents": 0}, "latents must be at least 1"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": "many"}, "epochs"),
        ({"seed": -1}, "seed"),
        ({"draws": 2.5}, "draws must be a whole number, got 2.5"),
        ({"latents": True}, "latents"),
        ({"batch_size": 1}, "normalises over batches"),
        ({"objective": "optimal", "train_sigma2": 0.1}, "optimal does not take train_sigma2"),
        ({"objective": "constant", "train_sigma2": -1.0}, "train_sigma2 must be positive"),
        ({"architecture": "transformer"}, "known: conv, mlp, linear"),
        ({"objective": "best"}, "known: constant, optimal"),
        ({"protocol": "dirty"}, "known: clean, paper"),
        ({"momentum": 0.9}, "unknown setting momentum"),
    ],
)
def test_bad_settings_are_named_with_their_value(settings: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        make_trial(**settings)  # type: ignore[arg-type]


def test_the_papers_protocol_is_the_papers() -> None:
    trial = make_trial("mnist", protocol="paper")
    assert (trial.epochs, trial.batch_size, trial.latents, trial.draws) == (50, 512, 32, 1)
    assert trial.learning_rate == 1e-3
    assert PROTOCOLS["paper"].weight_decay == 1e-5
    assert make_trial("celeba").latents == 64


def test_grid_is_every_combination_once() -> None:
    trials = grid(betas=[0.1, 1], objectives=["constant", "optimal"], seeds=[0, 5], latents=2)
    assert len({trial.run_id for trial in trials}) == 8
    assert {(t.beta, t.objective, t.seed) for t in trials} == {
        (b, o, s) for b in (0.1, 1) for o in ("constant", "optimal") for s in (0, 5)
    }


def test_a_variance_goes_to_the_objectives_that_take_one() -> None:
    trials = grid(betas=[1], objectives=["constant", "optimal"], seeds=[0], train_sigma2=0.1)
    assert [trial.train_sigma2 for trial in trials] == [0.1, None]
    with pytest.raises(BadInput, match="not used by"):
        grid(betas=[1], objectives=["optimal"], seeds=[0], train_sigma2=0.1)


def test_a_trial_is_bound_to_its_images() -> None:
    trial = bind(make_trial(), "abc")
    assert bind(trial, "abc") == trial
    with pytest.raises(BadInput, match="changed"):
        bind(trial, "abd")


@pytest.mark.parametrize("damage", [{"beta": "x"}, {"beta": None}, {"extra": 1}, {"epochs": []}])
def test_a_damaged_configuration_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        Trial.from_dict({**make_trial().to_dict(), **damage})


def test_pairs_lie_on_lines_of_constant_beta_times_c() -> None:
    trials = pairs(betas=(0.1, 3.0), seeds=(0, 7))
    assert [(t.beta, t.train_sigma2) for t in trials[:3]] == [(0.1, 0.5), (0.01, 5.0), (1.0, 0.05)]
    assert len({t.run_id for t in trials}) == 12
    for i in range(0, 12, 3):
        line = trials[i : i + 3]
        products = [t.beta * (t.train_sigma2 or math.nan) for t in line]
        assert products == pytest.approx([products[0]] * 3, rel=1e-15)
        assert len({t.seed for t in line}) == 1
        assert len({t.setup for t in line}) == 1
    assert {t.objective for t in trials} == {"constant"}


def test_a_setup_is_all_but_objective_beta_variance_and_seed() -> None:
    one = make_trial(objective="constant", beta=1.0, seed=0)
    same = (
        make_trial(objective="optimal", beta=3.0, seed=4),
        replace(one, train_sigma2=0.1),
        make_trial(objective="learned"),
    )
    assert {trial.setup for trial in same} == {one.setup}
    for other in (replace(one, latents=3), replace(one, draws=1), replace(one, sigma2_floor=1e-4)):
        assert other.setup != one.setup
