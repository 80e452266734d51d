"""The layout of runs/: the paths of a sweep.

    <sweep>/sweep.json                                settings of the sweep
    <sweep>/results/<run_id>.parquet                  a row per checkpoint, split, interpretation
    <sweep>/statistics/<run_id>/epoch=00050.parquet   statistics of an evaluation
    <sweep>/checkpoints/<run_id>/epoch=00050.pt       weights and configuration
    <sweep>/checkpoints/<run_id>/resume.pt            state of an unfinished trial
    <sweep>/samples/<run_id>/epoch=00050.parquet      pictures of a checkpoint, if requested
    <sweep>/generation/<run_id>/epoch=00050.parquet   distances of its samples, if requested
    <sweep>/priors/<run_id>/epoch=00050.parquet       its rate under fitted priors, if requested
    <sweep>/log.jsonl                                 log, one event per line
    <sweep>/crashes/<run_id>.txt                      tracebacks
    <sweep>/lock, claims, partial/                    files of running processes

Checkpoints are written first, then statistics, then results: a checkpoint counts once the results
contain its SHA-256.
"""

import functools
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rdkit_vae import __version__
from rdkit_vae.errors import BadData
from rdkit_vae.system.files import SWEEP_FILE, read_json
from rdkit_vae.text import is_plain_name, shown

_MAX_FOLDER_LENGTH = 1000  # characters of a path read from a file


@dataclass(frozen=True)
class Sweep:
    """The paths of one sweep folder."""

    root: Path

    @property
    def description(self) -> Path:
        """The settings of the sweep."""
        return self.root / SWEEP_FILE

    @property
    def log(self) -> Path:
        """The log, in JSON lines."""
        return self.root / "log.jsonl"

    @property
    def claims(self) -> Path:
        """The file in which processes claim the trials that they run."""
        return self.root / "claims"

    def run_ids(self) -> list[str]:
        """Returns the trials of the sweep.

        Raises:
            BadData: `sweep.json` cannot be read.
        """
        run_ids = read_json(self.description).get("run_ids")
        if not isinstance(run_ids, list):
            raise BadData(f"{self.description}: damaged (it has no list of runs)")
        for run_id in run_ids:
            if not is_plain_name(run_id):
                raise BadData(
                    f"{self.description}: damaged ({shown(str(run_id))} is not a valid run name)"
                )
        return run_ids

    def data_dir(self) -> Path | None:
        """Returns the `--data-dir` of the sweep, if it had one."""
        try:
            folder = read_json(self.description).get("data_dir")
        except BadData:
            return None
        if (
            not isinstance(folder, str)
            or not folder.isprintable()
            or len(folder) > _MAX_FOLDER_LENGTH
        ):
            return None
        return Path(folder) if Path(folder).is_absolute() else None

    def results(self, run_id: str) -> Path:
        """The results of one trial."""
        return self.root / "results" / f"{run_id}.parquet"

    def statistics(self, run_id: str, epoch: int) -> Path:
        """The statistics of one checkpoint."""
        return self.root / "statistics" / run_id / f"epoch={epoch:05d}.parquet"

    def checkpoint(self, run_id: str, epoch: int) -> Path:
        """One checkpoint."""
        return self.root / "checkpoints" / run_id / f"epoch={epoch:05d}.pt"

    def measured(self, kind: str, run_id: str, epoch: int) -> Path:
        """The file of one checkpoint in the folder `generation` or `priors`."""
        return self.root / kind / run_id / f"epoch={epoch:05d}.parquet"

    def bytes_of(self, run_id: str) -> int:
        """Returns the size of the checkpoints and statistics of a trial."""
        folders = (self.checkpoint(run_id, 0).parent, self.statistics(run_id, 0).parent)
        return sum(file.stat().st_size for folder in folders for file in folder.glob("epoch=*"))

    def resume_file(self, run_id: str) -> Path:
        """The state from which an unfinished trial continues; removed when the trial ends."""
        return self.root / "checkpoints" / run_id / "resume.pt"


def sweep_around(checkpoint: Path) -> Sweep | None:
    """Returns the sweep that contains a checkpoint; None if it is outside a sweep."""
    run = checkpoint.absolute().parent
    sweep = Sweep(run.parent.parent)
    return sweep if run.parent.name == "checkpoints" and sweep.description.exists() else None


def statistics_beside(checkpoint: Path) -> Path:
    """Returns the path of the statistics of a checkpoint in a sweep."""
    return _beside(checkpoint, "statistics")


def samples_beside(checkpoint: Path) -> Path:
    """Returns the path of the pictures of a checkpoint in a sweep."""
    return _beside(checkpoint, "samples")


def _beside(checkpoint: Path, kind: str) -> Path:
    run = checkpoint.absolute().parent
    return run.parent.parent / kind / run.name / f"{checkpoint.stem}.parquet"


def find_sweeps(path: Path) -> list[Path]:
    """Returns all sweep folders at or below a path, sorted.

    Raises:
        BadData: the folder does not exist.
    """
    if not path.is_dir():
        raise BadData(f"{path}: no such folder")
    return sorted(file.parent for file in path.rglob(SWEEP_FILE))


@functools.cache
def code_version() -> str:
    """Returns the release and a hash of the source files, which tells modified copies apart."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for source in sorted(package.rglob("*.py")):
        digest.update(source.relative_to(package).as_posix().encode() + b"\0")
        digest.update(source.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:10]}"


def utc_now() -> str:
    """Returns the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
