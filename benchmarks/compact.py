"""Loading thousands of small files of results, and the same rows in one: seconds and the ratio.

    python benchmarks/compact.py [FILES]

Writes a sweep of so many trials (5,000 unless told) of 12 to 36 rows into a temporary folder, loads
all columns in a process of its own, runs `rdvae compact`, and loads again. The rows must be equal.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from load import rows_of_run

from rdkit_vae import make_trial
from rdkit_vae.store.compact import compact
from rdkit_vae.store.paths import Sweep, code_version, now
from rdkit_vae.store.results import write_results
from rdkit_vae.system.files import write_json

FILES = 5_000
CHECKPOINTS = ((50,), (25, 50), (10, 25, 50))  # of one trial after another


def write(sweep: Sweep, files: int) -> None:
    """Writes a sweep of made-up trials that have all ended."""
    rng, stamp, version = np.random.default_rng(0), now(), code_version()
    betas = np.geomspace(1e-4, 1e3, 20).tolist()
    for i in range(files):
        objective, beta, seed = ("constant", "optimal")[i % 2], betas[i // 2 % 20], i // 40
        trial = make_trial("digits", objective=objective, beta=beta, seed=seed)
        at = CHECKPOINTS[i % len(CHECKPOINTS)]
        rows = rows_of_run(trial.run_id, objective, beta, seed, rng, version, stamp, at)
        write_results(sweep.results(trial.run_id), list(rows), {"trial": trial.to_dict()})
    write_json(sweep.description, {})


def load(folder: str) -> None:
    """Loads twice, the second time what the disk has ready; prints both, and a hash of the rows."""
    start = time.perf_counter()
    import pandas as pd
    import pyarrow.parquet  # noqa: F401

    from rdvae_analysis.load import scan

    seconds = [time.perf_counter() - start]
    for _ in range(2):
        start = time.perf_counter()
        frame, notes = scan(Path(folder))
        seconds.append(time.perf_counter() - start)
    hashed = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    print(len(frame), len(notes), int(np.bitwise_xor.reduce(hashed)), *seconds[:1], seconds[-1])


def main() -> None:
    """Writes, loads, compacts, loads."""
    if sys.argv[1:2] == ["--load"]:
        load(sys.argv[2])
        return
    files = int(sys.argv[1]) if sys.argv[1:] else FILES
    found = []
    with tempfile.TemporaryDirectory() as folder:
        sweep = Sweep(Path(folder))
        write(sweep, files)
        print(f"{'':>16} {'files':>6} {'rows':>9} {'import':>7} {'load, s':>8} {'MB':>6}")
        for name in ("a file a trial", "compacted"):
            command = [sys.executable, __file__, "--load", folder]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows, notes, hashed, imported, seconds = out.split()
            paths = list((sweep.root / "results").iterdir())
            size = sum(path.stat().st_size for path in paths) / 1e6
            found.append((rows, notes, hashed, float(seconds)))
            print(
                f"{name:>16} {len(paths):6,} {int(rows):9,} {float(imported):7.2f} "
                f"{float(seconds):8.2f} {size:6.1f}"
            )
            start = time.perf_counter()
            compact(sweep)
            if len(found) == 1:
                print(f"{'rdvae compact':>16} {time.perf_counter() - start:.2f} s")
    (*before, slow), (*after, quick) = found
    assert before == after, "other rows than before"
    print(f"compacted: the same rows in {slow / quick:.1f} times less")


if __name__ == "__main__":
    main()
