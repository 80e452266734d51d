"""Weights of models from elsewhere, in each format, intact or made to do harm."""

import io
import json
import pickle
import random
import struct
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rdkit_vae.errors import BadData, RdvaeError
from rdkit_vae.store.checkpoints import load_checkpoint
from rdkit_vae.store.weights import (
    PREFERRED,
    load_weights,
    read_weights,
    what_it_is,
    with_prefix_stripped,
)
from rdkit_vae.store.weights.safetensors import read_safetensors

ZOO = Path(__file__).parents[4] / "shared/data/zoo"
FORMATS = {"new": True, "old": False}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))
        self.decoder = nn.Linear(4, 5)


def save(content: Any, path: Path, *, new: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=new)
    return path


def same(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name])
        for name in other
    )


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return Net().state_dict()


def all_types() -> dict[str, Tensor]:
    types = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8")
    made = {name: torch.arange(6).reshape(2, 3).to(getattr(torch, name)) for name in types}
    return {
        **made,
        "uint8": torch.arange(6, dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
    }


# What torch.save writes.


@pytest.mark.parametrize("form", FORMATS)
def test_what_torch_saves_is_read(form: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    for content in (state, all_types(), dict(state)):
        path = save(content, tmp_path / "x.pt", new=FORMATS[form])
        weights = read_weights(path)
        assert same(weights.tensors, content)
        assert weights.form == "state dict of PyTorch" + ("'s old format" if form == "old" else "")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("form", FORMATS)
def test_each_protocol_of_pickle_is_read(
    form: str, protocol: int, state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "x.pt"
    content = {"net": state, "bytes": b"x", "set": {1}, "path": path, "self": [1.5, None, 2**70]}
    torch.save(
        content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=FORMATS[form]
    )
    assert same(read_weights(path).tensors, state)


@pytest.mark.parametrize("form", FORMATS)
def test_views_and_tied_weights_share_their_numbers(form: str, tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    content = {"whole": whole, "tied": whole, "turned": whole.T, "part": whole[1:, ::2]}
    path = save(content, tmp_path / "x.pt", new=FORMATS[form])
    tensors = read_weights(path).tensors
    assert same(tensors, content)
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors.values()}) == 1


@pytest.mark.parametrize("form", FORMATS)
def test_parameters_and_attributes_are_read(form: str, tmp_path: Path) -> None:
    noted = torch.ones(2)
    noted.note = "text"  # type: ignore[attr-defined]
    content = {"weight": nn.Parameter(torch.ones(3)), "noted": noted}
    tensors = read_weights(save(content, tmp_path / "x.pt", new=FORMATS[form])).tensors
    assert same(tensors, {"weight": torch.ones(3), "noted": torch.ones(2)})


@pytest.mark.parametrize("key", PREFERRED)
def test_a_state_dict_in_a_file_is_found(
    key: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    content = {"epoch": 7, "optimizer": {"state": {}}, "other": {"x": torch.ones(1)}, key: state}
    weights = read_weights(save(content, tmp_path / "x.pt"))
    assert same(weights.tensors, state)
    assert weights.facts == {"epoch": 7, "taken_from": key}


def test_other_names_have_to_be_clear(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = save({"mine": state, "loss": 1.0}, tmp_path / "x.pt")
    assert same(read_weights(path).tensors, state)
    save({"mine": state, "yours": {"x": torch.ones(1)}}, path)
    with pytest.raises(BadData, match="choose one of mine, yours"):
        read_weights(path)
    assert read_weights(path, key="yours").tensors.keys() == {"x"}
    with pytest.raises(BadData, match="no state dict 'theirs'; choose one of mine, yours"):
        read_weights(path, key="theirs")


def test_the_hash_is_that_of_the_file_behind_a_link(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = save(state, tmp_path / "x.pt")
    (tmp_path / "link.pt").symlink_to(path)
    assert read_weights(tmp_path / "link.pt").sha256 == read_weights(path).sha256


@pytest.mark.skipif(not ZOO.is_dir(), reason="the models are not there")
@pytest.mark.parametrize("name", ["VAE_mnist", "betaH_mnist"])
def test_files_of_2018_are_read(name: str) -> None:
    path = ZOO / name / "model.pt"
    expected = torch.load(path, weights_only=True, map_location="cpu")
    assert what_it_is(path) == "a state dict in PyTorch's old format"
    assert same(read_weights(path).tensors, expected)


def _with_views(path: Path) -> None:
    """The old format with parts of a record, as PyTorch wrote them before version 0.4."""

    class Storage:
        def __init__(self, view: Any) -> None:
            self.view = view

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if isinstance(value, Storage):
                return ("storage", torch.FloatStorage, "7", "cpu", 6, value.view)
            return None

    class Part:
        def __init__(self, view: Any, count: int) -> None:
            self.call = (Storage(view), 0, (count,), (1,))

        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor, self.call

    buffer = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(value, buffer, 2)
    parts = OrderedDict(whole=Part(None, 6), part=Part(("8", 2, 3), 3))
    Pickler(buffer, 2).dump(parts)
    pickle.dump(["7"], buffer, 2)
    buffer.write(struct.pack("<q6f", 6, *range(6)))
    path.write_bytes(buffer.getvalue())


def test_parts_of_a_record_in_the_old_format(tmp_path: Path) -> None:
    _with_views(tmp_path / "x.pt")
    tensors = read_weights(tmp_path / "x.pt").tensors
    assert tensors["whole"].tolist() == [0, 1, 2, 3, 4, 5]
    assert tensors["part"].tolist() == [2, 3, 4]


# What Lightning writes.


class Armed:
    """Leaves a mark if any of its code runs."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return _mark, (self.mark,), {"mark": self.mark}

    def __setstate__(self, state: dict[str, str]) -> None:
        _mark(state["mark"])


class Cyclic:
    def __init__(self) -> None:
        self.itself = self


def _mark(mark: str) -> Any:
    Path(mark).touch()
    return Armed.__new__(Armed)


def _lightning(state: dict[str, Tensor], extra: Any = None) -> dict[str, Any]:
    named = OrderedDict((f"model.{name}", value) for name, value in state.items())
    moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(4)}}
    return {
        "epoch": 2,
        "global_step": 30,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": named | {"loss.weight": torch.ones(2)},
        "loops": {"fit_loop": {"state_dict": {}, "progress": {"total": {"ready": 3}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best": torch.tensor(0.5)}},
        "optimizer_states": [{"state": moments, "param_groups": [{"betas": (0.9, 0.999)}]}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 1e-3, "extra": extra, "type": Cyclic(), "set": {1}, 3: 4},
    }


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_lightning_checkpoint_runs_no_code(
    protocol: int, state: dict[str, Tensor], tmp_path: Path
) -> None:
    mark, path = tmp_path / "ran", tmp_path / "x.ckpt"
    torch.save(_lightning(state, Armed(str(mark))), path, pickle_protocol=protocol)
    weights = read_weights(path)
    assert weights.form == "Lightning checkpoint 2.6.6"
    assert weights.facts == {"pytorch-lightning_version": "2.6.6", "epoch": 2, "global_step": 30}
    module = Net()
    assert load_weights(module, weights) == ["left out what the network does not have: loss.weight"]
    assert same(module.state_dict(), state)
    assert what_it_is(path) == "a Lightning checkpoint"
    with pytest.raises(BadData, match="a Lightning checkpoint, not a checkpoint of rdvae"):
        load_checkpoint(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # it was armed


# Safetensors.


def table_of(tensors: dict[str, Any], data: bytes, **changes: Any) -> bytes:
    text = json.dumps({**tensors, **changes}).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_safetensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    data = struct.pack("<3f2q", 1, 2, 3, 4, 5)
    table = {"b": entry("I64", [2, 1], 12, 28), "a": entry("F32", [3], 0, 12)}
    path.write_bytes(table_of(table, data, __metadata__={"format": "pt"}))
    weights = read_weights(path)
    assert (weights.form, what_it_is(path)) == ("safetensors", "a safetensors file")
    assert same(weights.tensors, {"a": torch.tensor([1.0, 2, 3]), "b": torch.tensor([[4], [5]])})


def test_safetensors_of_their_own_library_are_read(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.torch")
    library.save_file(all_types(), tmp_path / "x.safetensors", metadata={"format": "pt"})
    assert same(read_weights(tmp_path / "x.safetensors").tensors, all_types())


TABLES: dict[str, tuple[bytes, str]] = {
    "an overlap": (
        table_of({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, bytes(12)),
        "'b' overlaps",
    ),
    "a gap": (
        table_of({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, bytes(12)),
        "a gap before it",
    ),
    "a rest": (table_of({"a": entry("F32", [1], 0, 4)}, bytes(8)), "the file has 8"),
    "too little": (table_of({"a": entry("F32", [2], 0, 8)}, bytes(4)), "the file has 4"),
    "gigabytes": (table_of({"a": entry("F32", [2**33], 0, 2**35)}, bytes(4)), "the file has 4"),
    "another size": (table_of({"a": entry("F32", [3], 0, 8)}, bytes(8)), "'a' is damaged"),
    "backwards": (table_of({"a": entry("F32", [-1, -2], 0, 8)}, bytes(8)), "'a' is damaged"),
    "a type": (table_of({"a": entry("F4", [1], 0, 4)}, bytes(4)), "of type 'F4'"),
    "no entry": (table_of({"a": 3}, bytes(4)), "'a' is damaged"),
    "twice": ((20).to_bytes(8, "little") + b'{"a":1,"b":2,"a":1} ', "same name twice"),
    "deep": ((70_000).to_bytes(8, "little") + b'{"a":' * 14_000, "cannot be read"),
    "long": ((2**23).to_bytes(8, "little") + b"{" * (2**23), "claims to have 8,388,608 bytes"),
}


@pytest.mark.parametrize("what", TABLES)
def test_a_table_that_is_not_right_is_refused(what: str, tmp_path: Path) -> None:
    data, reason = TABLES[what]
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(BadData, match=reason):
        read_weights(tmp_path / "x.safetensors")


def test_no_tensors_at_all_are_safetensors_too(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(table_of({}, b""))
    assert read_safetensors(tmp_path / "x.safetensors") == ({}, {})


# Files that are refused.


class Called:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


def _rebuilt(*arguments: Any) -> Called:
    return Called(torch._utils._rebuild_tensor_v2, arguments)


def _part(offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> Called:
    """A tensor of a record with four numbers."""
    storage = torch.zeros(4).storage()
    return _rebuilt(storage, offset, shape, stride, False, OrderedDict())


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "beyond its record": (lambda: {"w": _part(1, (4,), (1,))}, "w is larger than its record"),
    "a far offset": (lambda: {"w": _part(2**60, (1,), (1,))}, "larger than its record"),
    "a long stride": (lambda: {"w": _part(0, (2,), (4,))}, "larger than its record"),
    "stride 0": (lambda: {"w": torch.zeros(1).expand(2**34)}, "larger than its record"),
    "a negative offset": (lambda: {"w": _part(-1, (1,), (1,))}, "does not read"),
    "a huge shape": (lambda: {"w": _part(0, (2**200,), (1,))}, "does not read"),
    "sparse": (lambda: {"w": torch.zeros(2, 2).to_sparse()}, "w is a sparse tensor"),
    "meta": (lambda: {"w": torch.zeros(2, device="meta")}, "w is a meta tensor"),
    "complex": (lambda: {"w": torch.zeros(2, dtype=torch.cfloat)}, "ComplexFloatStorage"),
    "quantized": (
        lambda: {"w": Called(torch._utils._rebuild_qtensor, ())},
        "w is a quantized tensor",
    ),
    "a module": (
        lambda: nn.Linear(2, 2),
        r"a pickled module \(class torch.nn.modules.linear.Linear\): reading it would run its "
        r"code; "
        r"save model.state_dict\(\) instead",
    ),
    "a module in a dict": (lambda: {"epoch": 3, "model": nn.Linear(2, 2)}, "a pickled module"),
    "a tensor": (lambda: torch.zeros(2), "a single tensor"),
    "a number": (lambda: 3, "without a state dict"),
    "nothing": (lambda: {"epoch": 3}, "without a state dict"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_what_is_no_state_dict_is_named(form: str, what: str, tmp_path: Path) -> None:
    content, reason = REFUSED[what]
    path = save(content(), tmp_path / "x.pt", new=FORMATS[form])
    with pytest.raises(BadData, match=reason) as refused:
        read_weights(path)
    assert "\n" not in str(refused.value)


def _with_pickle(path: Path, pickled: bytes, **records: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        for name, data in records.items():
            archive.writestr(f"x/data/{name}", data)
    return path


def _laughs(deep: int = 100_000) -> bytes:
    """Tuples of two references to the tuple before: a walk through them would never end."""
    twice = b"q\0" + b"h\0h\0\x86q\0" * deep
    return b"\x80\x02)" + twice + b"."


PICKLES: dict[str, bytes] = {
    "laughs": _laughs(),
    "laughs as a key": b"\x80\x02}(" + _laughs(1000)[2:-1] + b"K\1u.",
    "laughs as a state dict": b"\x80\x02}(X\5\0\0\0model" + _laughs(1000)[2:-1] + b"u.",
    "deep": b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b".",
    "many": b"\x80\x02" + b"]" * 2**23 + b".",
    "a cycle": b"\x80\x02}q\0X\5\0\0\0modelh\0s.",
    "a long text": b"\x80\x02X\xff\xff\xff\x7fx.",
    "long bytes": b"\x80\x05\x8e" + (2**40).to_bytes(8, "little") + b"x.",
    "a long bytearray": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"x.",
    "a bytearray of gigabytes": b"\x80\x02}(X\1\0\0\0wc__builtin__\nbytearray\n"
    b"\x8a\5\0\0\0\0\2\x85Ru.",
    "one hash": b"\x80\x02("
    + b"".join(b"]p%d\n" % (k * (2**61 - 1)) for k in range(1, 50_000))
    + b"l.",
    "many names of one dict": b"\x80\x02}q\0("
    + b"".join(b"X\5\0\0\0%05dN" % k for k in range(60_000))
    + b"u0}("
    + b"".join(b"X\5\0\0\0%05dh\0" % k for k in range(60_000))
    + b"u.",
    "nothing on the stack": b"\x80\x02R.",
    "no mark": b"\x80\x02u.",
    "an extension": b"\x80\x02\x82\1.",
    "a buffer": b"\x80\x05\x97.",
    "nothing": b"",
}


@pytest.mark.parametrize("what", PICKLES)
def test_no_pickle_takes_long(what: str, tmp_path: Path) -> None:
    path = _with_pickle(tmp_path / "x.pt", PICKLES[what])
    start = time.process_time()
    with pytest.raises(BadData):
        read_weights(path)
    what_it_is(path)
    assert time.process_time() - start < 30


def test_a_cycle_beside_the_weights_does_no_harm(tmp_path: Path) -> None:
    content: dict[str, Any] = {"state_dict": {"w": torch.ones(2)}}
    content["all"] = [content]
    assert same(read_weights(save(content, tmp_path / "x.pt")).tensors, content["state_dict"])


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ({}, "w does not have the size of its record"),
        ({"0": bytes(4)}, "w does not have the size of its record"),
        ({"1": bytes(8)}, "w does not have the size of its record"),
    ],
)
def test_records_that_are_not_there(records: dict[str, bytes], reason: str, tmp_path: Path) -> None:
    save({"w": torch.zeros(2)}, tmp_path / "good.pt")
    pickled = zipfile.ZipFile(tmp_path / "good.pt").read("good/data.pkl")
    assert read_weights(_with_pickle(tmp_path / "x.pt", pickled, **{"0": bytes(8)})).tensors
    with pytest.raises(BadData, match=reason):
        read_weights(_with_pickle(tmp_path / "x.pt", pickled, **records))


def test_counts_in_the_old_format_are_compared_with_the_file(tmp_path: Path) -> None:
    path = save({"w": torch.zeros(2)}, tmp_path / "x.pt", new=False)
    data = path.read_bytes()
    path.write_bytes(data[:-16] + (2**40).to_bytes(8, "little") + data[-8:])
    with pytest.raises(BadData, match="does not have the size of its tensor"):
        read_weights(path)
    path.write_bytes(data + b"more")
    with pytest.raises(BadData, match="4 bytes after its last tensor"):
        read_weights(path)
    path.write_bytes(data.replace(b"K\2N", b"\x8a\6\0\0\0\0\0\1N", 1))
    assert path.read_bytes() != data
    with pytest.raises(BadData, match="claims to hold more than its bytes"):
        read_weights(path)


# Reads a file of some megabytes, and says by how much the memory grew at most.
MEASURED = """
import re, sys
import torch
from rdkit_vae.store.weights import read_weights
def most():  # not ru_maxrss, which starts with that of the parent
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
read_weights(sys.argv[1])
before = most()
try:
    read_weights(sys.argv[2])
except Exception as error:
    print(error, file=sys.stderr)
print(most() - before)
"""


def _growth(small: Path, path: Path) -> float:
    """Megabytes."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(small), str(path)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout) / 1024


@pytest.mark.parametrize("form", [*FORMATS, "safetensors"])
def test_a_file_takes_its_size_in_memory(form: str, tmp_path: Path) -> None:
    megabytes = 200
    small, path = tmp_path / "small.pt", tmp_path / "x.pt"
    for file, count in ((small, 1), (path, megabytes * 2**18)):
        if form == "safetensors":
            table = {"w": entry("F32", [count], 0, 4 * count)}
            file.write_bytes(table_of(table, bytes(4 * count)))
        else:
            save({"w": torch.zeros(count), "tied": torch.zeros(1)}, file, new=FORMATS[form])
    assert megabytes * 0.9 < _growth(small, path) < megabytes * 1.1 + 20


@pytest.mark.parametrize("what", ["laughs", "many", "long bytes"])
def test_a_small_file_takes_little_memory(what: str, tmp_path: Path) -> None:
    small = save({"w": torch.zeros(1)}, tmp_path / "small.pt")
    assert _growth(small, _with_pickle(tmp_path / "x.pt", PICKLES[what])) < 200


def test_many_names_of_one_record_take_its_memory_once(tmp_path: Path) -> None:
    """Also where numbers have to be converted."""
    switches = torch.ones(2**20, dtype=torch.bool)
    small = save({"w": switches}, tmp_path / "small.pt")
    assert _growth(small, save({f"w{i}": switches for i in range(200)}, tmp_path / "x.pt")) < 20


def _seeds(tmp_path: Path) -> dict[str, bytes]:
    torch.manual_seed(0)
    state = Net().state_dict()
    files = {
        "new": save(state, tmp_path / "new.pt"),
        "old": save(state, tmp_path / "old.pt", new=False),
        "lightning": save(_lightning(state), tmp_path / "x.ckpt"),
    }
    table = {"w": entry("F32", [3], 0, 12), "v": entry("I8", [4], 12, 16)}
    return {name: path.read_bytes() for name, path in files.items()} | {
        "safetensors": table_of(table, bytes(16))
    }


@pytest.mark.parametrize("form", ["new", "old", "lightning", "safetensors", "pickle"])
def test_any_damage_is_refused_in_words(form: str, tmp_path: Path) -> None:
    chance = random.Random(0)
    seeds, path = _seeds(tmp_path), tmp_path / "damaged.pt"
    good = seeds["lightning" if form == "pickle" else form]
    pickled = b""
    if form == "pickle":  # with a right checksum, as where someone meant it
        with zipfile.ZipFile(io.BytesIO(good)) as archive:
            pickled = archive.read("x/data.pkl")
    refused = 0
    for _ in range(400):
        data = bytearray(pickled or good)
        for _ in range(chance.randint(1, 3)):
            head = min(len(data), 4000) if chance.random() < 0.7 else len(data)
            data[chance.randrange(head)] ^= 1 << chance.randrange(8)
        if chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        _with_pickle(path, bytes(data)) if pickled else path.write_bytes(data)
        reason = ""
        try:
            load_weights(Net(), read_weights(path))
        except RdvaeError as error:
            refused, reason = refused + 1, str(error)
        assert "\n" not in reason
        what_it_is(path)
    assert refused > 100


# Names.


def test_a_prefix_is_taken_off(state: dict[str, Tensor]) -> None:
    for prefix in ("", "model.", "module.", "vae.net.", "module._orig_mod."):
        file = {f"{prefix}{name}": value for name, value in state.items()}
        own, left_out = with_prefix_stripped({**file, "loss.x": torch.ones(1)}, state)
        assert same(own, state)
        assert left_out == ["loss.x"]


def test_compiled_parts_keep_their_names(state: dict[str, Tensor]) -> None:
    file = {name.replace("encoder.", "encoder._orig_mod."): v for name, v in state.items()}
    assert same(with_prefix_stripped(file, state)[0], state)


def test_two_prefixes_are_not_guessed(state: dict[str, Tensor]) -> None:
    file = {f"{p}.{name}": value for p in ("model", "ema") for name, value in state.items()}
    with pytest.raises(BadData, match=r"more than once, under model\., ema\."):
        with_prefix_stripped(file, state)
    assert same(with_prefix_stripped(file, state, "ema.")[0], state)


def test_differences_are_named(state: dict[str, Tensor], tmp_path: Path) -> None:
    def loaded(content: dict[str, Tensor]) -> list[str]:
        return load_weights(Net(), read_weights(save(content, tmp_path / "x.pt")))

    counter = "encoder.1.num_batches_tracked"
    assert loaded({name: value for name, value in state.items() if name != counter}) == []
    for change, reason in (
        ({"encoder.2.weight": torch.ones(1)}, r"the network lacks encoder\.2\.weight"),
        ({"2.weight": torch.ones(1)}, r"the network lacks 2\.weight"),
        ({"decoder.weight": torch.ones(5, 2)}, "decoder.weight is 5x2 in the file, 5x4 in the net"),
        (
            {"decoder.bias": torch.ones(5, dtype=torch.int64)},
            "decoder.bias is int64 in the file, float32 in the network",
        ),
    ):
        with pytest.raises(BadData, match=reason):
            loaded({**state, **change})
    with pytest.raises(BadData, match=r"the file lacks decoder\.bias"):
        loaded({name: value for name, value in state.items() if name != "decoder.bias"})


def test_other_types_of_numbers_become_those_of_the_network(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    module = Net()
    load_weights(module, read_weights(save(half, tmp_path / "x.pt")))
    assert module.decoder.weight.dtype == torch.float32
    assert torch.equal(module.decoder.weight, half["decoder.weight"].float())


# What other files are called.

KINDS: dict[str, tuple[bytes, str | None]] = {
    "x.md": ("# Ä text".encode() * 100, "a text file"),
    "x.h5": (b"\x89HDF\r\n\x1a\n" + bytes(9), "an HDF5 file, as Keras writes them"),
    "x.onnx": (b"\x08\x07\x12\x07pytorch" + bytes(20), "an ONNX file"),
    "x.pkl": (pickle.dumps([1, 2]), "a pickle"),
    "x.npy": (b"\x93NUMPY" + bytes(9), "a NumPy array"),
    "x.bin": (bytes(range(128, 256)), None),
}


@pytest.mark.parametrize("name", KINDS)
def test_other_files_are_named_and_never_called_damaged(name: str, tmp_path: Path) -> None:
    data, kind = KINDS[name]
    path = tmp_path / name
    path.write_bytes(data)
    assert what_it_is(path) == kind
    with pytest.raises(BadData, match="not a checkpoint of rdvae") as refused:
        load_checkpoint(path)
    assert "damaged" not in str(refused.value)
    with pytest.raises(BadData, match=kind or "not a file with weights"):
        read_weights(path)


@pytest.mark.filterwarnings("ignore")
def test_archives_are_told_apart(state: dict[str, Tensor], tmp_path: Path) -> None:
    def zipped(*names: str) -> Path:
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for name in names:
                archive.writestr(name, b"data")
        return tmp_path / "x.zip"

    assert what_it_is(zipped("a.npy", "b.npy")) == "an .npz file of NumPy"
    assert what_it_is(zipped("config.json", "model.weights.h5")) == "a Keras file"
    assert what_it_is(zipped("notes.txt")) == "a zip file"
    assert what_it_is(zipped("x/data.pkl", "x/constants.pkl")) == "a TorchScript archive"
    assert what_it_is(save(state, tmp_path / "x.pt")) == "a state dict of PyTorch"
    module = save(nn.Linear(1, 1), tmp_path / "x.pt")
    assert what_it_is(module) == "a pickled module of class torch.nn.modules.linear.Linear"


def test_folders_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert what_it_is(folder) is None
    (folder / "model_config.json").write_text("{}")
    (folder / "model.pt").touch()
    assert what_it_is(folder) == "a pythae folder"
    torch.save({"model_state_dict": {"w": torch.ones(1)}}, folder / "model.pt")
    for path in (folder, folder / "model.pt"):
        with pytest.raises(BadData, match=f"--adapter pythae --dataset NAME {folder}$"):
            load_checkpoint(path)
    (folder / "model_config.json").rename(folder / "config.json")
    (folder / "x.safetensors").touch()
    assert what_it_is(folder) is None
    (folder / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    assert what_it_is(folder) == "a diffusers folder"
    assert what_it_is(tmp_path / "missing") is None
