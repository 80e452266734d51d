"""Files of rows that claim more than they are, each refused in a process of little memory."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.store import evaluations, pages, results, tables
from rdkit_vae.store.pages import read_parquet
from rdkit_vae.store.samples import Samples, write_samples
from rdkit_vae.store.tables import file_metadata

from ...conftest import Run

GIGA = 2**30


def _results() -> bytes:
    table = pa.table({"run_id": ["a"]}).replace_schema_metadata(
        file_metadata(results.RESULTS_KIND, {})
    )
    return tables.encoded(table)


def _wide(rows: int, columns: int) -> pa.Table:
    zeros = pa.array(np.zeros(rows))
    return pa.table({str(i): zeros for i in range(columns)})


def _encoded(kind: bytes, table: pa.Table, about: object = None, **options: object) -> bytes:
    facts = file_metadata(kind, about or {})  # type: ignore[arg-type]
    return tables.encoded(table.replace_schema_metadata(facts), **options)


def _rows_of_zeros() -> bytes:
    return _encoded(evaluations.STATISTICS_KIND, _wide(2**23, 16), use_dictionary=False)


def _pages_of_zeros() -> bytes:
    """Few rows, each of 30,000 x 3,000 black pixels."""
    pixels = [bytes([i]) * (30_000 * 3_000) for i in range(3)]
    kinds = ["original", "reconstruction", "prior"]
    table = pa.table({"kind": kinds, "index": [0, 0, 0], "pixels": pixels})
    about = {"split": "test", "seed": 0, "shape": [1, 30_000, 3_000]}
    data = _encoded(b"rdvae-samples", table, about, use_dictionary=False)
    assert len(data) < 10**6
    return data


def _one_text_often() -> bytes:
    """A picture of 10 MB that 90,000 rows show."""
    dictionary = pa.array([bytes(10**7)])
    pixels = pa.DictionaryArray.from_arrays(np.zeros(90_000, np.int32), dictionary)
    table = pa.table({"kind": ["prior"] * 90_000, "index": np.arange(90_000), "pixels": pixels})
    about = {"split": "test", "seed": 0, "shape": [1, 2_000, 5_000]}
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", dictionary_pagesize_limit=GIGA, store_schema=False
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(
            {
                key.decode(): value.decode()
                for key, value in file_metadata(b"rdvae-samples", about).items()
            }
        )
        writer.add_key_value_metadata({tables._SEAL: tables._OPEN.decode()})
    return tables._sealed(sink.getvalue().to_pybytes())


def _page_that_lies() -> bytes:
    """Its header says 128 MiB, where it unpacks to 1 MiB, as its column says."""
    table = pa.table({"run_id": ["a" * 2**20]})
    data = _encoded(results.RESULTS_KIND, table, compression="snappy", use_dictionary=False)
    assert data[4:7] == b"\x15\x00\x15"  # its kind, then its size in four bytes
    assert [byte >> 7 for byte in data[7:11]] == [1, 1, 1, 0]
    at = tables._seal_in(data)
    assert at is not None
    return tables._sealed(data[:7] + b"\xfe\xff\xff\x7f" + data[11:at] + b"0" * 8 + data[at + 8 :])


def _nested() -> bytes:
    table = pa.table({"run_id": [[["a"]]]})
    return _encoded(results.RESULTS_KIND, table)


def _many_groups() -> bytes:
    """A footer of very many groups of rows, each of which takes a kilobyte in memory."""
    return _encoded_groups(pa.table({str(i): np.zeros(2000) for i in range(20)}))


def _encoded_groups(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    facts = file_metadata(results.RESULTS_KIND, {})
    with pq.ParquetWriter(sink, table.replace_schema_metadata(facts).schema) as writer:
        writer.write_table(table.replace_schema_metadata(facts), row_group_size=1)
        writer.add_key_value_metadata({tables._SEAL: tables._OPEN.decode()})
    return tables._sealed(sink.getvalue().to_pybytes())


MADE: dict[str, tuple[Callable[[], bytes], str]] = {
    "rows of zeros": (_rows_of_zeros, "it claims 8,388,608 rows"),
    "pages of zeros": (_pages_of_zeros, "its pages unpack to more than"),
    "one text often": (_one_text_often, "repeats a long text too often"),
    "a page that lies": (_page_that_lies, "its pages unpack to more than"),
    "nested values": (_nested, "a column of type list"),
    "many groups of rows": (_many_groups, "not a readable Parquet file"),
}

# Reads each file with 200 MB to spare, says what came of it, and what CPU time and memory it took.
LIMITED = """
import resource, sys, time
from pathlib import Path
from rdkit_vae.errors import BadData
from rdkit_vae.store.evaluations import read_statistics
from rdkit_vae.store.results import read_results
from rdkit_vae.store.samples import read_samples
readers = (read_results, read_statistics, read_samples)
for reader, path in zip(readers, sys.argv[1:4]):
    reader(Path(path))
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 200 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[4:]:
    reasons, seconds = [], []
    for reader in readers:
        start = time.process_time()
        try:
            reader(Path(path))
            reasons.append("read")
        except BadData as error:
            reasons.append(str(error))
        seconds.append(time.process_time() - start)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{max(seconds):.3f} {grown} {' | '.join(reasons)}")
"""


def test_no_file_of_rows_takes_more_than_it_is(sweep_folder: Path, tmp_path: Path) -> None:
    sound = [next(sweep_folder.glob(f"{kind}/**/*.parquet")) for kind in ("results", "statistics")]
    pictures = np.zeros((2, 1, 8, 8), np.uint8)
    write_samples(
        tmp_path / "sound",
        Samples(split="test", seed=0, original=pictures, reconstruction=pictures, prior=pictures),
        {},
    )
    paths = []
    for name, (make, _) in MADE.items():
        paths.append(tmp_path / f"{name}.parquet")
        paths[-1].write_bytes(make())
    holes = tmp_path / "holes.parquet"
    holes.write_bytes(_results())
    os.truncate(holes, 3 * GIGA)
    with holes.open("ab") as file:
        file.write(_results())
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, [*sound, tmp_path / "sound", *paths, holes])],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    for (name, (_, reason)), line in zip(MADE.items(), lines, strict=True):
        seconds, grown, told = line.split(" ", 2)
        assert reason in told, (name, told)
        assert "read" not in told.split(" | "), name
        assert float(seconds) < 1, name
        assert int(grown) < 200 * 1024, name
    assert last.count("some of which are holes") == 2
    assert "(3,2" in last  # pictures are never so many


@contextmanager
def _endless(fifo: Path) -> Iterator[None]:
    """A FIFO out of which bytes come for ever, for whoever opens it."""
    os.mkfifo(fifo)
    done = threading.Event()

    def feed() -> None:
        while not done.is_set():
            try:
                descriptor = os.open(fifo, os.O_WRONLY)
                while not done.is_set():
                    os.write(descriptor, bytes(2**16))
            except BrokenPipeError:
                os.close(descriptor)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    yield
    done.set()
    os.close(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))  # lets it go where it waits
    feeder.join(timeout=5)


def test_results_that_are_a_link_to_what_never_ends_are_named(
    sweep_folder: Path, rdvae: Run, tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "sweep.json").write_text(json.dumps({"run_ids": ["a"]}))
    with _endless(tmp_path / "fifo"):
        (tmp_path / "results" / "a.parquet").symlink_to(tmp_path / "fifo")
        with pytest.raises(BadData, match="not a regular file"):
            results.read_results(tmp_path / "results" / "a.parquet")
        for words in (["status"], ["table"], ["verify"], ["plot", "rd"]):
            done = rdvae(*words, tmp_path)
            assert "not a regular file" in done.stdout + done.stderr
            assert done.returncode == (0 if words == ["status"] else 4)
            assert "Traceback" not in done.stderr


def test_a_description_that_is_a_fifo_is_not_waited_for(rdvae: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sweep.json")
    (tmp_path / "results").mkdir()
    small = ("--betas", "1", "--architecture", "linear", "--epochs", "1")
    for words in (["status", tmp_path], ["verify", tmp_path], ["sweep", *small, "--out", tmp_path]):
        done = rdvae(*words)
        told = done.stdout + done.stderr
        assert "sweep.json: cannot be read as JSON (not a regular file)" in told
        assert "Traceback" not in told


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": "' + "x" * 2**24 + '"}', "more than 16,777,216 bytes"),
        ('{"a": [' + "[]," * 1_000_000 + "0]}", "more than 500,000 values"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_a_description_that_is_too_large_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    from rdkit_vae.system.files import read_json

    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(BadData, match=reason):
        read_json(tmp_path / "sweep.json")


def test_pictures_that_could_not_be_read_again_are_not_written(tmp_path: Path) -> None:
    large = np.zeros((1, 1, 8192, 8192), np.uint8)
    pictures = Samples(split="test", seed=0, original=large, reconstruction=large, prior=large)
    with pytest.raises(BadInput, match="ask for fewer"):
        write_samples(tmp_path / "x", pictures, {})
    assert not list(tmp_path.iterdir())


def test_what_is_sound_is_read_as_arrow_reads_it() -> None:
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "text": ["a", None, "b" * 100_000, ""] * 50,
            "number": rng.normal(size=200),
            "whole": rng.integers(0, 9, 200),
            "yes": [True, None] * 100,
            "bytes": [b"\xff", b""] * 100,
            "long text": pa.array(["a", "b" * 100_000] * 100, pa.large_string()),
            "time": pa.array([0, None] * 100, pa.timestamp("ms", "UTC")),
            "nothing": pa.nulls(200),
            "category": pa.array(["a", None] * 100).dictionary_encode(),
        },
        metadata={"a": "b"},
    )
    for options in ({}, {"use_dictionary": False}, {"compression": "zstd"}, {"row_group_size": 7}):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, **options)
        data = sink.getvalue().to_pybytes()
        assert read_parquet(data).equals(table), options
        assert read_parquet(data, ["whole"]).equals(table.select(["whole"]))


@pytest.mark.parametrize(
    "again",
    [
        b"\x06\x04\x14",  # field 2 once more, as an i64, which Arrow passes over
        b"\x05\x04\x14",
        b"\x06\x84\x80\x08\x14",  # field 65538, of which some readers keep 16 bits
    ],
)
def test_a_page_that_gives_its_size_twice_is_refused(again: bytes) -> None:
    """Readers differ in which of the two they believe."""
    header = b"\x15\x00" + b"\x15\xc8\x01" + b"\x15\x08"  # its kind, 100 bytes, in 4 bytes
    assert pages._thrift(header + b"\x00", 0)[0] == {1: 0, 2: 100, 3: 4}
    with pytest.raises(ValueError, match="repeats a field"):
        pages._thrift(header + again + b"\x00", 0)
