"""Whatever a reader is given, it reads it or says in one line what is wrong; nothing else happens.

`RDVAE_FUZZ=10000` tries so many examples of each, and other ones every time.
"""

import gzip
import io
import os
import resource
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from rdkit_vae import load_dataset, make_trial, score
from rdkit_vae.config import parsing
from rdkit_vae.datasets.idx import read_idx
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData, RdvaeError
from rdkit_vae.scoring import interpretations
from rdkit_vae.scoring.statistics import RateTerms, Statistics
from rdkit_vae.store import evaluations, results, tables
from rdkit_vae.store.checkpoints import checkpoint_bytes, load_checkpoint
from rdkit_vae.store.samples import Samples, read_samples, write_samples
from rdkit_vae.training.state import Training
from rdkit_vae.training.steps import Pack

TRIED = int(os.environ.get("RDVAE_FUZZ", "0"))


def fuzz(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=TRIED or examples,
        derandomize=not TRIED,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True, scope="module")
def _little_memory() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 600 * 1024, f"{grown} kilobytes of memory were taken"


# Damage to bytes.

Damage = Callable[[bytes], bytes]
_WORDS = [0, 1, 2, 0x7F, 0xFF, 0x100, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]


def _flip(at: float, bit: int) -> Damage:
    def damage(data: bytes) -> bytes:
        changed = bytearray(data)
        if changed:
            changed[int(at * len(data))] ^= 1 << bit
        return bytes(changed)

    return damage


def _put(at: float, word: int, size: int, order: Any) -> Damage:
    """A number that is likely to be one of a header's, in the place of what was there."""
    raw = (word % 2 ** (8 * size)).to_bytes(size, order)
    return lambda data: data[: (i := int(at * len(data)))] + raw[: len(data) - i] + data[i + size :]


def _splice(start: float, end: float, to: float) -> Damage:
    def damage(data: bytes) -> bytes:
        a, b, c = sorted(int(x * len(data)) for x in (start, end, to))
        return data[:a] + data[b:c] + data[a:b] + data[c:]

    return damage


def _cut(start: float, end: float) -> Damage:
    def damage(data: bytes) -> bytes:
        a, b = sorted((int(start * len(data)), int(end * len(data))))
        return data[:a] + data[b:]

    return damage


# Headers are at the ends of files.
_places = st.one_of(
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 0.05),
    st.floats(0.9, 1, exclude_max=True),
)
_damage = st.one_of(
    st.builds(_flip, _places, st.integers(0, 7)),
    st.builds(
        _put,
        _places,
        st.sampled_from(_WORDS),
        st.sampled_from([1, 2, 4, 8]),
        st.sampled_from(["little", "big"]),
    ),
    st.builds(_splice, _places, _places, _places),
    st.builds(_cut, _places, _places),
    st.builds(lambda at: lambda data: data[: int(at * len(data))], _places),
    st.builds(lambda extra: lambda data: data + extra, st.binary(max_size=20)),
    st.builds(
        lambda at, extra: (
            lambda data: data[: int(at * len(data))] + extra + data[int(at * len(data)) :]
        ),
        _places,
        st.binary(max_size=20),
    ),
    st.builds(lambda other: lambda data: other, st.binary(max_size=200)),
)
damages = st.lists(_damage, min_size=1, max_size=4)


def damaged(data: bytes, by: list[Damage]) -> bytes:
    for damage in by:
        data = damage(data)
    return data


def read_or_refused(read: Callable[[], Any], code: int = 4) -> bool:
    """Whether it was read; what is raised otherwise is one line that exits with the code."""
    refused: RdvaeError | None = None
    try:
        read()
    except RdvaeError as error:
        refused = error
    assert refused is None or (refused.exit_code, "\n" in str(refused)) == (code, False)
    return refused is None


# What users type.

_numbers = st.floats(1e-300, 1e300).map(repr) | st.sampled_from(
    ["0", "nan", "inf", "-1", "1_0", "1e999", "1e-999", "", " 1 ", "٣", ".5", "5.", "1e"]
)
_typed = st.one_of(
    st.text(max_size=40),
    st.text("0123456789.,:eE+- ", max_size=40),
    st.builds("{}..{}".format, _numbers, _numbers),
    st.builds("{}..{}:{}".format, _numbers, _numbers, st.integers(-1, 20_000)),
    st.lists(_numbers, max_size=5).map(",".join),
    st.builds("constant:{}".format, _numbers),
    st.builds("mixture:{}..{}".format, _numbers, _numbers),
)


@fuzz(400)
@given(_typed)
def test_betas(text: str) -> None:
    def read() -> None:
        betas = parsing.parse_betas(text)
        assert betas
        assert all(0 < beta < float("inf") for beta in betas)

    read_or_refused(read, code=2)


@fuzz(100)
@given(st.lists(st.floats(1e-300, 1e300), min_size=1))
def test_betas_are_read_as_they_were_written(betas: list[float]) -> None:
    assert parsing.parse_betas(",".join(map(repr, betas))) == tuple(betas)


@fuzz(100)
@given(st.floats(1e-300, 1e299), st.floats(1.01, 1e10), st.integers(2, 300))
def test_a_range_of_betas_rises_between_its_ends(low: float, ratio: float, count: int) -> None:
    high = low * ratio
    if high == float("inf"):
        return
    betas = parsing.parse_betas(f"{low!r}..{high!r}:{count}")
    assert (len(betas), betas[0], betas[-1]) == (count, low, high)
    assert all(a < b for a, b in pairwise(betas))
    decades = parsing.parse_betas(f"{low!r}..{high!r}")
    assert (decades[0], decades[-1]) == (low, high)
    assert all(a < b for a, b in pairwise(decades))


@fuzz(200)
@given(_typed | st.integers(-2, 2**33).map(str) | st.lists(st.integers(0, 2**33)).map(str))
def test_seeds(text: str) -> None:
    read_or_refused(lambda: parsing.parse_seeds(text), code=2)
    read_or_refused(lambda: parsing.parse_checkpoints(text, 100), code=2)


@fuzz(50)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=2))
def test_seeds_are_read_as_they_were_written(seeds: list[int]) -> None:
    assert parsing.parse_seeds(",".join(map(str, seeds))) == tuple(seeds)


@fuzz(300)
@given(_typed | st.sampled_from([*interpretations.described()]))
def test_names_of_interpretations_have_one_form(text: str) -> None:
    def read() -> None:
        name = interpretations.parse_sigma(text)
        assert interpretations.parse_sigma(name) == name

    read_or_refused(read, code=2)


@fuzz(300)
@given(_typed | st.builds("{}:{}".format, st.sampled_from(["npz", "folder", "x"]), st.text()))
def test_names_of_datasets(text: str) -> None:
    from rdkit_vae.datasets import source_of

    read_or_refused(lambda: source_of(text), code=2)


# Datasets.

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 6, 5), np.uint8)


def _npz(save: Callable[..., None], **arrays: Any) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def _picture(mode: str, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(np.resize(PIXELS, (16, 12, 3))).convert(mode)
    image.save(file, kind, **options)
    return file.getvalue()


_idx = b"".join(side.to_bytes(4, "big") for side in (0x803, *PIXELS.shape)) + PIXELS.tobytes()
FILES: dict[str, bytes] = {
    "x": _idx,
    "x.gz": gzip.compress(_idx),
    "one.npz": _npz(np.savez, a=PIXELS),
    "two.npz": _npz(np.savez_compressed, train=PIXELS / 255, test=PIXELS[:3] / 255),
    "grey.png": _picture("L", "png"),
    "colour.png": _picture("RGB", "png"),
    "palette.png": _picture("P", "png"),
    "colour.jpg": _picture("RGB", "jpeg"),
    "colour.bmp": _picture("RGB", "bmp"),
    "grey.tiff": _picture("L", "tiff", compression="tiff_lzw"),
    "colour.tif": _picture("RGB", "tiff"),
    "colour.webp": _picture("RGB", "webp", lossless=True),
    "grey.pgm": _picture("L", "ppm"),
    "colour.ppm": _picture("RGB", "ppm"),
}


def _load(path: Path) -> Any:
    if path.suffix in ("", ".gz"):
        return read_idx(path)
    if path.suffix == ".npz":
        return load_dataset(f"npz:{path}")
    return load_dataset(f"folder:{path.parent}", image_size=8)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of each file, sound; pictures have four sound ones beside them."""
    found = {}
    for name, data in FILES.items():
        folder = tmp_path_factory.mktemp("data")
        found[name] = folder / name
        found[name].write_bytes(data)
        if found[name].suffix not in ("", ".gz", ".npz"):
            for i in range(4):
                (folder / f"{i}.png").write_bytes(FILES["grey.png"])
    return found


@pytest.mark.parametrize("name", FILES)
def test_sound_data_is_read(name: str, places: dict[str, Path]) -> None:
    places[name].write_bytes(FILES[name])
    assert read_or_refused(lambda: _load(places[name]))


@pytest.mark.parametrize("name", FILES)
@fuzz(60)
@given(by=damages)
def test_damaged_data(name: str, by: list[Damage], places: dict[str, Path]) -> None:
    places[name].write_bytes(damaged(FILES[name], by))
    read_or_refused(lambda: _load(places[name]))


@fuzz(60)
@given(by=damages)
def test_damage_below_a_gzip(by: list[Damage], places: dict[str, Path]) -> None:
    places["x.gz"].write_bytes(gzip.compress(damaged(_idx, by), 1))
    read_or_refused(lambda: read_idx(places["x.gz"]))


# What rdvae writes.


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, 1, 3, 3), np.uint8)
    images = Images(name="npz:x", train=pixels[:40], test=pixels[40:], split_rule="by hand")
    trial = make_trial("npz:x", architecture="linear", latents=2, beta=1, epochs=2, batch_size=20)
    training = Training(trial, images)
    Pack([training]).run_epoch()
    path = tmp_path_factory.mktemp("checkpoint") / "x.pt"
    path.write_bytes(checkpoint_bytes(training))
    return path


@fuzz(200)
@given(by=damages)
def test_damaged_checkpoints(by: list[Damage], saved: Path) -> None:
    load_checkpoint(saved)
    path = saved.with_name("damaged.pt")
    path.write_bytes(damaged(saved.read_bytes(), by))
    read_or_refused(lambda: load_checkpoint(path).model())


@fuzz(200)
@given(by=damages)
def test_damage_to_what_a_checkpoint_says(by: list[Damage], saved: Path) -> None:
    """Checksums are right, as where someone meant it."""
    path = saved.with_name("meant.pt")
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, damaged(data, by) if name.endswith("data.pkl") else data)
    read_or_refused(lambda: load_checkpoint(path).model())


def _statistics() -> dict[str, Statistics]:
    rng = np.random.default_rng(1)
    rate = RateTerms(
        unit_variance=rng.gamma(1, 1, 3),
        unit_rate=rng.gamma(1, 1, 3),
        mutual_information=1.0,
        mutual_information_se=0.1,
    )
    return {
        split: Statistics(
            image=np.arange(n),
            kl=rng.gamma(2.0, 2.0, n),
            sse=rng.gamma(3.0, 0.2, (n, 2)),
            log_ratio=-rng.gamma(2.0, 2.0, (n, 2)),
            dims=9,
            levels=17,
            own_sigma2=0.07,
            rate_terms=rate,
        )
        for split, n in (("train", 6), ("test", 4))
    }


def _read_results(path: Path) -> None:
    results.read_results(path).to_pandas()
    results.read_results(path, ["elbo", "sigma"]).to_pandas()


def _read_statistics(path: Path) -> None:
    statistics, _ = evaluations.read_statistics(path)
    trial = make_trial("npz:x", architecture="linear", latents=2, beta=1)
    if all(found.finite for found in statistics.values()):
        read_or_refused(lambda: score(statistics, trial, ["half", "own"]), code=2)


TABLES: dict[str, Callable[[Path], Any]] = {
    "results": _read_results,
    "statistics": _read_statistics,
    "samples": read_samples,
}


@pytest.fixture(scope="module")
def table_files(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Of each table a sealed file, and one of an older schema, which has no seal."""
    trial, statistics = make_trial("npz:x", architecture="linear", latents=2, beta=1), _statistics()
    measured = evaluations.Evaluation(
        trial=trial, epoch=1, step=1, checkpoint_sha256="", statistics=statistics
    )
    rows = measured.rows(["half", "own"])
    pictures = Samples(
        split="test",
        seed=0,
        original=PIXELS[:3, None],
        reconstruction=PIXELS[3:6, None],
        prior=PIXELS[:5, None],
    )
    found = {}
    for form in ("sealed", "older"):
        folder = tmp_path_factory.mktemp(form)
        with pytest.MonkeyPatch.context() as past:
            if form == "older":
                past.setattr(tables, "SCHEMA", 2)
                past.setattr(tables, "_SEAL", "of-another-name")
                past.setattr(tables, "_sealed", lambda data: data)
            results.write_results(folder / "results", rows, {"trial": trial.to_dict()})
            evaluations.write_statistics(folder / "statistics", statistics, {"epoch": 1})
            write_samples(folder / "samples", pictures, {})
        found |= {(form, name): folder / name for name in TABLES}
    return found


@pytest.mark.parametrize("form", ["sealed", "older"])
@pytest.mark.parametrize("name", TABLES)
@fuzz(60)
@given(by=damages)
def test_damaged_tables(
    name: str, form: str, by: list[Damage], table_files: dict[tuple[str, str], Path]
) -> None:
    sound = table_files[form, name]
    TABLES[name](sound)
    path, data = sound.with_name(f"damaged-{name}"), sound.read_bytes()
    changed = damaged(data, by)
    path.write_bytes(changed)
    was_read = read_or_refused(lambda: TABLES[name](path))
    if form == "sealed" and changed != data:
        assert not was_read


@pytest.mark.parametrize("name", TABLES)
@fuzz(60)
@given(by=damages)
def test_damage_that_was_sealed(
    name: str, by: list[Damage], table_files: dict[tuple[str, str], Path]
) -> None:
    """The checksum is right, as where someone meant it."""
    sound = table_files["sealed", name].read_bytes()
    at = tables._seal_in(sound)
    assert at is not None
    changed = damaged(sound[:at] + b"0" * 8 + sound[at + 8 :], by)
    try:
        changed = tables._sealed(changed)
    except AssertionError:  # the seal itself is gone
        return
    path = table_files["sealed", name].with_name(f"meant-{name}")
    path.write_bytes(changed)
    read_or_refused(lambda: TABLES[name](path))


def test_one_line_is_what_is_checked() -> None:
    def two_lines() -> None:
        raise BadData("a\nb")

    with pytest.raises(AssertionError):
        read_or_refused(two_lines)
