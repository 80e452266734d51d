"""Loading results and drawing the rate-distortion figure: seconds and memory, as rows grow.

    python benchmarks/load.py [ROWS ...]

Writes results of so many rows (100,000 and 1,000,000 unless told) into a temporary folder, a file a
run as a sweep leaves them, then loads and draws each size in a process of its own. Prints seconds,
peak memory of the process, and the ratio to what growth in proportion would be.
"""

import resource
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np

from rdkit_vae.config.parsing import SIGMAS
from rdkit_vae.store.paths import code_version, now
from rdkit_vae.store.results import write_results

CHECKPOINTS = (1, 2, 4, 8, 16, 32, 50)
ROWS_PER_RUN = len(CHECKPOINTS) * 2 * len(SIGMAS)
SIZES = (100_000, 1_000_000)


def write(folder: Path, rows: int) -> int:
    """Writes at least so many rows of made-up runs: objectives x 20 betas x seeds."""
    rng, written, stamp = np.random.default_rng(0), 0, now()
    version = code_version()
    betas = np.geomspace(1e-4, 1e3, 20)
    for seed in range(rows):
        for objective, beta in product(("constant", "optimal"), betas):
            if written >= rows:
                return written
            run_id = f"mnist-conv-{objective}-beta={beta:g}-seed={seed}-{rng.bytes(5).hex()}"
            run = list(rows_of_run(run_id, objective, float(beta), seed, rng, version, stamp))
            write_results(folder / "results" / f"{run_id}.parquet", run, {})
            written += len(run)
    return written


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
    frame, _ = scan(folder, POINT_COLUMNS)
    loaded = time.perf_counter()
    points, _ = rd_points(frame)
    save(rd(points), folder / "rd.png")
    drawn = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(len(frame), imported - start, loaded - imported, drawn - loaded, memory)


def main() -> None:
    """Runs every size and prints the table."""
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
        return
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    print(f"{'rows':>9} {'files':>6} {'import':>7} {'load':>7} {'draw':>7} {'all, s':>7} {'MB':>6}")
    whole = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), size)
            command = [sys.executable, __file__, "--measure", folder]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows, *seconds, memory = map(float, out.split())
            files = len(list(Path(folder, "results").iterdir()))
        whole.append((rows, sum(seconds), sum(seconds) - seconds[0]))
        times = " ".join(f"{second:7.2f}" for second in [*seconds, sum(seconds)])
        print(f"{rows:9,.0f} {files:6} {times} {memory:6.0f}")
    (few, _, first), (many, _, last) = whole[0], whole[-1]
    if many > few:
        print(f"seconds without import grew {last / first:.2f} times, rows {many / few:.2f} times")


if __name__ == "__main__":
    main()
