"""Trials whose files go to an object store: whole objects, in the order in which they count.

A trial trains in a folder of its machine and publishes each checkpoint and its statistics. The
object of its results comes last: once it is there the trial has ended, whoever ran it. Until then
`unfinished/RUN_ID` holds what another machine needs to go on:

    <sweep>/unfinished/<run_id>/results.parquet   rows of the checkpoints so far
    <sweep>/unfinished/<run_id>/resume.pt         as in a folder

Two processes may run the same trial. What one has published the other keeps, so that rows,
statistics and checkpoints belong together even where machines compute other last bits.
"""

import shutil
from pathlib import Path

from rdkit_vae.errors import BadData
from rdkit_vae.store.evaluations import Row, read_evaluation
from rdkit_vae.store.ledger import state_of
from rdkit_vae.store.objects import ObjectStore
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.results import read_results
from rdkit_vae.store.schema import Status
from rdkit_vae.system.files import sha256_of, write_atomic


class Publisher:
    """Moves the files of trials between a sweep in a store and a folder of this process alone."""

    def __init__(self, store: ObjectStore, scratch: Sweep) -> None:
        self._store, self._scratch = store, scratch

    def fetch(self, run_id: str) -> bool:
        """Brings what is needed to go on with a trial; returns whether it has ended well.

        Raises:
            StoreFails: the store does not answer, or refuses.
            BadData: what it holds is damaged.
        """
        self._clear(run_id)
        results = self._scratch.results(run_id)
        if self._has_ended_well(run_id):
            return True
        self._copy(self._unfinished(run_id, "results.parquet"), results)  # of a failure run again
        self._copy(self._unfinished(run_id, "resume.pt"), self._scratch.resume_file(run_id))
        if results.exists():
            for epoch in set(read_results(results, ["epoch"])["epoch"].to_pylist()):
                for file in self._of_checkpoint(run_id, epoch):
                    self._copy(self._name(file), file)
        return False

    def commit(self, run_id: str, epoch: int) -> list[Row] | None:
        """Publishes a checkpoint and its statistics.

        Returns:
            The rows of those that another process has published before; None if there are none.

        Raises:
            StoreFails: the store does not answer, or refuses.
        """
        checkpoint, statistics = self._of_checkpoint(run_id, epoch)
        own = {file: file.read_bytes() for file in (statistics, checkpoint)}
        if all(self._store.create(self._name(file), data) for file, data in own.items()):
            return None
        try:
            if all(self._copy(self._name(file), file) for file in own):
                theirs = read_evaluation(statistics)
                if theirs.checkpoint_sha256 == sha256_of(checkpoint):
                    return theirs.rows()
        except BadData:
            pass
        for file, data in own.items():  # whoever published the other has died between the two
            write_atomic(file, data)
            self._store.put(self._name(file), data)
        return None

    def save(self, run_id: str) -> None:
        """Publishes the state of an unfinished trial, and the rows of its checkpoints so far."""
        for file in (self._scratch.resume_file(run_id), self._scratch.results(run_id)):
            if file.exists():
                name = "resume.pt" if file.suffix == ".pt" else "results.parquet"
                self._store.put(self._unfinished(run_id, name), file.read_bytes())

    def end(self, run_id: str) -> None:
        """Publishes the results of a trial that has ended, unless it has ended well elsewhere."""
        results = self._scratch.results(run_id)
        name, data = self._name(results), results.read_bytes()
        if not self._store.create(name, data) and not self._has_ended_well(run_id):
            self._store.put(name, data)
        self._store.remove(self._store.marks(f"unfinished/{run_id}"))
        self._clear(run_id)

    def _has_ended_well(self, run_id: str) -> bool:
        """Whether the store has the results of a success; what it has is here then."""
        results = self._scratch.results(run_id)
        self._copy(self._name(results), results)
        return state_of(self._scratch, run_id).status is Status.OK

    def _clear(self, run_id: str) -> None:
        """Removes the files of a trial from the scratch folder."""
        for file in self._of_checkpoint(run_id, 0):
            shutil.rmtree(file.parent, ignore_errors=True)
        self._scratch.results(run_id).unlink(missing_ok=True)

    def _of_checkpoint(self, run_id: str, epoch: int) -> tuple[Path, Path]:
        return self._scratch.checkpoint(run_id, epoch), self._scratch.statistics(run_id, epoch)

    def _copy(self, name: str, file: Path) -> bool:
        """Copies an object to a file; returns whether there is one."""
        data = self._store.get(name)
        if data is not None:
            write_atomic(file, data)
        return data is not None

    def _name(self, file: Path) -> str:
        return file.relative_to(self._scratch.root).as_posix()

    def _unfinished(self, run_id: str, name: str) -> str:
        return f"unfinished/{run_id}/{name}"
