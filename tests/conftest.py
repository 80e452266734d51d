"""What many tests share: a tiny dataset, real MNIST where it is, and one real sweep."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rdkit_vae import Trial, cli, load_dataset, make_trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.scoring.statistics import Statistics

ROOT = Path(__file__).parent.parent
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def digits() -> Images:
    return load_dataset("digits")


@pytest.fixture
def tiny() -> Images:
    """40 + 10 images of 1x6x6 that a network can learn something from."""
    rng = np.random.default_rng(0)
    ramp = np.arange(36).reshape(1, 1, 6, 6) * rng.integers(1, 7, (50, 1, 1, 1))
    pixels = ramp.astype(np.uint8)
    return Images(name="npz:tiny", train=pixels[:40], test=pixels[40:], split_rule="by hand")


@pytest.fixture
def as_mnist(tiny: Images) -> Images:
    """The same within 1x28x28, which protocol `paper` warps."""
    train, test = (
        np.pad(split, ((0, 0), (0, 0), (11, 11), (11, 11))) for split in (tiny.train, tiny.test)
    )
    return replace(tiny, train=train, test=test, sha256="")


@pytest.fixture
def tiny_trial() -> Trial:
    return make_trial(
        "npz:tiny", architecture="mlp", latents=3, epochs=4, batch_size=16, draws=5, beta=0.1
    )


@pytest.fixture
def statistics() -> dict[str, Statistics]:
    """Made-up statistics of 20 train and 15 test images, 4 draws, D = 9."""
    rng = np.random.default_rng(1)

    def made(n: int) -> Statistics:
        return Statistics(
            image=np.arange(n),
            kl=rng.gamma(2.0, 2.0, n),
            sse=rng.gamma(3.0, 0.2, (n, 4)),
            log_ratio=-rng.gamma(2.0, 2.0, (n, 4)),
            dims=9,
            own_sigma2=0.07,
        )

    return {"train": made(20), "test": made(15)}


@pytest.fixture(scope="session")
def rdvae(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the console command in a folder of its own, as a user would."""
    home = tmp_path_factory.mktemp("work")

    def run(
        *arguments: str | Path, cwd: Path = home, **env: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rdkit_vae", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, "PYTHONSAFEPATH": "1", "RDVAE_DATA": "", **env},
            capture_output=True,
            text=True,
            timeout=240,
        )

    return run


@pytest.fixture(scope="session")
def small_sweep() -> tuple[str, ...]:
    """The arguments of a sweep of seconds: 3 betas x 2 objectives x 2 seeds, linear, on digits."""
    return (
        *("sweep", "--betas", "0.01,1,100", "--seeds", "2", "--architecture", "linear"),
        *("--latents", "4", "--epochs", "3", "--draws", "2", "--batch-size", "256"),
    )


@pytest.fixture(scope="session")
def sweep_folder(
    rdvae: Run, small_sweep: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """That sweep, done. Not to be changed by a test."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    done = rdvae(*small_sweep, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder of the real MNIST files; skips where there is none."""
    for place in (os.environ.get("RDVAE_DATA"), ROOT.parent / "shared" / "data"):
        if place and (Path(place) / "train-images-idx3-ubyte.gz").exists():
            return Path(place)
    pytest.skip("the MNIST files are not here (RDVAE_DATA)")


@pytest.fixture(scope="session")
def imported_by() -> Callable[..., set[str]]:
    """Tells which top-level modules a command has imported when it ends."""

    def imported(*arguments: str | Path, **env: str) -> set[str]:
        """Top-level modules that a command has imported when it ends."""
        program = (
            "import sys\n"
            "sys.argv = ['rdvae', *sys.argv[1:]]\n"
            "from rdkit_vae.cli import main\n"
            "try:\n"
            "    main()\n"
            "except SystemExit:\n"
            "    pass\n"
            "print('MODULES', *{name.partition('.')[0] for name in sys.modules})\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **env},
        )
        return set(done.stdout.rpartition("MODULES")[2].split())

    return imported


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """As `rdvae`, in this process: faster, for commands that leave nothing behind in it."""

    def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        words = list(map(str, arguments))
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["rdvae", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        code = ended.value.code
        return subprocess.CompletedProcess(words, code if isinstance(code, int) else 0, out, err)

    return run
