"""Local copies of what lies in an object store, so that all else can read it like any folder."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rdkit_vae.errors import BadData
from rdkit_vae.store.objects import ObjectStore, at_once, is_url
from rdkit_vae.system.files import SWEEP_FILE, make_folder, write_atomic

_MARKS = "marks.json"  # of the objects that were copied, by name
RESULTS = ("results",)
EVERYTHING = ("results", "statistics", "checkpoints", "samples", "generation", "priors")
# Folders of a sweep, below which there is no other sweep.
_OF_SWEEP = {*EVERYTHING, "unfinished", "tensorboard", "damaged", "partial", "crashes"}
_CHECKPOINT = re.compile(r"(.+)/checkpoints/([^/]+)/(epoch=\d{1,9})\.pt", re.ASCII)


class Mirror:
    """A folder with copies of objects: those that have changed are copied again.

    Attributes:
        store: where the objects are.
        folder: where the copies are, in `cache_folder`.
    """

    def __init__(self, url: str) -> None:
        self.store = ObjectStore(url)
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        key = hashlib.sha256(f"{self.store.url} {endpoint}".encode()).hexdigest()[:16]
        self.folder = cache_folder() / key / self.store.url.rpartition("/")[2]

    def pull(self, kinds: Sequence[str] = RESULTS) -> Path:
        """Copies what is new in these folders of all sweeps at or below the place.

        Returns:
            The folder of the copies. Results whose object is gone are gone there too.

        Raises:
            StoreFails: the store does not answer, or refuses.
            BadData: a name could not be that of a file, or an object is implausibly large.
            CannotWrite: the copies cannot be written.
        """
        while not self._copy(there := dict(self._walk("", kinds))):
            continue
        for path in (*self.folder.rglob("results/*.parquet"), *self.folder.rglob(SWEEP_FILE)):
            if path.relative_to(self.folder).as_posix() not in there:
                path.unlink(missing_ok=True)
        return self.folder

    def pull_files(self, names: Sequence[str]) -> Path:
        """As `pull`, of single objects."""
        self._copy({n: mark for name in names for n, mark in self.store.marks(name).items()})
        return self.folder

    def _walk(self, folder: str, kinds: Sequence[str]) -> Iterator[tuple[str, str]]:
        """The objects to copy, with their marks."""
        objects, folders = self.store.level(folder)
        for name, mark in objects.items():
            if name.rpartition("/")[2] == SWEEP_FILE:
                yield name, mark
        for each in folders:
            kind = each.rpartition("/")[2]
            if kind in kinds:
                yield from self.store.marks(each).items()
            elif kind not in _OF_SWEEP:
                yield from self._walk(each, kinds)

    def _copy(self, there: dict[str, str]) -> bool:
        """Copies what has changed; False if an object was removed meanwhile.

        Its rows may then be in a part that was not listed yet.
        """
        make_folder(self.folder.parent)
        with self._locked():
            known = self._marks()
            new = [name for name, mark in there.items() if known.get(name) != mark]

            def fetch(name: str) -> bool:
                data = self.store.get(name)
                if data is not None:
                    write_atomic(self.folder / name, data)
                return data is not None

            fetched = at_once(fetch, new)
            copied = [name for name, is_there in zip(new, fetched, strict=True) if is_there]
            if copied:
                marks = known | {name: there[name] for name in copied}
                write_atomic(self.folder.parent / _MARKS, json.dumps(marks).encode())
        return len(copied) == len(new)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time copies into the folder."""
        with (self.folder.parent / "copying").open("a") as file:
            with contextlib.suppress(OSError):  # not every file system has locks
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _marks(self) -> dict[str, str]:
        """The marks of the copies that are still there."""
        try:
            marks = json.loads((self.folder.parent / _MARKS).read_bytes())
        except (OSError, ValueError):
            return {}
        return {name: mark for name, mark in marks.items() if (self.folder / name).exists()}


def local(place: str, kinds: Sequence[str] = RESULTS) -> Path:
    """The local copy of a folder or checkpoint in a store; a path that is no URL is itself.

    Args:
        place: a path, or a URL such as s3://bucket/runs, or of a checkpoint below it.
        kinds: folders of a sweep to copy.

    Raises:
        BadInput: not such a URL.
        BadData: as `Mirror.pull`, or nothing of rdvae is there.
    """
    if not is_url(place):
        return Path(place)
    if checkpoint := _CHECKPOINT.fullmatch(place):
        root, run_id, epoch = checkpoint.groups()
        names = {
            kind: f"{kind}/{run_id}/{epoch}.{suffix}"
            for kind, suffix in (("checkpoints", "pt"), ("statistics", "parquet"))
        }
        folder = Mirror(root).pull_files([SWEEP_FILE, *names.values()])
        copied = folder / names["checkpoints"]
    else:
        copied = Mirror(place).pull(kinds)
    if not copied.exists():
        raise BadData(f"{place}: nothing of rdvae is there")
    return copied


def cache_folder() -> Path:
    """The folder for copies: $RDVAE_CACHE, or rdvae in the user's cache folder."""
    if named := os.environ.get("RDVAE_CACHE"):
        return Path(named).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rdvae"


def is_copy(folder: Path) -> bool:
    """Whether a folder is a local copy of one in a store."""
    return folder.absolute().is_relative_to(cache_folder())
