"""What the README says is run as it stands there."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import pytest

from rdkit_vae.grammar import ON_REQUEST, SIGMAS

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
