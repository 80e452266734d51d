"""What runs/ holds: the paths of a sweep.

    <sweep>/sweep.json                                what was asked
    <sweep>/results/<run_id>.parquet                  a row per checkpoint, split, interpretation
    <sweep>/statistics/<run_id>/epoch=00050.parquet   what each evaluation measured
    <sweep>/checkpoints/<run_id>/epoch=00050.pt       weights and configuration
    <sweep>/checkpoints/<run_id>/resume.pt            where an unfinished trial continues
    <sweep>/samples/<run_id>/epoch=00050.parquet      pictures that it makes, where asked for
    <sweep>/log.jsonl                                 what happened when, an event a line
    <sweep>/crashes/<run_id>.txt                      tracebacks
    <sweep>/lock, claims, partial/                    of the processes at work

Checkpoint, then statistics, then results: a checkpoint counts once the results name its SHA-256.
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

_LONGEST = 1000  # letters of a folder's name that is taken from a file


@dataclass(frozen=True)
class Sweep:
    """The paths of one sweep folder."""

    root: Path

    @property
    def description(self) -> Path:
        """What was asked."""
        return self.root / SWEEP_FILE

    @property
    def log(self) -> Path:
        """What happened, as JSON lines."""
        return self.root / "log.jsonl"

    @property
    def claims(self) -> Path:
        """The file in which a process claims the trials that it runs."""
        return self.root / "claims"

    def run_ids(self) -> list[str]:
        """The trials that were asked for.

        Raises:
            BadData: what was asked cannot be read.
        """
        run_ids = read_json(self.description).get("run_ids")
        if not isinstance(run_ids, list):
            raise BadData(f"{self.description}: damaged (it names no runs)")
        for run_id in run_ids:
            if not is_plain_name(run_id):
                raise BadData(f"{self.description}: damaged ({shown(str(run_id))} names no run)")
        return run_ids

    def data_dir(self) -> Path | None:
        """The folder that the images were read from, where the sweep was told one."""
        try:
            folder = read_json(self.description).get("data_dir")
        except BadData:
            return None
        if not isinstance(folder, str) or not folder.isprintable() or len(folder) > _LONGEST:
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

    def bytes_of(self, run_id: str) -> int:
        """What the checkpoints and statistics of a trial take so far."""
        folders = (self.checkpoint(run_id, 0).parent, self.statistics(run_id, 0).parent)
        return sum(file.stat().st_size for folder in folders for file in folder.glob("epoch=*"))

    def resume_file(self, run_id: str) -> Path:
        """Where an unfinished trial continues; removed when the trial ends."""
        return self.root / "checkpoints" / run_id / "resume.pt"


def sweep_around(checkpoint: Path) -> Sweep | None:
    """The sweep that a checkpoint lies in; None where it lies elsewhere."""
    run = checkpoint.absolute().parent
    sweep = Sweep(run.parent.parent)
    return sweep if run.parent.name == "checkpoints" and sweep.description.exists() else None


def statistics_beside(checkpoint: Path) -> Path:
    """Where a sweep keeps the statistics of a checkpoint that lies in its place."""
    return _beside(checkpoint, "statistics")


def samples_beside(checkpoint: Path) -> Path:
    """Where a sweep keeps the pictures of a checkpoint that lies in its place."""
    return _beside(checkpoint, "samples")


def _beside(checkpoint: Path, kind: str) -> Path:
    run = checkpoint.absolute().parent
    return run.parent.parent / kind / run.name / f"{checkpoint.stem}.parquet"


def find_sweeps(path: Path) -> list[Path]:
    """All sweep folders at or below a path, in order.

    Raises:
        BadData: no such folder.
    """
    if not path.is_dir():
        raise BadData(f"{path}: no such folder")
    return sorted(found.parent for found in path.rglob(SWEEP_FILE))


@functools.cache
def code_version() -> str:
    """The release and a hash of the source files, so that a working copy is told from a release."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for source in sorted(package.rglob("*.py")):
        digest.update(source.relative_to(package).as_posix().encode() + b"\0")
        digest.update(source.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:10]}"


def utc_now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
