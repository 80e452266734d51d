from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rdkit_vae import Trial, load_checkpoint
from rdkit_vae.datasets.images import Images
from rdkit_vae.parquet import read_results, read_statistics
from rdkit_vae.runner import run_trial
from rdkit_vae.store import DIVERGED, OK, Sweep
from rdkit_vae.training import Training


def _no_number(*_: object) -> torch.Tensor:
    return torch.tensor([float("nan")])


@pytest.mark.parametrize("objective", ["optimal", "learned-image"])
def test_a_diverged_run_keeps_its_last_finite_checkpoint(
    objective: str, tiny: Images, tiny_trial: Trial, tmp_path: Path
) -> None:
    trial = replace(tiny_trial, objective=objective, epochs=9, checkpoints=(9,))

    def break_down(training: Training) -> None:
        if training.epoch == 3:
            training._loss = _no_number  # type: ignore[assignment]

    sweep = Sweep(tmp_path)
    outcome = run_trial(trial, tiny, sweep, on_epoch=break_down)
    assert outcome.status == DIVERGED
    (path,) = (tmp_path / "checkpoints").rglob("*.pt")
    checkpoint = load_checkpoint(path)
    assert checkpoint.epoch == 3
    run_id = checkpoint.trial.run_id
    expected = Training(trial, tiny)
    for _ in range(3):
        expected.run_epoch()
    for name, value in expected.model.state_dict().items():
        assert torch.equal(checkpoint.state["model"][name], value)
    frame = read_results(sweep.results(run_id)).to_pandas()
    assert set(frame[frame["status"] == OK]["checkpoint_sha256"]) == {checkpoint.sha256}
    failed = frame[frame["status"] == DIVERGED]
    assert set(failed["epoch"]) == {3}
    assert failed["elbo"].isna().all()
    statistics, _ = read_statistics(sweep.statistics(run_id, 3))
    assert statistics["test"].finite


def test_a_run_that_diverges_at_once_keeps_nothing(
    tiny: Images, tiny_trial: Trial, tmp_path: Path
) -> None:
    trial = replace(tiny_trial, learning_rate=1e30)
    assert run_trial(trial, tiny, Sweep(tmp_path)).status == DIVERGED
    assert not list(tmp_path.rglob("*.pt"))


def test_one_test_image_and_one_draw_are_enough(
    tiny: Images, tiny_trial: Trial, tmp_path: Path
) -> None:
    """A variance of z is an array on both splits, even where one holds a single number."""
    images = replace(tiny, test=tiny.test[:1], sha256="")
    trial = replace(tiny_trial, objective="learned-image", draws=1, train_images="all")
    assert run_trial(trial, images, Sweep(tmp_path)).status == OK
    (path,) = (tmp_path / "results").glob("*.parquet")
    frame = read_results(path).to_pandas()
    assert frame.loc[frame["split"] == "test", "elbo_se"].isna().all()
    assert frame["elbo"].notna().all()
