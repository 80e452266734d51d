"""Networks and losses of the user's own, by name, in every process of a sweep."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rdkit_vae as rdv
from rdkit_vae import models
from rdkit_vae.config.parsing import parse_options
from rdkit_vae.config.trial import Trial
from rdkit_vae.errors import BadData, BadInput, NotNamed
from rdkit_vae.objectives.losses import objective_name
from rdkit_vae.store.checkpoints import load_checkpoint
from rdkit_vae.sweeps.plan import plan_sweep
from rdkit_vae.text import is_plain_name

from ..conftest import Run

CODE = '''
import math
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self, shape, latents, width=8):
        super().__init__()
        self.shape, size = shape, math.prod(shape)
        self.mean, self.log_var = nn.Linear(size, latents), nn.Linear(size, latents)
        self.decoder = nn.Sequential(nn.Linear(latents, width), nn.ReLU(), nn.Linear(width, size))

    def encode(self, x):
        return self.mean(x.flatten(1)), self.log_var(x.flatten(1))

    def decode(self, z):
        return self.decoder(z).unflatten(1, self.shape)


class Flat(Small):
    def decode(self, z):
        return self.decoder(z)


def absolute(sse, kl, sigma2, setting):
    """|x - mu| in the place of a squared error."""
    return sse.sqrt() + setting.beta * kl


def mean_loss(sse, kl, sigma2, setting):
    return (sse + kl).mean()


def raises(shape, latents):
    raise RuntimeError("no\\nsuch network")


number = 3
'''
SMALL = ("--dataset", "digits", "--epochs", "1", "--latents", "2", "--draws", "1", "--jobs", "2")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the Python path with a module of the user's own, `mynets`."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "mynets.py").write_text(CODE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    yield folder
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


def test_a_network_of_ones_own_is_trained_in_a_sweep(own: Path, tmp_path: Path) -> None:
    frame = rdv.sweep(
        betas=[0.1, 1.0],
        objectives=["bs-vae"],
        architecture="mynets:Small",
        options={"width": [4, 16]},
        epochs=1,
        latents=2,
        draws=1,
        jobs=2,
        out=tmp_path / "runs",
    )
    assert set(frame["status"]) == {"ok"}
    assert frame["run_id"].nunique() == 4
    assert set(frame["architecture"]) == {"mynets:Small"}
    assert set(frame["objective"]) == {"optimal"}
    # Networks of different options are different setups, and curves.
    assert frame.groupby("setup")["run_id"].nunique().tolist() == [2, 2]
    weights = set()
    for path in sorted((tmp_path / "runs").glob("checkpoints/*/epoch=00001.pt")):
        checkpoint = load_checkpoint(path)
        weights.add(
            (dict(checkpoint.trial.options)["width"], checkpoint.model().decoder[0].out_features)
        )
    assert weights == {(4, 4), (16, 16)}


def test_a_loss_of_ones_own_and_its_evaluation(own: Path, rdvae: Run, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    done = rdvae(
        "sweep", *SMALL, "--betas", "0.5", "--architecture", "mlp", "--option", "width=32",
        "--objectives", "mynets:absolute", "--out", out, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(out / "results")
    assert set(frame["objective"]) == {"mynets:absolute"}
    (checkpoint,) = out.glob("checkpoints/*/epoch=00001.pt")
    assert "width=32" in checkpoint.parent.name
    described = rdvae("describe", checkpoint, cwd=tmp_path)
    assert described.returncode == 0, described.stderr
    assert "mlp, width = 32" in described.stdout
    # Without any code the stored statistics are scored; the model itself needs it by name.
    assert rdvae("rescore", checkpoint, cwd=tmp_path).returncode == 0
    refused = rdvae("rescore", "--evaluate", checkpoint, cwd=tmp_path)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "--objective mynets:absolute" in refused.stderr
    assert "damaged" not in refused.stderr
    again = rdvae(
        "rescore", "--evaluate", "--objective", "mynets:absolute", checkpoint, cwd=tmp_path
    )
    assert again.returncode == 0, again.stderr
    for command in (("verify", out), ("table", out), ("plot-rd", out), ("status", out)):
        done = rdvae(*command, cwd=tmp_path)
        assert done.returncode == 0, (command, done.stderr)


def test_a_received_checkpoint_chooses_no_code(own: Path, tmp_path: Path) -> None:
    """Its network is named in it, and would be imported and called."""
    trap = own / "trap.py"
    trap.write_text(f"from pathlib import Path\nPath({str(own / 'sprung')!r}).touch()\n" + CODE)
    (own / "mynets.py").write_text("from trap import *\n")
    rdv.sweep(
        betas=[1.0],
        objectives=["optimal"],
        architecture="trap:Small",
        **{"epochs": 1, "latents": 2, "draws": 1, "jobs": 1, "out": tmp_path / "runs"},
    )
    (own / "sprung").unlink()
    models._IMPORTED._entries.clear()
    sys.modules.pop("trap")
    (path,) = (tmp_path / "runs").glob("checkpoints/*/epoch=00001.pt")
    with pytest.raises(NotNamed, match="--architecture trap:Small"):
        load_checkpoint(path)
    assert len(rdv.rescore(path, sigma="half")) == 2
    assert not (own / "sprung").exists()
    assert len(rdv.rescore(path, sigma="half", draws=2, architecture="trap:Small")) == 2
    assert (own / "sprung").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--architecture", "nowhere:Net"), "there is no module nowhere; set PYTHONPATH"),
        (("--architecture", "mynets:Nothing"), "mynets has no Nothing"),
        (("--architecture", "mynets:number"), "it cannot be called"),
        (("--architecture", "mynets:Small", "--option", "depth=3"), "its options are width"),
        (("--architecture", "mynets:Flat"), "decode(z) has the shape (2, 64), not (2, 1, 8, 8)"),
        (("--architecture", "mynets:raises"), "RuntimeError: no such network"),
        (("--architecture", "broken:Net"), "importing broken raised SyntaxError"),
        (("--architecture", "../mynets:Net"), "unknown architecture '../mynets:Net'"),
        (("--architecture", "linear", "--option", "width=3"), "it has no options"),
        (("--architecture", "mlp", "--option", "width=abc"), "width must be a whole number > 0"),
        (("--architecture", "mlp", "--option", "width=8,0"), "got 0"),
        (("--architecture", "exits:Net"), "importing exits raised SystemExit: 3"),
        (("--architecture", "__main__:Net"), "__main__ is the program that is running"),
        (("--objectives", "mynets:nothing"), "mynets has no nothing"),
        (("--objectives", "mynets:mean_loss"), "the loss has the shape (), not (2,)"),
        (("--objectives", "mynets"), "unknown objective 'mynets'"),
        (("--option", "width"), "must be NAME=VALUE"),
    ],
)
def test_code_that_cannot_be_used_is_one_line(
    arguments: tuple[str, ...], reason: str, own: Path, rdvae: Run, tmp_path: Path
) -> None:
    (own / "broken.py").write_text("def (:\n")
    (own / "exits.py").write_text("raise SystemExit(3)\n")
    base = ("--betas", "1", "--out", tmp_path / "runs")
    if "--architecture" not in arguments:
        base += ("--architecture", "mlp")
    done = rdvae("sweep", *SMALL, *base, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert reason in done.stderr
    assert not (tmp_path / "runs").exists()


def test_no_code_comes_from_the_working_directory(rdvae: Run, tmp_path: Path) -> None:
    (tmp_path / "lurking.py").write_text(CODE)
    command = [sys.executable, "-c", "from rdkit_vae.cli import main; main()"]
    import subprocess

    done = subprocess.run(
        [*command, "sweep", *SMALL, "--betas", "1", "--architecture", "lurking:Small"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "there is no module lurking" in done.stderr


def test_options_are_part_of_a_trials_name_and_come_back() -> None:
    plain = rdv.make_trial("digits", architecture="mlp")
    wide = rdv.make_trial("digits", architecture="mlp", options={"width": 96})
    assert len({plain.run_id, wide.run_id}) == len({plain.setup, wide.setup}) == 2
    assert "options" not in plain.to_dict()  # trials of older releases keep their names
    assert Trial.from_dict(wide.to_dict()) == wide
    assert dict(wide.options) == {"width": 96}
    for bad in ({"width": float("nan")}, {"a b": 1}, {"width": [1]}):
        with pytest.raises(BadInput, match="option"):
            Trial.from_dict({**wide.to_dict(), "options": bad})


@pytest.mark.parametrize(
    ("alias", "name"),
    [("beta-vae", "constant"), ("bs-vae", "optimal"), ("sigma-vae", "optimal-batch")],
)
def test_names_of_the_literature_are_accepted(alias: str, name: str) -> None:
    assert objective_name(alias) == name
    aliased = rdv.make_trial("digits", architecture="mlp", objective=alias)
    assert aliased == rdv.make_trial("digits", architecture="mlp", objective=name)


def test_an_entry_of_ones_own_says_what_it_needs(own: Path, tmp_path: Path) -> None:
    """An `Objective` may ask for a constant variance, as `constant` does."""
    (own / "mylosses.py").write_text(
        "from rdkit_vae.objectives.losses import Objective, constant\n"
        "half = Objective(about='as constant', loss=constant, has_sigma2=True)\n"
    )
    asked = {"betas": [1.0], "architecture": "linear", "epochs": 1, "latents": 2, "draws": 1}
    frames = [
        rdv.sweep(objectives=[name], out=tmp_path / name.replace(":", "-"), **asked)
        for name in ("mylosses:half", "constant")
    ]
    for column in ("rate", "mse"):
        np.testing.assert_array_equal(*(frame[column].to_numpy() for frame in frames))


def test_a_repair_without_the_code_puts_nothing_aside(
    own: Path, rdvae: Run, tmp_path: Path
) -> None:
    """Its checkpoints are sound; what is missing is the user's word."""
    out = tmp_path / "runs"
    asked = {"epochs": 1, "latents": 2, "draws": 1, "jobs": 1, "out": out}
    rdv.sweep(betas=[1.0], objectives=["optimal"], architecture="mynets:Small", **asked)
    next(out.glob("statistics/*/*")).unlink()
    before = sorted(out.glob("checkpoints/*/*"))
    refused = rdvae("verify", "--repair", out, cwd=tmp_path)
    assert refused.returncode == 4
    assert "--architecture mynets:Small" in refused.stdout
    assert sorted(out.glob("checkpoints/*/*")) == before
    assert not (out / "damaged").exists()
    named = ("--architecture", "mynets:Flat", "--architecture", "mynets:Small")
    mended = rdvae("verify", "--repair", *named, out, cwd=tmp_path)
    assert mended.returncode == 0, mended.stdout
    assert "measured again" in mended.stdout


def test_a_loss_of_ones_own_sees_one_trial_at_a_time(own: Path, tmp_path: Path) -> None:
    """Also beside one of rdvae's, whose trials are packed: its numbers do not depend on that."""
    (own / "batchloss.py").write_text(
        "def by_batch(sse, kl, sigma2, setting):\n"
        "    assert sse.dim() == 1\n"
        "    return sse / sse.mean().detach() + setting.beta * kl\n"
    )
    asked = {
        "betas": [0.1, 1.0],
        "objectives": ["optimal", "batchloss:by_batch"],
        "architecture": "mlp",
        **{"epochs": 1, "latents": 2, "draws": 1, "jobs": 1},
    }
    packed = rdv.sweep(**asked, out=tmp_path / "packed")
    alone = rdv.sweep(**asked, pack=1, out=tmp_path / "alone")
    mine = packed["objective"] == "batchloss:by_batch"
    assert mine.any()
    np.testing.assert_array_equal(packed.loc[mine, "elbo"], alone.loc[mine, "elbo"])


def test_a_resume_file_chooses_no_options(own: Path, tmp_path: Path) -> None:
    """One of another trial is passed over before its network is built."""
    asked = {"epochs": 1, "latents": 2, "draws": 1, "jobs": 1, "architecture": "mynets:Small"}
    rdv.sweep(betas=[1.0], options={"width": 99}, out=tmp_path / "theirs", **asked)
    (theirs,) = (tmp_path / "theirs").glob("checkpoints/*optimal*/epoch=00001.pt")
    ours = rdv.make_trial("digits", architecture="mynets:Small", latents=2)
    with pytest.raises(BadData, match="it is of another trial"):
        load_checkpoint(theirs, trial=ours)


def test_values_that_are_equal_in_python_are_different_options(tmp_path: Path) -> None:
    """1, 1.0 and true are; so a folder of one is not that of another."""
    assert parse_options(["a=1,1.0,true,1x"]) == {"a": (1, 1.0, True, "1x")}
    plan = plan_sweep(
        betas=[1.0], architecture="mlp", options={"width": [8, 8, 16]}, out=tmp_path, epochs=1
    )
    assert len(plan.trials) == 4  # of two objectives
    hashes = {rdv.make_trial(architecture="mlp", options={"width": w}).run_id for w in (1, 1.0)}
    assert len(hashes) == 2


def test_a_run_with_many_options_has_a_name_that_files_can_have() -> None:
    options = {f"hidden_channels_of_block_number_{i}": 100 + i for i in range(20)}
    trial = replace(rdv.make_trial(architecture="mlp"), options=options)
    assert is_plain_name(trial.run_id)
    assert trial.run_id != replace(trial, options={**options, "a": 1}).run_id


def test_the_aliases_choose_what_is_drawn(sweep_folder: Path, main: Run, tmp_path: Path) -> None:
    drawn = []
    for name in ("bs-vae", "optimal"):
        out = tmp_path / f"{name}.png"
        done = main("plot-rd", sweep_folder, "--objective", name, "--out", out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        drawn.append(out.read_bytes())
    assert drawn[0] == drawn[1]


def test_an_interpretation_that_does_not_apply_is_named(
    sweep_folder: Path, main: Run, tmp_path: Path
) -> None:
    """A variance per image has none of its own; its rows are not left out in silence."""
    path = next(sweep_folder.glob("checkpoints/*-optimal-*/epoch=00003.pt"))
    done = main("rescore", "--sigma", "own", "--sigma", "shared", path, cwd=tmp_path)
    assert done.returncode == 0
    why = "which lacks a known variance of its own"
    assert done.stderr == f"rdvae: own does not apply to {path.parent.name}, {why}\n"
