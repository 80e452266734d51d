"""A working directory whose files bear the names of modules changes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

# As pip writes it for `rdvae`.
SCRIPT = "from rdkit_vae.cli import main\nif __name__ == '__main__':\n    main()\n"
MODULES = (
    *("html", "random", "torch", "numpy", "pandas", "pyarrow", "matplotlib", "scipy", "click"),
    *("rich", "PIL", "pickle", "struct", "json", "types", "sitecustomize", "usercustomize"),
)
TRAINING = ("--betas", "1", "--architecture", "linear", "--epochs", "1", "--jobs", "2")
COMMANDS = {
    "sweep": ("sweep", *TRAINING, "--out", "runs/digits"),
    "plot": ("plot", "rd", "runs", "--out", "figures/rd.png"),
    "table": ("table", "runs"),
    "status": ("status", "runs/digits"),
    # Enough images that more than one process decodes them.
    "sweep of a folder": ("sweep", "--dataset", "folder:images", *TRAINING, "--out", "runs/f"),
}


def _env() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}


def _done(*words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=_env(), timeout=240)


def test_modules_in_the_working_directory_are_not_imported(tmp_path: Path) -> None:
    script, mark, folder = tmp_path / "bin" / "rdvae", tmp_path / "imported", tmp_path / "work"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    trap = f"import os\nos.close(os.open({str(mark)!r}, os.O_CREAT))\nraise SystemExit('trapped')\n"
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(trap)
    for package in ("rdkit_vae", "rdvae_analysis"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text(trap)
    images = folder / "images"
    images.mkdir()
    for i in range(1030):
        Image.new("L", (4, 4), i % 256).save(images / f"{i}.png")
    before = {path: path.read_bytes() for path in folder.glob("*.py")}
    for what, arguments in COMMANDS.items():
        done = _done(str(script), *arguments, cwd=folder)
        assert done.returncode == 0, (what, done.stderr)
        assert not mark.exists(), what
    assert {path: path.read_bytes() for path in folder.glob("*.py")} == before
    made = {path.name for path in folder.iterdir()} - {path.name for path in before}
    assert made == {"rdkit_vae", "rdvae_analysis", "images", "runs", "figures"}


@pytest.mark.parametrize("name", ["html", "rdkit_vae"])
def test_python_itself_would_import_them(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("raise SystemExit('trapped')\n")
    assert "trapped" in _done("-c", f"import {name}", cwd=tmp_path).stderr
