"""Measured checkpoints: what is stored, what is made again, what is refused, and the commands."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import rdkit_vae as rdv
from rdkit_vae.config.trial import Trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.evaluation.pictures import last_checkpoints
from rdkit_vae.generation.measure import Model, stretched
from rdkit_vae.scoring.priors import PRIORS
from rdkit_vae.store.evaluations import failed_rows
from rdkit_vae.store.generation import GENERATION_FILES, add_rows, read_rows, stored_rows
from rdkit_vae.store.results import write_results
from rdkit_vae.store.schema import GENERATION, PRIOR_RATES, Status

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(sweep_folder: Path, tmp_path: Path) -> Path:
    """A sweep of seconds that a test may change."""
    shutil.copytree(sweep_folder, tmp_path / "small")
    return tmp_path / "small"


def first(folder: Path) -> Path:
    return last_checkpoints(folder)[0]


def measured(path: Path, **options: object) -> pd.DataFrame:
    return rdv.score_generation(path, "pixels", n_samples=50, **options)


def test_rows_are_complete_and_stored_beside_the_results(folder: Path) -> None:
    rows = measured(first(folder), priors=["standard", "gaussian"])
    assert list(rows) == list(GENERATION)
    assert list(rows["source"]) == ["images", "reconstruction", "prior", "prior"]
    assert rows["frechet"].gt(0).all()
    assert rows["psnr"].notna().tolist() == [False, True, False, False]
    (file,) = folder.glob("generation/*/*.parquet")
    pd.testing.assert_frame_equal(read_rows(file, GENERATION_FILES).to_pandas(), rows)
    (priors,) = folder.glob("priors/*/*.parquet")
    assert list(pd.read_parquet(priors)["prior"]) == ["standard", "gaussian"]


def test_stored_rows_are_not_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = measured(first(folder))
    monkeypatch.setattr(Model, "generation_rows", None)
    pd.testing.assert_frame_equal(measured(first(folder)), before)
    with pytest.raises(TypeError):
        measured(first(folder), seed=1)
    with pytest.raises(TypeError):
        measured(first(folder), split="train")


def test_with_more_samples_only_reconstructions_stay(folder: Path) -> None:
    few = measured(first(folder))
    more = rdv.score_generation(first(folder), "pixels", n_samples=60)
    assert list(more["n_samples"]) == [60, 359, 60]
    pd.testing.assert_series_equal(more.iloc[1], few.iloc[1])
    assert more["frechet"][0] != few["frechet"][0]


def test_an_interrupted_run_keeps_what_it_has_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Model.generation_rows

    def interrupted(self: Model, comparison: object, source: str, prior: str, **options: object):
        if source == "prior":
            raise KeyboardInterrupt
        return make(self, comparison, source, prior, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Model, "generation_rows", interrupted)
        with pytest.raises(KeyboardInterrupt):
            measured(first(folder))
    (file,) = folder.glob("generation/*/*.parquet")
    kept = read_rows(file, GENERATION_FILES).to_pandas()
    assert list(kept["source"]) == ["images", "reconstruction"]
    after = measured(first(folder))
    pd.testing.assert_frame_equal(after[:2], kept)


def test_the_same_again_and_other_samples_with_another_seed(folder: Path) -> None:
    one = measured(first(folder))
    shutil.rmtree(folder / "generation")
    again, other = measured(first(folder)), measured(first(folder), seed=1)
    columns = ["frechet", "kid", "precision"]
    pd.testing.assert_frame_equal(one[columns], again[columns])
    assert (other["frechet"] != one["frechet"]).tolist() == [False, True, True]


def test_the_distance_of_real_images_is_that_of_the_definition(
    folder: Path, digits: Images
) -> None:
    row = measured(first(folder)).iloc[0]
    train = digits.train[np.linspace(0, len(digits.train) - 1, 50).round().astype(int)]
    x, y = (split.reshape(len(split), -1) / 16 for split in (train, digits.test))
    a, b = ((z - z.mean(axis=0)) / np.sqrt(len(z) - 1) for z in (x, y))
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()  # tr (S S')^1/2 of S = a'a, S' = b'b
    expected = np.square(x.mean(axis=0) - y.mean(axis=0)).sum()
    expected += np.square(a).sum() + np.square(b).sum() - 2 * root
    assert row["frechet"] == pytest.approx(expected, rel=1e-5)
    assert row["n_reference"] == len(digits.test)


def test_the_rate_under_the_standard_prior_is_the_rate_of_the_results(folder: Path) -> None:
    path = first(folder)
    rates = rdv.score_priors(path, ["standard", "per-latent", "gaussian"])
    assert list(rates) == list(PRIOR_RATES)
    results = rdv.load_results(folder)
    mine = (results["run_id"] == path.parent.name) & (results["split"] == "test")
    last = results[mine & (results["epoch"] == results["epoch"].max())]
    assert rates["rate"][0] == pytest.approx(last["rate"].iloc[0], rel=1e-6)
    assert rates["rate"][0] >= rates["rate"][2]
    assert rates["bits_per_latent"][0] == pytest.approx(rates["rate"][0] / (4 * np.log(2)))


def test_rows_of_another_version_of_the_checkpoint_are_replaced(folder: Path) -> None:
    rows = measured(first(folder)).to_dict("records")
    (file,) = folder.glob("generation/*/*.parquet")
    changed = [row | {"checkpoint_sha256": "0" * 64} for row in rows[:1]]
    add_rows(file, GENERATION_FILES, changed)
    assert len(stored_rows(file, GENERATION_FILES, "0" * 64)) == 1
    assert not stored_rows(file, GENERATION_FILES, rows[0]["checkpoint_sha256"])


def test_stretched_pictures_fill_the_range() -> None:
    pictures = torch.rand(5, 1, 4, 4) * 0.3 + 0.2
    pictures[4] = 0.7  # a constant one has no range
    made = stretched(pictures)
    assert torch.equal(made[:4].amin((1, 2, 3)), torch.zeros(4))
    torch.testing.assert_close(made[:4].amax((1, 2, 3)), torch.ones(4))
    assert made.isfinite().all()
    order = pictures[0].flatten().argsort()
    assert torch.equal(made[0].flatten().argsort(), order)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"priors": ["vampire"]}, "known: standard"),
        ({"split": "validation"}, "known: test, train"),
        ({"n_samples": 3}, "n_samples must be"),
        ({"features": "fid"}, "known: classifier"),
    ],
)
def test_what_cannot_be_measured_is_refused(folder: Path, options: dict, reason: str) -> None:
    given = {"features": "pixels", "n_samples": 50} | options
    with pytest.raises(BadInput, match=reason):
        rdv.score_generation(first(folder), **given)


def test_a_model_that_has_diverged_is_named(folder: Path) -> None:
    path = first(folder)
    content = torch.load(path, weights_only=True)
    name = next(iter(content["model"]))
    content["model"][name] = torch.full_like(content["model"][name], torch.nan)
    torch.save(content, path)
    with pytest.raises(BadData, match=f"{path.parent.name}.*has diverged"):
        measured(path)


@pytest.mark.parametrize("arguments", [("--prior", "vampire"), ("--features", "fid"), ("--help",)])
def test_usage_loads_neither_torch_nor_numpy(
    imported_by: Callable[..., set[str]], arguments: tuple[str, ...]
) -> None:
    assert not imported_by("generation", *arguments, "runs") & {"torch", "numpy", "sklearn"}


def test_the_command_leaves_out_and_counts_what_it_cannot_use(main: Run, folder: Path) -> None:
    checkpoints = last_checkpoints(folder)
    for path in checkpoints[4:]:
        shutil.rmtree(path.parent)
        (folder / "results" / f"{path.parent.name}.parquet").unlink()
    checkpoints[0].write_bytes(b"")
    trial: Trial = rdv.load_checkpoint(checkpoints[1]).trial
    failed = failed_rows(trial, epoch=3, step=9, status=Status.DIVERGED, reason="nan")
    write_results(folder / "results" / f"{trial.run_id}.parquet", failed, {})
    arguments = ("generation", "--features", "pixels", "--samples", "50", folder)
    done = main(*arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"left out 1 run that failed: {trial.run_id}" in done.stderr
    assert f"left out {checkpoints[0]}" in done.stderr
    assert len(list(folder.glob("generation/*/*.parquet"))) == 2
    assert done.stdout.count("  FD pixels: samples ") == 2
    again = main(*arguments, cwd=folder)
    assert again.stdout.count("stored before: ") == 2


def test_a_distance_is_never_printed_without_its_features(main: Run, folder: Path) -> None:
    done = main("generation", "--samples", "50", first(folder), cwd=folder)
    assert done.returncode == 0, done.stderr
    row = measured_with_classifier(folder)
    name = f"classifier {row['features_sha256'][:8]}"
    assert f"FD {name}: samples" in done.stdout
    assert f"Distances in {name}" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def measured_with_classifier(folder: Path) -> dict:
    (file,) = folder.glob("generation/*/*.parquet")
    return read_rows(file, GENERATION_FILES).to_pylist()[0]


def test_describe_shows_the_rate_under_every_prior(main: Run, folder: Path) -> None:
    done = main("describe", "--priors", first(folder), cwd=folder)
    assert done.returncode == 0, done.stderr
    table = done.stdout.partition("What z costs")[2]
    assert {line.split()[0] for line in table.splitlines() if line.strip()} >= set(PRIORS)
    refused = main("describe", "--folds", "3", first(folder), cwd=folder)
    assert (refused.returncode, "--folds needs --priors" in refused.stderr) == (2, True)


def test_verify_names_damaged_rows(main: Run, folder: Path) -> None:
    measured(first(folder))
    assert main("verify", folder, cwd=folder).returncode == 0
    (file,) = folder.glob("generation/*/*.parquet")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    done = main("verify", folder, cwd=folder)
    assert done.returncode == 4
    assert str(file) in done.stdout
    assert main("verify", "--repair", folder, cwd=folder).returncode == 0
    assert not file.exists()
    assert list((folder / "damaged").rglob("*.parquet"))


def test_a_model_from_elsewhere_is_measured_too(tmp_path: Path, digits: Images, main: Run) -> None:
    code = tmp_path / "othernet.py"
    code.write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.down, self.up = torch.nn.Linear(64, 4), torch.nn.Linear(2, 64)\n"
        "    def encode(self, x):\n"
        "        return self.down(x.flatten(1)).chunk(2, 1)\n"
        "    def decode(self, z):\n"
        "        return self.up(z).reshape(-1, 1, 8, 8)\n"
    )
    weights = tmp_path / "weights.pt"
    torch.manual_seed(0)
    state = {"down.weight": torch.randn(4, 64) / 8, "down.bias": torch.zeros(4)}
    state |= {"up.weight": torch.randn(64, 2) / 8, "up.bias": torch.full((64,), 0.3)}
    torch.save(state, weights)
    import sys

    sys.path.insert(0, str(tmp_path))
    try:
        done = main(
            *("generation", "--adapter", "othernet:Net", "--dataset", "digits"),
            *("--features", "pixels", "--samples", "50", "--out", tmp_path / "mine", weights),
            cwd=tmp_path,
        )
    finally:
        sys.path.remove(str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = rdv.load_generation(tmp_path / "mine")
    assert list(rows["model"].unique()) == ["weights"]
    assert main("verify", tmp_path / "mine", cwd=tmp_path).returncode == 0
