import shutil
import struct
from pathlib import Path

import pandas as pd
import pytest

from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.schema import Status
from rdkit_vae.sweeps.messages import Event, EventKind
from rdkit_vae.sweeps.tensorboard import Scalars

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")


def _scalars(path: Path) -> dict[tuple[str, int], float]:
    """What a file of TensorBoard's records holds: a length, its checksum, a message, a checksum."""
    data, at, found = path.read_bytes(), 0, {}
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
        found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
        at += 16 + length
    return found


def test_tensorboard_sees_the_losses_and_the_rows(sweep_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep_folder, tmp_path / "x")
    sweep = Sweep(tmp_path / "x")
    run_id = sweep.run_ids()[0]
    scalars = Scalars(sweep)
    for epoch in (1, 2, 3):
        scalars(Event(run_id=run_id, kind=EventKind.EPOCH, epoch=epoch, loss=1.5 * epoch))
    scalars(Event(run_id=run_id, kind=EventKind.ENDED, status=Status.OK))
    scalars(Event(run_id="other", kind=EventKind.EPOCH, epoch=1, loss=1.0))
    scalars(Event(run_id="other", kind=EventKind.ENDED, status=Status.CRASHED))
    scalars.close()
    (path,) = (tmp_path / "x" / "tensorboard" / run_id).iterdir()
    found = _scalars(path)
    assert [found["loss", epoch] for epoch in (1, 2, 3)] == [1.5, 3.0, 4.5]
    for row in pd.read_parquet(sweep.results(run_id)).itertuples():
        for name in ("rate", "distortion", "elbo"):
            stored = found[f"{name}/{row.split}/{row.sigma}", row.epoch]
            assert stored == pytest.approx(getattr(row, name), rel=1e-6)
