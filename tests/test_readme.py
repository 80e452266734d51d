"""What the README says is run as it stands there."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import pytest

from rdkit_vae.scoring.interpretations import ON_REQUEST, SIGMAS

Run = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"^\$ rdvae (.*)\n((?:(?!```).*\n)*)", TEXT, re.MULTILINE)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The example sweep where the README expects it."""
    shutil.copytree(ROOT / "runs" / "example", tmp_path / "runs" / "example")
    (tmp_path / "figures").mkdir()
    return tmp_path


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
def test_python_runs(code: str, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("agg")
    monkeypatch.chdir(clone)
    exec(compile(code, "README.md", "exec"), {})


def test_the_python_interface_takes_ten_lines() -> None:
    code = TEXT.partition("## From Python")[2].partition("```python\n")[2].partition("```")[0]
    assert len([line for line in code.splitlines() if line]) <= 10


@pytest.mark.parametrize("name", ["plot-rd", "rescore", "describe", "decode-loss"])
def test_commands_print_what_is_shown(name: str, rdvae: Run, clone: Path) -> None:
    (command, shown) = next(found for found in COMMANDS if found[0].startswith(name))
    done = rdvae(*shlex.split(command), cwd=clone)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == shown.split()


def test_the_sweep_that_is_shown_is_the_example(rdvae: Run, clone: Path) -> None:
    """The same command on the example's folder finds all of it done, and prints the same table."""
    (command, shown) = next(found for found in COMMANDS if found[0].startswith("sweep"))
    done = rdvae(*shlex.split(command), "--out", "runs/example", cwd=clone)
    assert done.returncode == 0, done.stderr
    assert "16 of 16 done, 0 to go" in done.stdout
    table = shown[shown.index("objective") :].split()[: 10 * 17]
    assert " ".join(table) in " ".join(done.stdout.split())


def test_every_interpretation_is_in_the_table() -> None:
    for name in [*SIGMAS, *ON_REQUEST]:
        assert f"| `{name}` |" in TEXT


def test_the_example_is_small_and_whole(rdvae: Run, clone: Path) -> None:
    size = sum(path.stat().st_size for path in clone.rglob("*") if path.is_file())
    assert size < 3e6
    assert "16 of 16 done, 0 running, 0 failed, 0 left" in rdvae("status", clone / "runs").stdout


def _planned(target: str) -> str:
    """What make would run for a target on a fresh machine."""
    command = ["make", "--dry-run", "--always-make", target]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
def test_the_demo_ends_with_how_to_use_rdvae_from_there() -> None:
    """And it has installed all that the commands of the README need, visibly."""
    planned = _planned("demo")
    assert "'.[report]'" in planned
    assert "--quiet" not in planned
    installed, ran = planned.index("pip install"), planned.index("plot-rd")
    assert "minutes" in planned[:installed]
    for words in ("source .venv/bin/activate", ".venv/bin/rdvae"):
        assert words in planned[ran:]
        assert words in TEXT.partition("## The first three commands")[0]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone")
def test_what_the_commands_write_is_ignored_by_git() -> None:
    shown = re.findall(r"^(?:\$ )?rdvae .*?--out (\S+)", TEXT, re.MULTILINE)
    written = {*shown, "report.html", "figures/rd.png", "figures/consistency-spread.csv"}
    assert {"concept.pdf", "table1.tex"} <= written
    command = ["git", "check-ignore", *written]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert set(done.stdout.split()) == written
