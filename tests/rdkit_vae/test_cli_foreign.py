"""`rdvae rescore --adapter`: models from elsewhere, scored and added to runs folders."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

import rdkit_vae as rdv
from rdkit_vae.evaluation.foreign import evaluate_prepared, prepared

Run = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[2]
ZOO = ROOT.parent / "shared" / "data" / "zoo"
(CHECKPOINT,) = (ROOT / "runs" / "example" / "checkpoints").glob("*optimal-beta=0.1-*/*.pt")
FACTORY = """
import rdkit_vae as rdv
from rdkit_vae.models.mlp import MLPVAE

def make(width=None):
    return MLPVAE((1, 8, 8), 8, width)

def half_sse(x, decoded):
    return (x - decoded).square().flatten(1).sum(dim=1) / (2 * 0.02)

def own_range():
    net = make()
    return rdv.adapt(net, encode=lambda y: net.encode((y + 1) / 2),
                     decode=lambda z: 2 * net.decode(z) - 1, pixel_range=(-1, 1))
"""
NUMBERS = ["split", "sigma", "sigma2", "rate", "distortion", "elbo"]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a module of the user's own, and the weights of a checkpoint of the example."""
    (tmp_path / "mynets.py").write_text(FACTORY)
    weights = torch.load(CHECKPOINT, weights_only=True)["model"]
    torch.save({f"vae.{name}": weight for name, weight in weights.items()}, tmp_path / "weights.pt")
    return tmp_path


def _score(rdvae: Run, here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    adapter = ["--adapter", "mynets:make", "--dataset", "digits", "--draws", "4"]
    return rdvae("rescore", *adapter, *arguments, cwd=here, PYTHONPATH=str(here))


def test_the_weights_of_a_checkpoint_have_its_scores(rdvae: Run, here: Path) -> None:
    """As a model from elsewhere; its seed and posterior samples are those of the trial."""
    done = _score(rdvae, here, "--out", "mine.csv", "--out", "runs/mine", "weights.pt")
    assert done.returncode == 0, done.stderr
    assert "added 1 model to runs/mine" in done.stdout
    assert "left out" not in done.stderr
    own = rdv.rescore(CHECKPOINT).set_index(["split", "sigma"])
    mine = pd.read_csv(here / "mine.csv").set_index(["split", "sigma"])
    assert set(mine.index) == {index for index in own.index if index[1] not in ("own", "beta-half")}
    for name in ("rate", "distortion", "elbo", "mse", "mutual_information"):
        assert mine[name].to_numpy() == pytest.approx(own.loc[mine.index, name].to_numpy())
    assert set(mine["adapter"]) == {"mynets:make"}
    assert set(mine["architecture"]) == {"rdkit_vae.models.mlp.MLPVAE"}
    again = rdvae("rescore", "--sigma", "shared", "runs/mine", cwd=here)
    shared = mine.loc[("test", "shared"), "elbo"]
    assert f"{shared:.2f}" in again.stdout
    assert "stored statistics" in again.stdout
    assert "weights weights.pt, SHA-256" in again.stdout


def test_another_range_of_pixels_is_converted_and_shown(rdvae: Run, here: Path) -> None:
    plain = _score(rdvae, here, "--out", "a.csv", "--sigma", "shared", "weights.pt")
    assert plain.returncode == 0, plain.stderr
    adapter = ["--adapter", "mynets:own_range", "--dataset", "digits", "--draws", "4"]
    arguments = [*adapter, "--out", "b.csv", "--sigma", "shared", "weights.pt"]
    done = rdvae("rescore", *arguments, cwd=here, PYTHONPATH=str(here))
    a, b = (pd.read_csv(here / name)["elbo"] for name in ("a.csv", "b.csv"))
    assert a.to_numpy() == pytest.approx(b.to_numpy(), rel=1e-5)
    assert "its own pixels are (-1, 1); in these, every elbo is 44.36 nats lower" in done.stdout


def test_a_loss_of_the_users_own_gives_its_weight(rdvae: Run, here: Path) -> None:
    """sse/(2 x 0.02) is a loss without a scale, so its beta is beta x s2 of sse over 0.02."""
    own = _score(rdvae, here, "--reconstruction", "mynets:half_sse", "--out", "a.csv", "weights.pt")
    assert own.returncode == 0, own.stderr
    sse = _score(rdvae, here, "--reconstruction", "sse", "--out", "b.csv", "weights.pt")
    assert sse.returncode == 0, sse.stderr
    beta = pd.read_csv(here / "a.csv")["implied_beta"][0]
    assert beta == pytest.approx(pd.read_csv(here / "b.csv")["implied_tau"][0] / 0.02, rel=1e-6)


def test_every_command_reads_the_folder(rdvae: Run, here: Path) -> None:
    facts = ["--beta", "0.1", "--reconstruction", "log-sse", "--name", "my VAE"]
    done = _score(rdvae, here, *facts, "--out", "runs/mine", "weights.pt")
    assert done.returncode == 0, done.stderr
    match = re.search(r"beta read back from the weights: ([\d.]+) \(se", done.stdout)
    assert match
    assert float(match[1]) == pytest.approx(0.1, rel=0.05)  # BS-VAE, whose loss is log sse
    for command in (
        ["status", "runs"],
        ["verify", "runs"],
        ["describe", "runs/mine"],
        ["plot-rd", "runs"],
        ["table", "runs"],
        ["lint", "runs", "--split", "test", "--sigma", "shared"],
        ["consistency", "runs"],
        ["export", "runs", "--out", "all.csv"],
    ):
        each = rdvae(*command, cwd=here)
        assert each.returncode == 0, (command, each.stdout, each.stderr)
        if command[0] in ("describe", "table", "consistency"):
            assert "my VAE" in each.stdout
    assert set(pd.read_csv(here / "all.csv")["model"]) == {"my VAE"}


def test_grey_levels_of_a_foreign_model_have_the_mass_of_the_checkpoint(
    rdvae: Run, here: Path
) -> None:
    arguments = ["--discretized", "--sigma", "shared"]
    mine = _score(rdvae, here, *arguments, "--out", "a.json", "weights.pt")
    assert mine.returncode == 0, mine.stderr
    own = rdvae("rescore", *arguments, "--out", "b.json", CHECKPOINT, cwd=here)
    assert own.returncode == 0, own.stderr
    a, b = (
        {(r["split"], r["likelihood"]): r["value"] for r in json.loads((here / name).read_text())}
        for name in ("a.json", "b.json")
    )
    assert a == pytest.approx(b, rel=1e-6)
    assert len(a) == 6


USAGE = [
    (["--beta", "1", "weights.pt"], "--beta needs --adapter"),
    (["--image-size", "32", "weights.pt"], "--image-size needs --adapter"),
    (["--adapter", "mynets:make", "weights.pt"], "--adapter needs --dataset"),
    (
        ["--adapter", "mynets:make", "--dataset", "digits", "--name", "a", "x.pt", "y.pt"],
        "--name needs a single model",
    ),
    (
        ["--adapter", "mynets:make", "--dataset", "digits", "--architecture", "a:b", "x.pt"],
        "--architecture is for checkpoints of rdvae",
    ),
    (["--adapter", "nope", "--dataset", "digits", "weights.pt"], "unknown adapter 'nope'"),
    (
        ["--adapter", "mynets:make", "--dataset", "digits", "--option", "w=1,2", "weights.pt"],
        "--option w takes a single value here",
    ),
    (
        ["--adapter", "mynets:make", "--dataset", "digits", "--option", "depth=3", "weights.pt"],
        "its options are width",
    ),
    (
        ["--adapter", "mynets:make", "--dataset", "digits", "--option", "width=3", "weights.pt"],
        "encoder.0.weight is 64x64 in the file, 3x64 in the network",
    ),
    (
        ["--adapter", "mynets:make", "--dataset", "digits", "--reconstruction", "mse", "x.pt"],
        "unknown reconstruction 'mse' (did you mean sse?); known: sse, log-sse, bce, l1",
    ),
    (["--adapter", "nomodule:make", "--dataset", "digits", "weights.pt"], "no module nomodule"),
    (["--adapter", "mynets:make", "--dataset", "gaussian", "weights.pt"], "images of 1x4x4"),
    (["--adapter", "mynets:make", "--dataset", "digits", "--draws", "128", "x.pt"], "--draws"),
]


@pytest.mark.parametrize(("arguments", "words"), USAGE, ids=lambda value: str(value)[-30:])
def test_bad_input_is_one_line(arguments: list[str], words: str, rdvae: Run, here: Path) -> None:
    done = rdvae("rescore", *arguments, "--sigma", "half", cwd=here, PYTHONPATH=str(here))
    assert done.returncode in (2, 4)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_models_says_what_it_lacks(rdvae: Run, here: Path) -> None:
    assert _score(rdvae, here, "--out", "runs/mine", "weights.pt").returncode == 0
    done = rdvae("rescore", "--sigma", "beta-half", "--sigma", "own", "runs/mine", cwd=here)
    assert "lacks a known beta and training variance" in done.stderr
    assert "lacks a known variance of its own" in done.stderr
    for extra in (["--evaluate"], ["--draws", "8"], ["--discretized", "--sigma", "shared"]):
        done = rdvae("rescore", *extra, "runs/mine", cwd=here)
        assert done.returncode == 4
        assert "holds statistics, not a model" in done.stderr or "--adapter" in done.stderr
    done = rdvae("describe", "--implied-weight", "runs/mine", cwd=here)
    assert "score it with rdvae rescore --adapter" in done.stderr


@pytest.mark.skipif(not ZOO.exists(), reason="needs the shared data")
@pytest.mark.parametrize(
    ("name", "beta", "rate", "half", "shared"),
    [("VAE_mnist", 1, 19.1, -612, 1122), ("betaH_mnist", 4, None, -610, 769)],
)
def test_models_of_others_have_their_published_figures(
    name: str, beta: float, rate: float | None, half: float, shared: float
) -> None:
    """The README beside them measured 1,000 images with one number of noise each."""
    mnist = rdv.load_dataset("mnist", data_dir=ZOO.parent)
    few = rdv.Images.from_data(mnist.train[:1000], mnist.train[:1000], name="mnist")
    loaded = rdv.load_model("disentangling-vae", ZOO / name)
    assert loaded.beta == beta
    evaluation, _ = evaluate_prepared(prepared(loaded, few, draws=1), device="cpu")
    elbo = {row["sigma"]: row["elbo"] for row in evaluation.rows() if row["split"] == "train"}
    assert elbo["half"] == pytest.approx(half, abs=1)
    assert elbo["shared"] == pytest.approx(shared, rel=0.03)
    if rate is not None:
        assert float(evaluation.statistics["train"].kl.mean()) == pytest.approx(rate, abs=0.2)
    assert evaluation.implied is not None
    assert evaluation.implied.beta == pytest.approx(beta, rel=0.06)
