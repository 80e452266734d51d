"""Scalars of a sweep for TensorBoard, with the extra `tensorboard`; each trial is a run."""

from pathlib import Path
from typing import Any

from rdkit_vae.errors import BadData
from rdkit_vae.store.ledger import rows_of
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.messages import Event, EventKind

_SCALARS = ("rate", "distortion", "elbo")


class Scalars:
    """Writes the events of a sweep into its folder `tensorboard`.

    Writes the loss after each epoch and, when a trial has ended, the rate, distortion and ELBO of
    its checkpoints by split and interpretation, in nats per image. The axis counts epochs.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._writers: dict[str, Any] = {}

    def __call__(self, event: Event) -> None:
        """Writes the scalars of an event."""
        if event.kind is EventKind.EPOCH:
            self._writer(event.run_id).add_scalar("loss", event.loss, event.epoch)
        elif event.kind is EventKind.ENDED:
            writer = self._writer(event.run_id)
            for row in self._rows(event.run_id) if event.status is Status.OK else ():
                for name in _SCALARS:
                    tag = f"{name}/{row['split']}/{row['sigma']}"
                    writer.add_scalar(tag, row[name], row["epoch"])
            self._writers.pop(event.run_id).close()

    def close(self) -> None:
        """Closes all files."""
        for writer in self._writers.values():
            writer.close()

    def _rows(self, run_id: str) -> list[dict[str, Any]]:
        try:
            return rows_of(self._sweep, run_id)
        except BadData:  # not worth ending a sweep for
            return []

    def _writer(self, run_id: str) -> Any:
        import tensorboardX

        if run_id not in self._writers:
            folder = Path(self._sweep.root, "tensorboard", run_id)
            self._writers[run_id] = tensorboardX.SummaryWriter(str(folder))
        return self._writers[run_id]
