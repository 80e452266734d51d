"""The sweeps in runs/: their rows follow from their statistics, by formulas of SciPy."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rdkit_vae.scoring.statistics import Statistics
from rdkit_vae.store import evaluations
from rdkit_vae.store.paths import Sweep
from rdvae_analysis.load import scan
from rdvae_analysis.points import final_rows

RUNS = Path(__file__).parent.parent / "runs"
COMMITTED = ["example", "mnist-paper", "mnist-mlp"]
FOLDERS = [name for name in COMMITTED if (RUNS / name).exists()]


@pytest.fixture(params=FOLDERS)
def sweep(request: pytest.FixtureRequest) -> Sweep:
    return Sweep(RUNS / request.param)


def test_every_run_is_finished_and_every_row_sound(sweep: Sweep) -> None:
    frame, notes = scan(sweep.root)
    rows, left_out = final_rows(frame)
    assert notes == left_out == []
    assert len(rows) == len(frame) > 0
    assert set(rows["status"]) == {"ok"}
    np.testing.assert_array_equal(rows["elbo"], -(rows["rate"] + rows["distortion"]))


def test_rows_follow_from_statistics(sweep: Sweep) -> None:
    frame, _ = scan(sweep.root)
    for (run_id, epoch), rows in frame.groupby(["run_id", "epoch"]):
        path = sweep.statistics(str(run_id), int(epoch))
        if not path.exists():
            continue
        splits, about = evaluations.read_statistics(path)
        table = rows.set_index(["split", "sigma"])
        for split, measured in splits.items():
            assert about["checkpoint_sha256"] == table.loc[(split, "half"), "checkpoint_sha256"]
            for sigma, nll in _distortions(measured, splits["train"], table).items():
                row = table.loc[(split, sigma)]
                assert row["distortion"] == pytest.approx(nll, rel=1e-9), (run_id, split, sigma)
                assert row["rate"] == pytest.approx(measured.kl.mean(), rel=1e-12)
                assert row["n_images"] == len(measured.image)


def _distortions(measured: Statistics, train: Statistics, table: object) -> dict[str, float]:
    """The mean of -log p(x|z) under some interpretations, by SciPy's densities."""
    dims, length = measured.dims, np.sqrt(measured.sse)  # all of the error along one axis

    def gaussian(sigma2: "np.ndarray | float") -> float:
        scale = np.sqrt(sigma2)
        others = (dims - 1) * stats.norm.logpdf(0, scale=scale)
        return float(-(stats.norm.logpdf(length, scale=scale) + others).mean())

    found = {
        "half": gaussian(0.5),
        "optimal": gaussian(np.maximum(measured.sse / dims, 1e-6)),
        "shared": gaussian(train.sse.mean() / dims),
    }
    split = "train" if measured is train else "test"
    row = table.loc[(split, "student")]  # type: ignore[attr-defined]
    if not math.isnan(row["nu"]):
        # sse/(D s2) is distributed as F(D, nu); its density differs by that of the direction.
        ratio = stats.f(dims, row["nu"], scale=dims * row["sigma2"])
        sphere = math.log(2) + dims / 2 * math.log(math.pi) - math.lgamma(dims / 2)
        shell = math.log(0.5) + (dims / 2 - 1) * np.log(measured.sse) + sphere
        found["student"] = float(-(ratio.logpdf(measured.sse) - shell).mean())
    return found
