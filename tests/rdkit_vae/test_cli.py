import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner

from rdkit_vae.cli import COMMANDS
from rdkit_vae.cli.selftest import command as selftest_command
from rdkit_vae.datasets import DATASETS
from rdkit_vae.objectives.conventions import CONVENTIONS
from rdkit_vae.objectives.losses import OBJECTIVES
from rdkit_vae.scoring.interpretations import SIGMAS
from rdkit_vae.store.evaluations import read_statistics
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.schema import BOUNDS

Run = Callable[..., subprocess.CompletedProcess[str]]
HEAVY = {"torch", "numpy", "pandas", "pyarrow", "matplotlib", "scipy", "seaborn", "rich"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        *([command, "--help"] for command in COMMANDS),
        ["sweep", "--betas", "1..0"],
        ["sweep", "--dataset", "nope"],
        ["sweep", "--objectives", "nope"],
        ["sweep", "--architecture", "nope"],
        ["sweep", "--out", "/dev/null/x"],
        ["rescore", "--sigma", "nope", "x.pt"],
        ["rescore", "--k", "3", "x.pt"],
        ["plot-rd", "runs", "--xlim", "3"],
        ["plot", "concept", "--help"],
        ["plot", "units", "runs", "--columns", "3"],
        ["plot", "nope", "runs"],
        ["table", "runs", "--format", "docx"],
        ["table", "runs", "--sigma", "nope"],
        ["decode-loss", "--kl", "nope", "--dims", "3"],
        ["decode-loss", "--list"],
        ["nope"],
        ["datasets"],
    ],
)
def test_help_and_usage_errors_import_nothing_heavy(
    arguments: list[str], imported_by: Callable[..., set[str]]
) -> None:
    assert not imported_by(*arguments) & HEAVY


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_text_has_an_example(rdvae: Run, command: str) -> None:
    done = rdvae(command, "--help")
    assert done.returncode == 0
    assert f"rdvae {command}" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["rescore", "--sigma", "all"], ["rescore", "--bound", "iwae"], ["describe"], ["lint"]],
)
def test_stored_statistics_need_no_torch(
    sweep_folder: Path, arguments: list[str], imported_by: Callable[..., set[str]]
) -> None:
    target = sweep_folder if arguments == ["lint"] else _checkpoint(sweep_folder)
    imported = imported_by(*arguments, target)
    assert "pandas" in imported
    assert "torch" not in imported


def _checkpoint(folder: Path, objective: str = "constant") -> Path:
    return sorted((folder / "checkpoints").glob(f"*-{objective}-beta=1-*/epoch=00003.pt"))[0]


BAD = {
    "betas that run backwards": ["--betas", "1..0"],
    "a negative beta": ["--betas", "-1..1"],
    "a beta of zero": ["--betas", "0..1"],
    "not a number": ["--betas", "nan"],
    "infinity": ["--betas", "inf"],
    "underflow": ["--betas", "1e-400"],
    "an underscore": ["--betas", "1_0"],
    "nothing": ["--betas", ""],
    "unknown dataset": ["--dataset", "imagenet"],
    "unknown objective": ["--objectives", "constant,best"],
    "unknown architecture": ["--architecture", "vit"],
    "unknown protocol": ["--protocol", "dirty"],
    "bad seeds": ["--seeds", "0"],
    "too many trials": ["--seeds", "9999", "--betas", "1..10:9999"],
    "bad checkpoints": ["--checkpoints", "sometimes"],
    "no epochs": ["--epochs", "0"],
    "bad rate": ["--lr", "-1"],
    "bad variance": ["--train-sigma2", "0"],
    "useless variance": ["--objectives", "optimal", "--train-sigma2", "1"],
    "bad jobs": ["--jobs", "many"],
    "bad size": ["--image-size", "9"],
    "missing files": ["--dataset", "mnist", "--data-dir", "missing"],
    "missing folder": ["--dataset", "folder:missing"],
    "missing npz": ["--dataset", "npz:missing.npz"],
    "out is a file": ["--out", "/dev/null/x"],
    "unknown option": ["--momentum", "0.9"],
    "pairs of another objective": ["--pairs", "--objectives", "optimal"],
    "images that the protocol has no warp for": ["--protocol", "paper"],
    "an unknown augmentation": ["--protocol", "paper", "--augmentation", "cifar"],
    "an augmentation that is not used": ["--augmentation", "mnist"],
    "a name that is too long": ["--dataset", "npz:" + "x" * 5000],
    "a data folder that is too long": ["--dataset", "mnist", "--data-dir", "x" * 5000],
}

BAD_DATA = {"missing files", "missing folder", "missing npz", "a data folder that is too long"}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_ends_in_one_line_and_trains_nothing(
    what: str, rdvae: Run, tmp_path: Path
) -> None:
    done = rdvae("sweep", *BAD[what], cwd=tmp_path)
    assert done.returncode == (4 if what in BAD_DATA else 2)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("rdvae: ")
    assert list(tmp_path.iterdir()) == []


MEANT = {
    "swep": (["swep"], "sweep"),
    "plto": (["plto", "rd"], "plot"),
    "concpet": (["plot", "concpet", "runs"], "concept"),
    "minst": (["sweep", "--dataset", "minst"], "mnist"),
    "optimol": (["sweep", "--objectives", "optimol"], "optimal"),
    "cnov": (["sweep", "--architecture", "cnov"], "conv"),
    "papre": (["sweep", "--protocol", "papre"], "paper"),
    "Shared": (["rescore", "--sigma", "Shared", "x.pt"], "shared"),
    "bsvae": (["decode-loss", "--convention", "bsvae"], "bs-vae"),
    "--beta": (["sweep", "--beta", "1"], "--betas"),
}


@pytest.mark.parametrize("name", MEANT)
def test_a_name_that_is_almost_one_is_asked_about(name: str, main: Run, tmp_path: Path) -> None:
    arguments, meant = MEANT[name]
    done = main(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert re.search(rf"[Dd]id you mean '?{meant}'?\?", done.stderr), done.stderr


def test_a_name_that_is_like_none_is_not_guessed_at(main: Run, tmp_path: Path) -> None:
    for arguments in (["zzz"], ["sweep", "--objectives", "zzz"], ["plot", "zzz"]):
        assert "did you mean" not in main(*arguments, cwd=tmp_path).stderr


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["plot", "concept"]])
def test_h_is_help(command: list[str], main: Run, tmp_path: Path) -> None:
    short, long = (main(*command, option, cwd=tmp_path) for option in ("-h", "--help"))
    assert short.returncode == 0
    assert short.stdout == long.stdout


def test_no_line_of_help_is_cut(main: Run, tmp_path: Path) -> None:
    for command in ([], ["plot"]):
        listed = main(*command, "--help", cwd=tmp_path).stdout.partition("Commands:")[2]
        assert "..." not in listed
    assert "the paper's Fig. 2)." in listed


def test_help_tells_the_defaults_of_each_dataset(main: Run, tmp_path: Path) -> None:
    said = " ".join(main("sweep", "--help", cwd=tmp_path).stdout.split())
    for option, name in (
        ("latents", "latents"),
        ("epochs", "epochs"),
        ("batch-size", "batch_size"),
    ):
        (listed,) = re.findall(rf"--{option} INTEGER RANGE [^\[]*\[default: ([^]]*)\]", said)
        common, *others = listed.split("; ")
        told = {
            n: v for part in others for names, v in [part.split(": ")] for n in names.split(", ")
        }
        for dataset, source in DATASETS.items():
            found = told.get(dataset.partition(":")[0], common)
            assert int(found) == getattr(source, name)


def test_unknown_names_list_the_known(rdvae: Run) -> None:
    assert (
        "digits, gaussian, mnist, fashion-mnist, celeba" in rdvae("sweep", "--dataset", "x").stderr
    )
    assert "constant, optimal" in rdvae("sweep", "--objectives", "x").stderr
    assert ", ".join(SIGMAS) in rdvae("rescore", "--sigma", "x", "y.pt").stderr


def test_repeated_betas_are_named_and_run_once(rdvae: Run, tmp_path: Path) -> None:
    done = rdvae(
        *("sweep", "--betas", "1,1.0,0.1", "--architecture", "linear", "--objectives", "optimal"),
        *("--dry-run", "--out", tmp_path / "x"),
    )
    assert done.returncode == 0, done.stderr
    assert "beta 1 was given more than once" in done.stderr
    assert "2 trials, 2 to run" in done.stdout


def test_a_dry_run_lists_and_estimates_and_writes_nothing(
    rdvae: Run, small_sweep: tuple[str, ...], tmp_path: Path
) -> None:
    done = rdvae(*small_sweep, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("left ") == 12
    assert "12 trials, 12 to run into runs/digits-linear" in done.stdout
    assert "MB of disk" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_says_how_the_protocol_warps_its_images(rdvae: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "grey.npz", np.arange(50 * 784, dtype=np.uint8).reshape(50, 28, 28))
    arguments = (
        *("sweep", "--dataset", "npz:grey.npz", "--protocol", "paper", "--architecture", "linear"),
        *("--epochs", "1", "--batch-size", "5", "--betas", "1", "--augmentation", "mnist"),
    )
    line = "protocol paper: for training and test, images are rotated by up to 10 degrees to the"
    for more in (("--dry-run",), ()):
        done = rdvae(*arguments, "--out", "x", *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert line in done.stdout
    none = ("--augmentation", "none", "--out", "y", "--dry-run")
    plain = rdvae(*arguments, *none, cwd=tmp_path)
    assert "images are" not in plain.stdout


def test_a_sweep_ends_with_the_table_of_elbos(
    rdvae: Run, small_sweep: tuple[str, ...], sweep_folder: Path
) -> None:
    done = rdvae(*small_sweep, "--out", sweep_folder)
    lines = [line.split() for line in done.stdout.splitlines()]
    header = next(line for line in lines if line[:1] == ["objective"])
    assert header[-6:] == [sigma for sigma in SIGMAS if sigma != "mixture"]
    assert "(rdvae consistency also shows mixture)" in done.stdout
    frame = pd.read_parquet(sweep_folder / "results")
    chosen = frame[
        (frame["objective"] == "optimal")
        & (frame["beta"] == 1)
        & (frame["split"] == "test")
        & (frame["epoch"] == 3)
        & (frame["sigma"] == "shared")
    ]
    row = next(line for line in lines if line[:2] == ["optimal", "1"])
    assert row[header.index("shared")] == f"{chosen['elbo'].mean():.2f}"
    assert row[header.index("own")] == "-"


def test_datasets_says_what_is_found_where(rdvae: Run, tmp_path: Path) -> None:
    done = rdvae("datasets", "--data-dir", tmp_path)
    assert done.returncode == 0
    assert "digits.npz" in done.stdout
    assert "not found; to get it: put the IDX files" in done.stdout


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json"])
def test_rescore_gives_the_rows_of_the_sweep(
    rdvae: Run, sweep_folder: Path, tmp_path: Path, suffix: str
) -> None:
    checkpoint, out = _checkpoint(sweep_folder), tmp_path / f"scores.{suffix}"
    done = rdvae("rescore", "--sigma", "all", "--sigma", "constant:0.5", "--out", out, checkpoint)
    assert done.returncode == 0, done.stderr
    readers = {"parquet": pd.read_parquet, "csv": pd.read_csv, "json": pd.read_json}
    found = readers[suffix](out).set_index(["split", "sigma"])
    frame = pd.read_parquet(sweep_folder / "results")
    frame = frame[(frame["run_id"] == checkpoint.parent.name) & (frame["epoch"] == 3)]
    for row in frame.itertuples():
        assert found.loc[(row.split, row.sigma), "elbo"] == pytest.approx(row.elbo, rel=1e-14)
        if row.sigma == "half":
            same = found.loc[(row.split, "constant:0.5"), "elbo"]
            assert same == pytest.approx(row.elbo, rel=1e-14)
    assert len(found) == len(frame) + 2


def test_a_checkpoint_alone_is_evaluated_to_the_same_numbers(
    rdvae: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    checkpoint = _checkpoint(sweep_folder, "optimal")
    alone = tmp_path / "model.pt"
    shutil.copy(checkpoint, alone)
    for path, out in ((checkpoint, "stored.csv"), (alone, "evaluated.csv")):
        assert rdvae("rescore", path, "--out", tmp_path / out).returncode == 0
    stored, evaluated = (pd.read_csv(tmp_path / f"{n}.csv") for n in ("stored", "evaluated"))
    for name in ("rate", "distortion", "elbo", "elbo_se"):
        np.testing.assert_allclose(evaluated[name], stored[name], rtol=1e-6)


def test_statistics_of_a_checkpoint_that_has_changed_are_refused(
    rdvae: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(sweep_folder, folder)
    checkpoint = _checkpoint(folder)
    content = torch.load(checkpoint, weights_only=True)
    content["model"]["decoder.bias"] += 10
    torch.save(content, checkpoint)
    arguments = ("rescore", "--sigma", "half", "--out", tmp_path / "new.csv", checkpoint)
    done = rdvae(*arguments)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "has changed since" in done.stderr
    assert not (tmp_path / "new.csv").exists()
    assert rdvae(*arguments, "--evaluate").returncode == 0
    new = pd.read_csv(tmp_path / "new.csv")
    rdvae("rescore", "--sigma", "half", "--out", tmp_path / "old.csv", _checkpoint(sweep_folder))
    # Every pixel is off by ten more.
    assert (new["mse"] - pd.read_csv(tmp_path / "old.csv")["mse"]).min() > 50


CONTRADICTIONS = {
    "K without iwae": (["--k", "2"], "--bound iwae"),
    "more draws than there are": (["--bound", "iwae", "--k", "3"], "K can be 1 to 2"),
    "K of zero": (["--bound", "iwae", "--k", "0"], "whole number"),
    "a bound of no density": (["--bound", "iwae", "--sigma", "optimal"], "not a density"),
    "pixels of no density": (["--discretized", "--sigma", "optimal"], "not a density"),
    "no variance": (["--sigma", "constant:0"], "positive"),
    "a negative variance": (["--sigma", "constant:-1"], "positive"),
    "a variance beyond doubles": (["--sigma", "constant:1e300"], "between 1e-200 and 1e+200"),
    "pixels of mixtures alone": (["--discretized", "--sigma", "mixture"], "single variance"),
    "a mixture backwards": (["--sigma", "mixture:1..0.1"], "smaller to the larger"),
    "an unknown bound": (["--bound", "best"], "--bound"),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_what_contradicts_is_one_line(
    what: str, rdvae: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    arguments, reason = CONTRADICTIONS[what]
    done = rdvae("rescore", *arguments, "--out", tmp_path / "x.csv", _checkpoint(sweep_folder))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr
    assert not (tmp_path / "x.csv").exists()


def test_bounds_in_parquet_follow_from_the_stored_statistics(
    rdvae: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    checkpoint, out = _checkpoint(sweep_folder), tmp_path / "bounds.parquet"
    done = rdvae("rescore", "--bound", "iwae", "--discretized", "--out", out, checkpoint)
    assert done.returncode == 0, done.stderr
    assert "left out optimal" in done.stderr
    frame = pd.read_parquet(out)
    assert list(frame) == list(BOUNDS)
    assert set(frame["sigma"]) == set(SIGMAS) - {"optimal"}
    run = checkpoint.parent.name
    statistics, _ = read_statistics(Sweep(sweep_folder).statistics(run, 3))
    test = statistics["test"]
    nll = test.sse + 32 * np.log(np.pi)
    weights = test.log_ratio - nll
    chosen = frame[(frame["split"] == "test") & (frame["sigma"] == "half")]
    values = {(r.likelihood, r.bound, r.k): r.value for r in chosen.itertuples() if r.k == r.k}
    assert values["continuous", "iwae", 1] == pytest.approx(weights.mean(), rel=1e-12)
    both = np.logaddexp(weights[:, 0], weights[:, 1]).mean() - np.log(2)
    assert values["continuous", "iwae", 2] == pytest.approx(both, rel=1e-12)
    elbos = chosen[chosen["bound"] == "elbo"].set_index("likelihood")["value"]
    assert elbos["continuous"] == pytest.approx(-(nll.mean() + test.kl.mean()), rel=1e-12)
    # 17 levels: a bin is 1/16 wide, and uniform noise over it adds 64 / 16^2 / 12 to sse.
    noise = elbos["continuous"] - 64 * np.log(16) - 64 / 16**2 / 12
    assert elbos["dequantized"] == pytest.approx(noise, rel=1e-12)
    assert elbos["dequantized"] < elbos["discretized"]
    assert set(frame.loc[frame["sigma"] == "mixture", "likelihood"]) == {"continuous"}
    assert (frame["bits_per_dim"] == -frame["value"] / (64 * np.log(2))).all()
    assert "a Parquet file, but not rdvae-results" in rdvae("plot-rd", out).stderr


def test_more_draws_are_measured_now(rdvae: Run, sweep_folder: Path, tmp_path: Path) -> None:
    out, checkpoint = tmp_path / "x.csv", _checkpoint(sweep_folder)
    arguments = ("--bound", "iwae", "--k", "1,20", "--sigma", "shared", "--out", out)
    done = rdvae("rescore", "--draws", "20", *arguments, checkpoint)
    assert done.returncode == 0, done.stderr
    frame = pd.read_csv(out)
    assert set(frame["n_draws"]) == {20}
    assert set(frame["run_id"]) == {checkpoint.parent.name}
    assert frame[frame["k"] == 20]["value"].gt(frame[frame["k"] == 1]["value"].to_numpy()).all()


def test_describe_says_where_the_rate_goes(rdvae: Run, sweep_folder: Path) -> None:
    checkpoint = _checkpoint(sweep_folder, "optimal")
    done = rdvae("describe", checkpoint)
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(sweep_folder / "results" / f"{checkpoint.parent.name}.parquet")
    row = frame[(frame["epoch"] == 3) & (frame["split"] == "test")].iloc[0]
    information = f"{row['rate']:.2f} = {row['mutual_information']:.2f}"
    assert information in done.stdout
    assert f"log n = {np.log(359):.2f}" in done.stdout
    assert f"{row['active_units']} of 4 units are active" in done.stdout
    assert row["checkpoint_sha256"] in done.stdout


def test_decode_loss_names_the_beta_and_the_variance(rdvae: Run) -> None:
    done = rdvae("decode-loss", "--kl", "weight:0.00025", "--dims", "12288")
    assert done.returncode == 0, done.stderr
    assert "beta x s2 = 1.536" in done.stdout
    assert "beta = 3.072" in done.stdout
    assert "do not correspond to the objective that was trained" in done.stdout
    plain = rdvae("decode-loss", "--reconstruction", "sum", "--dims", "784")
    assert "the loss is already -ELBO" in plain.stdout
    listed = rdvae("decode-loss", "--list").stdout
    for name in CONVENTIONS:
        assert f"\n{name} " in f"\n{listed}"
    assert max(map(len, listed.splitlines())) <= 80
    assert "beta x s2 0.5" in rdvae("decode-loss", "--list", "--dims", "784").stdout
    for wrong in (
        *(["--convention", "x"], ["--convention", "sum-sum", "--kl", "mean"], []),
        *(["--list", "--batch", "3"], ["--convention", "bs-vae", "--dims", "9", "--factor", "2"]),
        *(["--pixels", "1", "--dims", "9"], ["--pixels", "1..0", "--dims", "9"]),
        ["--loss", "cross-entropy", "--pixels", "-1..1", "--dims", "9"],
    ):
        refused = rdvae("decode-loss", *wrong)
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["--pixels", "-1..1"], ["beta x s2 = 0.125", "C = 1/2:    beta = 0.25"]),
        (["--loss", "absolute"], ["b        = 1 pixels", "of a decoder with a Laplace"]),
        (
            ["--loss", "cross-entropy", "--kl-factor", "4"],
            ["beta = 4,", "a cross-entropy has none"],
        ),
        (["--loss", "perceptual"], ["the rate is right", "no log-likelihood of pixels"]),
        (["--kl", "mean-time", "--steps", "4"], ["beta      = 0.25"]),
    ],
)
def test_decode_loss_of_other_losses(rdvae: Run, arguments: list[str], lines: list[str]) -> None:
    done = rdvae("decode-loss", "--reconstruction", "sum", *arguments)
    assert done.returncode == 0, done.stderr
    for line in lines:
        assert line in done.stdout


def test_lint_of_a_runs_folder_and_of_a_table(
    rdvae: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    done = rdvae("lint", sweep_folder)
    assert done.returncode == 1
    for rule in (
        "different-split",
        "not-a-density",
        "variance-follows-beta",
        "different-interpretations",
    ):
        assert f"{rule} [" in done.stdout
    # Under one interpretation, all claims on a split are comparable.
    one = rdvae("lint", sweep_folder, "--sigma", "shared")
    assert one.returncode == 0, one.stdout
    assert "different-split [24 claims]" in one.stdout.partition("to keep in mind")[2]
    assert "24 claims of 12 models" in one.stdout
    own = rdvae("lint", sweep_folder, "--sigma", "own", "--split", "test")
    assert own.returncode == 0
    assert "6 claims of 6 models" in own.stdout
    assert rdvae("lint", sweep_folder, "--sigma", "constant:3").returncode == 2
    pd.DataFrame({"model": ["a", "b"], "elbo": [1, 2], "variance": [0.1, 0.1]}).to_csv(
        tmp_path / "t.csv"
    )
    fine = rdvae("lint", tmp_path / "t.csv")
    assert fine.returncode == 0
    assert "all claims are comparable" in fine.stdout
    assert rdvae("lint", tmp_path / "none.csv").returncode == 4


def test_pairs_and_their_consistency(rdvae: Run, sweep_folder: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    arguments = ("--architecture", "linear", "--latents", "4", "--epochs", "3", "--draws", "2")
    sized = (*arguments, "--batch-size", "256")
    done = rdvae("sweep", "--pairs", "--betas", "0.1", *sized, "--out", runs / "pairs")
    assert done.returncode == 0, done.stderr
    shutil.copytree(sweep_folder, runs / "small")
    done = rdvae("consistency", runs, "--out", tmp_path / "figures")
    assert done.returncode == 0, done.stderr
    for what in ("spread", "pairs"):
        (picture,) = (tmp_path / "figures").glob(f"consistency-runs-digits-linear-*-{what}.png")
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert len(pd.read_csv(picture.with_suffix(".csv")))
    (written,) = (tmp_path / "figures").glob("*-pairs.csv")
    table = pd.read_csv(written)
    line = table[table["product"].round(6) == 0.05]
    assert len(line) == 3
    assert (line["distance"] < 0.02).all()
    assert line["distance"].max() > 0
    # The weights agree, and so do fitted interpretations; what each model claims does not.
    assert np.ptp(line["shared"]) < 0.1
    assert np.ptp(line["own"]) > 100
    nothing = rdvae("consistency", tmp_path / "figures")
    assert nothing.returncode == 4
    assert nothing.stderr.count("\n") == 1


def test_selftest_lands_on_the_closed_forms(rdvae: Run) -> None:
    done = rdvae("selftest")
    assert done.returncode == 0, done.stdout
    for objective in ("constant", "learned", "optimal-batch", "optimal"):
        assert f"\n{objective} " in done.stdout
    assert "all passed" in done.stdout
    assert "OFF" not in done.stdout


def test_selftest_fails_where_a_number_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss whose rate counts a tenth more than it says is caught."""
    entry = OBJECTIVES["optimal-batch"]
    wrong = replace(entry, loss=lambda sse, kl, s2, how: entry.loss(sse, 1.1 * kl, s2, how))
    monkeypatch.setattr(
        "rdkit_vae.objectives.losses.OBJECTIVES", {**OBJECTIVES, "optimal-batch": wrong}
    )
    monkeypatch.setattr("rdkit_vae.selftest.CLOSED_FORMS", {"optimal-batch": ((0.25,), "shared")})
    monkeypatch.setattr("rdkit_vae.selftest.NO_CLOSED_FORM", {})
    done = CliRunner().invoke(selftest_command, standalone_mode=False)
    assert done.return_value == 1
    assert "OFF" in done.output
    assert "1 model is off by more than 1%" in done.output


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut"])
def test_rescore_refuses_what_is_no_checkpoint(rdvae: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    for path in ("x.pt", "missing.pt", "."):
        done = rdvae("rescore", path, cwd=tmp_path)
        assert done.returncode == 4
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"rdvae: {path}")


def test_a_model_of_no_numbers_is_refused(rdvae: Run, sweep_folder: Path, tmp_path: Path) -> None:
    content = torch.load(_checkpoint(sweep_folder), weights_only=True)
    content["model"]["decoder.bias"] *= float("nan")
    torch.save(content, tmp_path / "x.pt")
    done = rdvae("rescore", tmp_path / "x.pt")
    assert done.returncode == 4
    assert "is not finite" in done.stderr


def test_images_that_moved_are_named_by_the_user(rdvae: Run, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 6, 6), np.uint8)
    np.savez(tmp_path / "here.npz", pixels)
    arguments = ("--architecture", "linear", "--betas", "1", "--epochs", "1", "--out", "x")
    done = rdvae("sweep", "--dataset", "npz:here.npz", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (checkpoint, *_) = (tmp_path / "x" / "checkpoints").rglob("*.pt")
    checkpoint.rename(tmp_path / "moved.pt")
    (tmp_path / "here.npz").rename(tmp_path / "there.npz")
    lost = rdvae("rescore", "moved.pt", cwd=tmp_path)
    assert lost.returncode == 4
    assert "--dataset" in lost.stderr
    found = rdvae("rescore", "moved.pt", "--dataset", "npz:there.npz", cwd=tmp_path)
    assert "evaluated now" in found.stdout
    np.savez(tmp_path / "other.npz", pixels ^ 1)
    other = rdvae("rescore", "moved.pt", "--dataset", "npz:other.npz", cwd=tmp_path)
    assert other.returncode == 4
    assert "images have changed" in other.stderr


def test_a_full_device_on_the_other_side_of_the_screen(rdvae: Run) -> None:
    command = [sys.executable, "-m", "rdkit_vae", "datasets"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 4
    assert "No space left" in done.stderr.splitlines()[0]


def test_a_damaged_statistics_file_is_named_and_done_without(
    rdvae: Run, sweep_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(sweep_folder, folder)
    checkpoint = _checkpoint(folder)
    statistics = folder / "statistics" / checkpoint.parent.name / "epoch=00003.parquet"
    statistics.write_bytes(statistics.read_bytes()[:200])
    done = rdvae("rescore", "--sigma", "optimal", checkpoint)
    assert done.returncode == 0
    assert f"evaluated now instead of {statistics}" in done.stdout


def test_plot_rd_of_a_folder_of_sweeps(rdvae: Run, sweep_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep_folder, tmp_path / "runs" / "a" / "deep")
    shutil.copytree(sweep_folder, tmp_path / "runs" / "b")
    (tmp_path / "runs" / "b" / "results" / "bad.parquet").write_bytes(b"PAR1")
    done = rdvae(
        *("plot-rd", "runs", "--out", "x.png", "--out", "x.pdf", "--out", "x.svg"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "bad.parquet" in done.stderr
    assert "12 runs lie in more than one place" in done.stderr
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    assert "<svg" in (tmp_path / "x.svg").read_text()
    assert "drew 18 points" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["missing"],
        ["."],
        [".", "--sigma", "best"],
        [".", "--objective", "best"],
        [".", "--ylim", "5,1"],
        [".", "--xlim", "a,b"],
        [".", "--out", "x.docx"],
    ],
)
def test_plot_rd_refuses_in_one_line(rdvae: Run, tmp_path: Path, arguments: list[str]) -> None:
    done = rdvae("plot-rd", *arguments, cwd=tmp_path)
    assert done.returncode == (2 if len(arguments) > 1 else 4)
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_status_of_no_sweep(rdvae: Run, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        done = rdvae("status", path)
        assert done.returncode == 4
        assert done.stderr.count("\n") == 1


def test_results_name_the_machine_and_versions(sweep_folder: Path) -> None:
    path = next((sweep_folder / "results").glob("*.parquet"))
    about = json.loads(pq.read_schema(path).metadata[b"about"])
    assert about["environment"]["torch"] == torch.__version__
    assert about["environment"]["threads"] == 1
