import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rdkit_vae import Trial, load_checkpoint
from rdkit_vae.config.trial import bind
from rdkit_vae.datasets.images import Images
from rdkit_vae.objectives.losses import OBJECTIVES
from rdkit_vae.store.evaluations import read_statistics
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.results import read_results
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps import runner
from rdkit_vae.sweeps.runner import run_trial
from rdkit_vae.training.state import Training
from rdkit_vae.training.steps import Pack


def _break_loss(
    monkeypatch: pytest.MonkeyPatch, objective: str, broken: Callable[[], bool]
) -> None:
    """From now on, the loss of an objective is no number while `broken` says so."""
    entry = OBJECTIVES[objective]

    def loss(sse: torch.Tensor, *others: Any) -> torch.Tensor:
        return sse * float("nan") if broken() else entry.loss(sse, *others)

    monkeypatch.setitem(OBJECTIVES, objective, replace(entry, loss=loss))  # type: ignore[arg-type]


@pytest.mark.parametrize("objective", ["optimal", "learned-image"])
def test_a_diverged_run_keeps_its_last_finite_checkpoint(
    objective: str,
    tiny: Images,
    tiny_trial: Trial,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trial = replace(tiny_trial, objective=objective, epochs=9, checkpoints=(9,))
    epochs: list[int] = []
    _break_loss(monkeypatch, objective, lambda: 3 in epochs)
    sweep = Sweep(tmp_path)
    outcome = run_trial(trial, tiny, sweep, on_epoch=lambda t: epochs.append(t.epoch))
    assert outcome.status == Status.DIVERGED
    (path,) = (tmp_path / "checkpoints").rglob("*.pt")
    checkpoint = load_checkpoint(path)
    assert checkpoint.epoch == 3
    run_id = checkpoint.trial.run_id
    epochs.clear()
    expected = Training(trial, tiny)
    for _ in range(3):
        Pack([expected]).run_epoch()
    for name, value in expected.model.state_dict().items():
        assert torch.equal(checkpoint.state["model"][name], value)
    frame = read_results(sweep.results(run_id)).to_pandas()
    assert set(frame[frame["status"] == Status.OK]["checkpoint_sha256"]) == {checkpoint.sha256}
    failed = frame[frame["status"] == Status.DIVERGED]
    assert set(failed["epoch"]) == {3}
    assert failed["elbo"].isna().all()
    statistics, _ = read_statistics(sweep.statistics(run_id, 3))
    assert statistics["test"].finite


@pytest.mark.parametrize("epoch", [1, 4])
def test_an_evaluation_that_is_not_finite_is_a_divergence(
    epoch: int, tiny: Images, tiny_trial: Trial, tmp_path: Path
) -> None:
    """Though every loss was; the reason says what was not."""

    def damage(training: Training) -> None:
        if training.epoch == epoch:
            for weight in training.model.get_submodule("encoder").parameters():
                weight.data.fill_(math.nan)

    outcome = run_trial(tiny_trial, tiny, Sweep(tmp_path), on_epoch=damage)
    assert outcome.status == Status.DIVERGED
    assert "the encoder's mean is not finite: nan in" in outcome.summary
    assert outcome.summary.endswith(f"at epoch {epoch}")
    frame = read_results(Sweep(tmp_path).results(bind(tiny_trial, tiny.sha256).run_id)).to_pandas()
    failed = frame[frame["status"] == Status.DIVERGED]
    assert set(failed["reason"]) == {outcome.summary}
    assert failed["elbo"].isna().all()
    assert set(frame.loc[frame["status"] == Status.OK, "epoch"]) == set(range(1, epoch))


def test_a_run_that_diverges_at_once_keeps_nothing(
    tiny: Images, tiny_trial: Trial, tmp_path: Path
) -> None:
    trial = replace(tiny_trial, learning_rate=1e30)
    assert run_trial(trial, tiny, Sweep(tmp_path)).status == Status.DIVERGED
    assert not list(tmp_path.rglob("*.pt"))


def test_one_test_image_and_one_draw_are_enough(
    tiny: Images, tiny_trial: Trial, tmp_path: Path
) -> None:
    """A variance of z is an array on both splits, even where one holds a single number."""
    images = replace(tiny, test=tiny.test[:1], sha256="")
    trial = replace(tiny_trial, objective="learned-image", draws=1, train_images="all")
    assert run_trial(trial, images, Sweep(tmp_path)).status == Status.OK
    (path,) = (tmp_path / "results").glob("*.parquet")
    frame = read_results(path).to_pandas()
    assert frame.loc[frame["split"] == "test", "elbo_se"].isna().all()
    assert frame["elbo"].notna().all()


def _rows(sweep: Sweep, trial: Trial) -> list[dict[str, object]]:
    rows = read_results(sweep.results(trial.run_id)).to_pylist()
    return [{k: v for k, v in row.items() if k != "created_at" and v == v} for row in rows]


def _after(count: int) -> Callable[[], bool]:
    """True once it has been asked so often."""
    asked = iter(range(count))
    return lambda: next(asked, None) is None


@pytest.mark.parametrize("protocol", ["clean", "paper"])
@pytest.mark.parametrize("architecture", ["mlp", "conv"])
def test_stopped_after_any_step_it_goes_on_bit_for_bit(
    architecture: str,
    protocol: str,
    tiny: Images,
    as_mnist: Images,
    tiny_trial: Trial,
    tmp_path: Path,
) -> None:
    """Also where the stops come after every one, two, three steps, in the middle of epochs."""
    settings = {"architecture": architecture, "protocol": protocol, "batch_size": 8}
    images, name = (as_mnist, "mnist") if protocol == "paper" else (tiny, "npz:tiny")
    trial = bind(replace(tiny_trial, dataset=name, **settings), images.sha256)
    straight = Sweep(tmp_path / "straight")
    assert run_trial(trial, images, straight).status == Status.OK
    for every in (1, 2, 3, 7) if architecture == "mlp" else (3,):
        sweep, stops = Sweep(tmp_path / str(every)), 0
        while run_trial(trial, images, sweep, stop=_after(every)).status == Status.STOPPED:
            stops += 1
            assert sweep.resume_file(trial.run_id).exists()
        assert stops >= 2
        assert _rows(sweep, trial) == _rows(straight, trial)
        assert not sweep.resume_file(trial.run_id).exists()
        for epoch in trial.checkpoints:
            places = [s.checkpoint(trial.run_id, epoch) for s in (sweep, straight)]
            assert places[0].read_bytes() == places[1].read_bytes()


def test_far_from_checkpoints_a_resume_file_is_kept(
    tiny: Images, tiny_trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_SAVED_EVERY", 0.0)
    monkeypatch.setattr(runner, "_SHARE_OF_SAVING", 1e9)
    trial = bind(replace(tiny_trial, epochs=5, checkpoints=(5,)), tiny.sha256)
    sweep = Sweep(tmp_path)

    def die(training: Training) -> None:
        if training.epoch == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(trial, tiny, sweep, on_epoch=die)
    assert load_checkpoint(sweep.resume_file(trial.run_id)).epoch == 3
    begun: list[int] = []
    assert (
        run_trial(trial, tiny, sweep, on_epoch=lambda t: begun.append(t.epoch)).status == Status.OK
    )
    assert begun == [4, 5]


@pytest.mark.parametrize("damage", ["cut", "of another trial", "behind", "past a checkpoint"])
def test_a_resume_file_is_used_only_where_it_belongs(
    damage: str, tiny: Images, tiny_trial: Trial, tmp_path: Path
) -> None:
    trial, sweep = bind(tiny_trial, tiny.sha256), Sweep(tmp_path / "x")
    straight = Sweep(tmp_path / "straight")
    run_trial(trial, tiny, straight)
    run_trial(trial, tiny, sweep, stop=_after(4))  # within its third epoch
    point = sweep.resume_file(trial.run_id)
    if damage == "cut":
        point.write_bytes(point.read_bytes()[:-100])
    elif damage == "of another trial":
        other = bind(replace(tiny_trial, seed=7), tiny.sha256)
        run_trial(other, tiny, sweep, stop=_after(4))
        shutil.copy(sweep.resume_file(other.run_id), point)
    elif damage == "behind":
        early = Sweep(tmp_path / "early")
        run_trial(trial, tiny, early, stop=_after(1))
        shutil.copy(early.resume_file(trial.run_id), point)
    else:  # the results were lost, and with them checkpoints that it lies behind
        sweep.results(trial.run_id).unlink()
    assert run_trial(trial, tiny, sweep).status == Status.OK
    assert _rows(sweep, trial) == _rows(straight, trial)


@pytest.mark.parametrize("lost", ["the last checkpoint", "its bytes", "every checkpoint"])
def test_a_checkpoint_that_is_lost_is_trained_again(
    lost: str, tiny: Images, tiny_trial: Trial, tmp_path: Path
) -> None:
    """From the one before it, of a run that was stopped behind it."""
    trial, sweep = bind(tiny_trial, tiny.sha256), Sweep(tmp_path / "x")
    straight = Sweep(tmp_path / "straight")
    run_trial(trial, tiny, straight)
    run_trial(trial, tiny, sweep, stop=_after(4))
    place = sweep.checkpoint(trial.run_id, 2)
    if lost == "its bytes":
        place.write_bytes(straight.checkpoint(trial.run_id, 1).read_bytes())
    else:
        place.unlink()
    if lost == "every checkpoint":
        sweep.checkpoint(trial.run_id, 1).unlink()
    assert run_trial(trial, tiny, sweep).status == Status.OK
    assert _rows(sweep, trial) == _rows(straight, trial)


@pytest.mark.parametrize("stops", [1, 3, 5])
def test_a_run_that_diverges_keeps_the_same_last_state_where_it_was_stopped(
    stops: int, tiny: Images, tiny_trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within the very epoch that diverges, the last whole state is found again."""
    trial = bind(replace(tiny_trial, epochs=9, checkpoints=(9,)), tiny.sha256)
    original, steps = Pack._set_rate, [0]

    def noting(pack: Pack, step: int) -> None:
        steps.append(step)
        original(pack, step)

    monkeypatch.setattr(Pack, "_set_rate", noting)
    _break_loss(monkeypatch, trial.objective, lambda: steps[-1] >= 8)  # within the third epoch
    straight, sweep = Sweep(tmp_path / "straight"), Sweep(tmp_path / "x")
    assert run_trial(trial, tiny, straight).status == Status.DIVERGED
    assert run_trial(trial, tiny, sweep, stop=_after(stops)).status == Status.STOPPED
    outcome = run_trial(trial, tiny, sweep)
    assert outcome.status == Status.DIVERGED
    assert "loss is nan at epoch 3, step 9" in outcome.summary
    assert _rows(sweep, trial) == _rows(straight, trial)
    assert {row["epoch"] for row in _rows(sweep, trial)} == {2}
    assert {row["reason"] for row in _rows(sweep, trial)} == {"", outcome.summary}
    # Tried again, with what made it diverge put right, it comes to its end as if nothing had been.
    monkeypatch.undo()
    assert run_trial(trial, tiny, sweep).status == Status.OK
    assert run_trial(trial, tiny, Sweep(tmp_path / "sound")).status == Status.OK
    assert _rows(sweep, trial) == _rows(Sweep(tmp_path / "sound"), trial)
