"""Files that claim more than they are, each refused in a process that has little memory."""

import contextlib
import copy
import io
import os
import pickle
import stat
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rdkit_vae.config.grid import make_trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.models import ARCHITECTURES
from rdkit_vae.objectives.losses import OBJECTIVES
from rdkit_vae.store.checkpoints import load_checkpoint, save_resume_file
from rdkit_vae.training.state import Training
from rdkit_vae.training.steps import Pack

GIGA = 2**30


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, digits: Images) -> Path:
    path = tmp_path_factory.mktemp("good") / "x.pt"
    training = Training(make_trial("digits", architecture="mlp", latents=3, beta=1), digits)
    Pack([training]).run_epoch()
    save_resume_file(path, training)
    return path


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other)


@pytest.mark.parametrize(
    ("architecture", "objective"),
    [*((name, "optimal") for name in ARCHITECTURES), *(("linear", name) for name in OBJECTIVES)],
)
def test_what_torch_reads_is_read(
    architecture: str, objective: str, tiny: Images, tmp_path: Path
) -> None:
    trial = make_trial(
        "npz:tiny", architecture=architecture, objective=objective, latents=3, beta=1, epochs=2
    )
    training = Training(trial, tiny)
    Pack([training]).run_epoch()
    for path in (tmp_path / "middle.pt", tmp_path / "end.pt"):
        save_resume_file(path, training)
        expected = torch.load(path, weights_only=True)
        found = load_checkpoint(path).state
        assert _same(found, {name: expected[name] for name in found})
        Pack([training]).run_epoch() if training.epoch < 2 else None


# What is saved, by what is wrong with it: each takes what a good checkpoint holds and changes it.


def _content(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda content: {**content, **changes}


def _weight(made: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Another tensor in the place of the first weight."""

    def changed(content: dict[str, Any]) -> dict[str, Any]:
        name, weight = next(iter(content["model"].items()))
        return {**content, "model": {**content["model"], name: made(weight)}}

    return changed


def _moment(made: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Other averages of the squared gradients."""

    def changed(content: dict[str, Any]) -> dict[str, Any]:
        moments = content["moments"]
        return {**content, "moments": {**moments, "exp_avg_sq": made(moments["exp_avg_sq"])}}

    return changed


def _first(moments: dict[str, Any], value: torch.Tensor) -> dict[str, Any]:
    return {**moments, next(iter(moments)): value}


def _tied(content: dict[str, Any]) -> dict[str, Any]:
    weights = content["model"]
    square = [name for name, weight in weights.items() if weight.shape == (64, 64)]
    return {**content, "model": {**weights, square[0]: weights[square[1]].view(64, 64)}}


def _laughs(pair: Callable[[Any], Any], deep: int = 60) -> Any:
    value: Any = ()
    for _ in range(deep):
        value = pair(value)
    return value


class _Called:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


def _big(content: dict[str, Any]) -> dict[str, Any]:
    trial = {**content["trial"], "latents": 65536, "architecture": "conv"}
    return {**content, "trial": trial, "shape": [3, 10_000, 10_000]}


SAVED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "stride 0": (_weight(lambda w: torch.zeros(1).expand(w.shape)), "not dense"),
    "stride 0, gigabytes": (_weight(lambda w: torch.zeros(1).expand(GIGA)), "not float32 (64, 64)"),
    "transposed": (_weight(lambda w: w.T.contiguous().T), "not dense"),
    "part of a record": (_weight(lambda w: torch.zeros(65, 64)[1:]), "not dense"),
    "tied": (_tied, "shares its data"),
    "sparse": (
        _weight(lambda w: torch.sparse_coo_tensor(size=(GIGA, GIGA), check_invariants=True)),
        "contains torch._utils._rebuild_sparse_tensor",
    ),
    "quantized": (
        _weight(lambda w: _Called(torch._utils._rebuild_qtensor, ())),
        "contains torch._utils._rebuild_qtensor",
    ),
    "meta": (
        _weight(lambda w: torch.empty(GIGA, GIGA, device="meta")),
        "contains torch._utils._rebuild_meta_tensor_no_storage",
    ),
    "parameter": (_weight(torch.nn.Parameter), "contains torch._utils._rebuild_parameter"),
    "complex": (_weight(lambda w: w.to(torch.complex64)), "contains torch.ComplexFloatStorage"),
    "double": (_weight(lambda w: w.double()), "float64 (64, 64), not float32 (64, 64)"),
    "no tensor": (_weight(lambda w: [0.0]), "is not a tensor"),
    "bytearray": (_weight(lambda w: _Called(bytearray, (8 * GIGA,))), "bytearray"),
    "a set": (_content(extra={1}), "contains __builtin__.set"),
    "lists of one list": (_content(epoch=_laughs(lambda v: [v, v])), "in two places"),
    "epochs of one tuple": (_content(epoch=_laughs(lambda v: (v, v))), "in two places"),
    "a key of tuples": (_content(extra={_laughs(lambda v: (v,)): 1}), "neither a text nor"),
    "deep values": (_content(epoch=_laughs(lambda v: [v], 150)), "epoch is"),
    "long text": (_content(code_version="x" * 2**21), "other than tensors are too large"),
    "latents": (_big, "does not hold the weights of conv"),
    "a shape beyond numbers": (_content(shape=[10**30] * 3), "damaged"),
    "a side of no number": (_content(shape=[1, 8, 8.0]), "shape is"),
    "no levels": (_content(levels=2**40), "levels is"),
    "one moment less": (
        _moment(lambda m: dict(list(m.items())[1:])),
        "does not hold exp_avg_sq of every weight",
    ),
    "moments of another shape": (
        _moment(lambda m: _first(m, torch.zeros(2))),
        "is float32 (2,)",
    ),
    "moments that claim gigabytes": (
        _moment(lambda m: _first(m, torch.zeros(1).expand(64, 64))),
        "not dense",
    ),
    "no moments": (_content(moments={}), "not those of AdamW"),
    "another optimiser": (_content(moments=[1]), "not those of AdamW"),
    "a tensor that nobody asked for": (
        _content(extra=torch.zeros(1).expand(GIGA)),
        "not dense",
    ),
}


# What is wrong with the file around it.


def _rewritten(good: Path, path: Path, changed: Callable[[str, bytes], bytes | None]) -> None:
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = changed(name, old.read(name))
            if data is not None:
                new.writestr(name, data)


def _short_record(good: Path, path: Path) -> None:
    """A tensor of the right shape, whose record ends long before: reading on, there is a crash."""
    _rewritten(good, path, lambda name, data: data[:4] if name.endswith("data/0") else data)


def _lost_record(good: Path, path: Path) -> None:
    _rewritten(good, path, lambda name, data: None if name.endswith("data/0") else data)


def _more_records(good: Path, path: Path) -> None:
    _rewritten(good, path, lambda name, data: data)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/more", bytes(2**20))


class _Repeats:
    """Deflates zeros in no time: each block is the same."""

    def __init__(self, block: bytes) -> None:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        self.block = deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH)

    def compress(self, _: Any) -> bytes:
        return self.block

    def flush(self) -> bytes:
        return b"\x03\x00"


def _bomb(good: Path, path: Path) -> None:
    """A record that inflates to 2 GiB."""
    zeros = bytes(2**24)
    _rewritten(good, path, lambda name, data: None if name.endswith("data/0") else data)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("archive/data/0", "w", force_zip64=True) as record:
            record._compressor = _Repeats(zeros)  # type: ignore[attr-defined]
            for _ in range(2 * GIGA // len(zeros)):
                record.write(zeros)
        assert archive.getinfo("archive/data/0").file_size == 2 * GIGA
    assert path.stat().st_size < 10 * 2**20


def _claims(good: Path, path: Path) -> None:
    """A stored record that says it is of 6 GiB."""
    _rewritten(good, path, lambda name, data: data)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"x"  # so that the table is written anew
        record = archive.getinfo("archive/data/0")
        record.file_size = record.compress_size = 6 * GIGA


def _same_record_often(good: Path, path: Path) -> None:
    """Many records in one place: each is in the file, and all of them are not."""
    _rewritten(good, path, lambda name, data: data)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"x"
        first = archive.getinfo("archive/data/0")
        for i in range(100):
            again = copy.copy(first)
            again.filename = f"archive/data/again-{i}"
            archive.filelist.append(again)


def _holes(good: Path, path: Path) -> None:
    """8 GiB of which the disk holds none."""
    path.write_bytes(good.read_bytes())
    os.truncate(path, 8 * GIGA)


def _table_of_holes(good: Path, path: Path) -> None:
    """The same, whose end says that nearly all of it is the table of records."""
    _holes(good, path)
    size = 3 * GIGA
    os.truncate(path, size)
    with path.open("ab") as file:
        end = (0x06054B50).to_bytes(4, "little") + bytes(4) + b"\1\0\1\0"
        file.write(end + size.to_bytes(4, "little") + bytes(4) + b"\0\0")


def _nested(good: Path, path: Path) -> None:
    """A pickle of nothing but lists in lists."""
    pickled = b"\x80\x02" + b"]" * 2**23 + b"a" * (2**23 - 1) + b"."
    _rewritten(good, path, lambda name, data: pickled if name.endswith(".pkl") else data)


def _pickled(value: Any) -> Callable[[Path, Path], None]:
    def write(good: Path, path: Path) -> None:
        pickled = pickle.dumps(value, protocol=2)
        _rewritten(good, path, lambda name, data: pickled if name.endswith(".pkl") else data)

    return write


def _another_order(good: Path, path: Path) -> None:
    _rewritten(good, path, lambda name, data: b"big" if name.endswith("byteorder") else data)


def _other_weights(good: Path) -> bytes:
    """The same file, with a tensor of 64 MB in it."""
    content = torch.load(good, weights_only=True)
    content["model"][next(iter(content["model"]))] = torch.zeros(2**24)
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _two_tables(good: Path, path: Path) -> None:
    """Two archives: the table of the second is found from the end, where the end points to the
    first, which PyTorch then reads."""
    first, second = _other_weights(good), good.read_bytes()
    file = bytearray(first + second)
    struct.pack_into("<Q", file, len(file) - 22 - 20 + 8, len(first) - 22 - 20 - 56)
    path.write_bytes(file)
    sizes = {record.file_size for record in zipfile.ZipFile(path).infolist()}
    assert sizes == {record.file_size for record in zipfile.ZipFile(good).infolist()}
    loaded = torch.load(path, weights_only=True)["model"]
    assert next(iter(loaded.values())).numel() == 2**24


def _shifted_table(good: Path, path: Path) -> None:
    """Something before the records: one reader counts from the start, another from the end."""
    path.write_bytes(_other_weights(good) + good.read_bytes())


def _behind(good: Path, path: Path) -> None:
    """A second archive in the comment of the first."""
    first, other = bytearray(good.read_bytes()), _other_weights(good)[:60_000]
    first[-2:] = len(other).to_bytes(2, "little")
    path.write_bytes(bytes(first) + other)


def _between(good: Path, path: Path) -> None:
    """A gap behind the records, which the table does not name."""
    data = good.read_bytes()
    start = zipfile.ZipFile(good).start_dir
    hidden = zipfile.ZipFile(io.BytesIO(data)).infolist()
    file = bytearray(data[:start] + b"hidden" + data[start:])
    for at, form in ((-22 + 16, "<I"), (-22 - 20 + 8, "<Q"), (-22 - 20 - 56 + 48, "<Q")):
        (value,) = struct.unpack_from(form, file, len(file) + at)
        struct.pack_into(form, file, len(file) + at, value + len(b"hidden"))
    path.write_bytes(file)
    assert len(zipfile.ZipFile(path).infolist()) == len(hidden)


def _two_names(good: Path, path: Path) -> None:
    """The record of one tensor says at its place that it is another's."""
    data = good.read_bytes()
    record = zipfile.ZipFile(good).getinfo(_record_of(good, "data/1"))
    at = record.header_offset + 30
    path.write_bytes(data[:at] + data[at:].replace(b"data/1", b"data/0", 1))


def _two_sizes(good: Path, path: Path) -> None:
    """The record of one tensor says at its place that it is longer, and of another checksum."""
    data = bytearray(good.read_bytes())
    record = zipfile.ZipFile(good).getinfo(_record_of(good, "data/1"))
    struct.pack_into("<3I", data, record.header_offset + 14, 1, GIGA, GIGA)
    path.write_bytes(data)


def _two_ends(good: Path, path: Path) -> None:
    """The short form of the end names a record fewer than the long one."""
    data = bytearray(good.read_bytes())
    (count,) = struct.unpack_from("<H", data, len(data) - 22 + 10)
    struct.pack_into("<2H", data, len(data) - 22 + 8, count - 1, count - 1)
    path.write_bytes(data)


def _wrong_checksum(good: Path, path: Path) -> None:
    data = bytearray(good.read_bytes())
    record = zipfile.ZipFile(good).getinfo(_record_of(good, "data/1"))
    end = data.index(b"PK\x07\x08", record.header_offset)
    data[end - 1] ^= 1
    path.write_bytes(data)


def _record_of(good: Path, name: str) -> str:
    return next(r for r in zipfile.ZipFile(good).namelist() if r.endswith(f"/{name}"))


WRITTEN: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "short record": (_short_record, "do not have the sizes of their records"),
    "lost record": (_lost_record, "do not have the sizes of their records"),
    "more records": (_more_records, "do not have the sizes of their records"),
    "zip bomb": (_bomb, "is compressed"),
    "a record of 6 GiB": (_claims, "claims to hold more than its"),
    "one record often": (_same_record_often, "claims to hold more than its"),
    "8 GiB of holes": (_holes, "not a PyTorch file, or cut short"),
    "a table of holes": (_table_of_holes, "its table of records has"),
    "nested lists": (_nested, "other than tensors are too large"),
    "a number": (_pickled(3), "a PyTorch file of another program"),
    "a call": (_pickled(_Called(os.getpid, ())), "contains posix.getpid"),
    "big-endian": (_another_order, "another byte order"),
    "two tables": (_two_tables, "before or between its records"),
    "an archive before": (_shifted_table, "before or between its records"),
    "an archive behind": (_behind, "extra data at its end"),
    "a gap": (_between, "table of records is misplaced"),
    "two names": (_two_names, "contradict each other"),
    "two sizes": (_two_sizes, "contradict each other"),
    "two ends": (_two_ends, "its two end records contradict each other"),
    "wrong checksum": (_wrong_checksum, "archive/data/1 has a wrong checksum"),
}

# Loads each file with half a gigabyte to spare, says what came of it, and how much memory grew.
LIMITED = """
import re, resource, sys, zipfile
import torch
from rdkit_vae.store.checkpoints import load_checkpoint
from rdkit_vae.errors import BadData
load_checkpoint(sys.argv[1])
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 2**29
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
def most():  # not ru_maxrss, which starts with that of the parent
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
before = most()
for path in sys.argv[2:]:
    try:
        load_checkpoint(path)
        print("loaded")
    except BadData as error:
        print(error)
print(most() - before)
for armed in (
    lambda: torch.load(sys.argv[2], weights_only=True),
    lambda: zipfile.ZipFile(sys.argv[3]).read("archive/data/0"),
):
    try:
        armed()
    except MemoryError:
        print("MemoryError")
"""


def test_no_file_is_given_more_memory_than_it_fills(good: Path, tmp_path: Path) -> None:
    reasons = {}
    for what, (change, reason) in SAVED.items():
        path = tmp_path / f"{what}.pt"
        torch.save(change(torch.load(good, weights_only=True)), path)
        reasons[path] = reason
    for what, (write, reason) in WRITTEN.items():
        path = tmp_path / f"{what}.pt"
        write(good, path)
        reasons[path] = reason
    first = [tmp_path / "bytearray.pt", tmp_path / "zip bomb.pt"]
    paths = [*first, *(path for path in reasons if path not in first)]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(good), *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    *messages, grown, call, bomb = done.stdout.splitlines()
    told = zip(paths, messages, strict=True)
    wrong = [
        message
        for path, message in told
        if not message.startswith(f"{path}: ") or reasons[path] not in message
    ]
    assert not wrong
    assert all("; train it again" in m or "; give one" in m for m in messages)
    assert int(grown) < 150 * 1024, "kilobytes of memory were taken"
    assert (call, bomb) == ("MemoryError", "MemoryError")  # they were armed


def test_a_good_file_is_read_in_that_memory_too(good: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(good), str(good), str(good)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.stdout.splitlines()[:2] == ["loaded", "loaded"], done.stderr


def test_a_device_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    with contextlib.suppress(OSError):  # which not everybody may make, nor everywhere
        os.mknod(tmp_path / "zero.pt", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    for path in tmp_path.iterdir():
        with pytest.raises(Exception, match="not a file"):
            load_checkpoint(path)
