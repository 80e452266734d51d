"""Loading results and drawing the rate-distortion figure: seconds and peak memory.

    python benchmarks/load.py

Three cases, each loaded and drawn in a process of its own: a sweep of 1,000 runs as it lies on the
disk, a file a run; and 100,000 and 1,000,000 rows of such runs in one file, as `rdvae export`
writes it. Prints seconds beside the bar that each must stay below, and how the last two grow.
"""

import resource
import subprocess
import sys
import tempfile
import time
from itertools import count, islice, product
from pathlib import Path

import numpy as np
import pandas as pd

from rdkit_vae.scoring.interpretations import SIGMAS
from rdkit_vae.store.paths import code_version, utc_now
from rdkit_vae.store.results import encode_results, write_results
from rdkit_vae.store.schema import COLUMNS

CHECKPOINTS = (1, 2, 4, 8, 16, 32, 50)
FILES, ROWS = 1_000, (100_000, 1_000_000)
BARS = (3.0, 4.0, 25.0)  # seconds to load the files; to load and draw the rows in one file


def runs(rng: np.random.Generator, checkpoints: tuple[int, ...] = CHECKPOINTS):
    """Made-up runs without end, as lists of rows: objectives x 20 betas x seeds."""
    stamp, version = utc_now(), code_version()
    for seed in count():
        for objective, beta in product(("constant", "optimal"), np.geomspace(1e-4, 1e3, 20)):
            run_id = f"mnist-conv-{objective}-beta={beta:g}-seed={seed}-{rng.bytes(5).hex()}"
            yield list(
                rows_of_run(run_id, objective, float(beta), seed, rng, version, stamp, checkpoints)
            )


def write_files(folder: Path, files: int) -> None:
    """Writes so many runs of three checkpoints, a file each."""
    for run in islice(runs(np.random.default_rng(0), (10, 25, 50)), files):
        write_results(folder / "results" / f"{run[0]['run_id']}.parquet", run, {})


def write_rows(folder: Path, rows: int) -> None:
    """Writes at least so many rows into one file."""
    per_run = len(CHECKPOINTS) * 2 * len(SIGMAS)
    made = islice(runs(np.random.default_rng(0)), -(-rows // per_run))
    frame = pd.DataFrame([row for run in made for row in run], columns=list(COLUMNS))
    (folder / "all.parquet").write_bytes(encode_results(frame, {}))


def rows_of_run(run_id, objective, beta, seed, rng, version, stamp, checkpoints=CHECKPOINTS):
    """The rows of one made-up run: a row per checkpoint, split and interpretation."""
    for epoch, split, sigma in product(checkpoints, ("train", "test"), SIGMAS):
        rate = 100 / (1 + beta * 10) + 0.1 * rng.random()
        distortion = 800 / (1 + rate / 10) + (300 if sigma == "half" else 0)
        yield {
            **{"run_id": run_id, "curve": f"{objective}-0123456789", "setup": "9876543210"},
            **{"dataset": "mnist", "architecture": "conv", "latents": 32, "objective": objective},
            **{"beta": beta, "seed": seed, "protocol": "clean", "epoch": epoch, "epochs": 50},
            **{"step": 118 * epoch, "split": split, "sigma": sigma, "sigma2": 0.01},
            **{"train_sigma2": 0.5 if objective == "constant" else None, "floored": 0.0},
            **{"is_density": sigma != "optimal", "caveat": "", "rate": rate, "rate_se": 0.1},
            **{"distortion": distortion, "elbo": -rate - distortion, "mse": 0.01, "psnr": 20.0},
            **{"distortion_se": 1.0, "elbo_se": 1.0, "bits_per_dim": 0.5, "n_images": 10_000},
            **{"mutual_information": 9.0, "mutual_information_se": 0.1, "marginal_kl": rate - 9},
            **{"active_units": 20, "n_draws": 8, "dims": 784, "status": "ok"},
            **{"checkpoint_sha256": f"{epoch:02d}" * 32, "code_version": version},
            **{"created_at": stamp},
        }


def measure(folder: Path) -> None:
    """Loads and draws in this process; prints rows, seconds of each, and peak MB."""
    start = time.perf_counter()
    from rdvae_analysis.figures.rd import rd
    from rdvae_analysis.figures.style import save
    from rdvae_analysis.load import scan
    from rdvae_analysis.points import POINT_COLUMNS, rd_points

    imported = time.perf_counter()
    frame, _ = scan(folder, columns=POINT_COLUMNS)
    loaded = time.perf_counter()
    points, _ = rd_points(frame)
    save(rd(points), folder / "rd.png")
    drawn = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(len(frame), imported - start, loaded - imported, drawn - loaded, memory)


def main() -> None:
    """Runs every case and prints the table."""
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
        return
    print(f"{'files':>6} {'rows':>9} {'import':>7} {'load':>7} {'draw':>7} {'bar, s':>7} {'MB':>6}")
    cases = [(write_files, FILES), *((write_rows, rows) for rows in ROWS)]
    whole = []
    for (write, size), bar in zip(cases, BARS, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), size)
            command = [sys.executable, __file__, "--measure", folder]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows, *seconds, memory = map(float, out.split())
            files = len(list(Path(folder).rglob("*.parquet")))
        whole.append((rows, sum(seconds[1:])))
        times = " ".join(f"{second:7.2f}" for second in [*seconds, bar])
        print(f"{files:6,} {rows:9,.0f} {times} {memory:6.0f}")
    (_, (few, first), (many, last)) = whole
    print(f"one file: rows grew {many / few:.2f} times, seconds {last / first:.2f} times")


if __name__ == "__main__":
    main()
