"""Commands on a sweep and on models that rdvae did not train, from real files."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rdkit_vae.datasets.images import Images
from rdkit_vae.evaluation.foreign import add_model

Run = Callable[..., subprocess.CompletedProcess[str]]


class Theirs(nn.Module):
    """A network that nobody trained."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mean, self.out = nn.Linear(64, 4), nn.Linear(4, 64)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.mean(x.flatten(1))
        return mean, torch.full_like(mean, -1.0)

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.out(z)).view(-1, 1, 8, 8)


@pytest.fixture(scope="session")
def runs(sweep_folder: Path, digits: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep, and a folder with a model of known beta and one of which nothing is known."""
    folder = tmp_path_factory.mktemp("elsewhere") / "runs"
    shutil.copytree(sweep_folder, folder / "small")
    known = {"mine": {"beta": 2.0, "train_sigma2": 0.5}, "unknown one": {}}
    for name, facts in known.items():
        with pytest.warns(UserWarning, match="a grey picture would be closer"):
            add_model(Theirs(), digits, name=name, out=folder / "m", draws=2, **facts)
    return folder


def test_the_table_has_them_without_a_beta(runs: Path, main: Run) -> None:
    done = main("table", runs, cwd=runs.parent)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "unknown one" in line]
    assert line.split()[:4] == ["elsewhere", "unknown", "one", "-"]
    assert "elsewhere: digits, 2 models that rdvae did not train" in done.stderr
    assert " 0 epochs" not in done.stderr


@pytest.mark.parametrize("name", ["rd", "elbo-vs-beta", "units", "concept", "training"])
def test_every_figure_draws_or_counts_them(
    name: str, runs: Path, main: Run, tmp_path: Path
) -> None:
    done = main("plot", name, runs, "--out", tmp_path / "figure.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    counted = {
        "concept": "left out 1 model from elsewhere, whose beta or constant variance is not known",
        "training": "left out 2 models from elsewhere, whose training was not recorded",
    }
    assert counted.get(name, "") in done.stderr
    beside = (tmp_path / "figure-elsewhere.png").exists()
    assert beside == (name in ("elbo-vs-beta", "units", "concept"))
    assert name in counted or "left out" not in done.stderr


def test_consistency_has_one_section_for_all_of_them(runs: Path, main: Run, tmp_path: Path) -> None:
    done = main("consistency", runs, "--out", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("models from elsewhere, test split") == 1
    section = done.stdout.partition("models from elsewhere")[2]
    assert "mine" in section
    assert "unknown one" in section
    assert (tmp_path / "consistency-runs-digits-elsewhere-spread.png").exists()


def test_the_state_of_their_folder(runs: Path, main: Run) -> None:
    for command in ("status", "verify"):
        done = main(command, runs, cwd=runs.parent)
        assert done.returncode == 0, done.stdout
        (line,) = [line for line in done.stdout.splitlines() if f"{runs / 'm'}" in line]
        assert "2 models from elsewhere" in line
        assert "checkpoint" not in line


def test_the_page_has_them_and_says_what_is_not_known(runs: Path) -> None:
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    from rdvae_analysis.report.page import report

    page, notes = report(runs)
    assert notes == []
    assert "digits, models from elsewhere" in page
    assert "The charts also show 2 models from elsewhere, on the same images." in page
    assert "1 model from elsewhere, whose β is not known." in page
    rows = page.partition("2 models from elsewhere; the table")[2]
    assert "unknown one" in rows
    assert ">nan<" not in page
    assert " 0 epochs" not in page
