import itertools
import math

import pytest

from rdkit_vae.config import parsing
from rdkit_vae.errors import BadInput
from rdkit_vae.scoring import interpretations


@pytest.mark.parametrize(
    ("text", "betas"),
    [
        ("1e-4..1e3", (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0)),
        ("1..50", (1.0, 10.0, 50.0)),
        ("3e-2..3", (0.03, 0.3, 3.0)),
        ("0.01..100:5", (0.01, 0.1, 1.0, 10.0, 100.0)),
        ("1..2:2", (1.0, 2.0)),
        ("0.1,1,10", (0.1, 1.0, 10.0)),
        (" 5 , .5", (5.0, 0.5)),
        ("1e-3,1..10", (0.001, 1.0, 10.0)),
        ("1e-300..1e-299", (1e-300, 1e-299)),
    ],
)
def test_betas(text: str, betas: tuple[float, ...]) -> None:
    assert parsing.parse_betas(text) == betas


def test_log_spaced_betas_have_equal_ratios() -> None:
    betas = parsing.parse_betas("1e-3..7:9")
    ratios = [math.log(b / a) for a, b in itertools.pairwise(betas)]
    assert (betas[0], betas[-1], len(betas)) == (1e-3, 7.0, 9)
    assert ratios == pytest.approx([ratios[0]] * 8, rel=1e-10)


@pytest.mark.parametrize(
    "text",
    [
        *("1..0", "1..1", "-1..1", "0..1", "nan", "inf", "1e-400", "1e400", "1_0", "", " ", "1,,2"),
        *("1..", "..1", "1..2:", "1..2:1", "1..2:x", "1..2:10001", "1..2..3", "0x10", "1e", "one"),
        *("٣", "-0.1", "0", "1;2", "1.." * 100, "1\n2"),
    ],
)
def test_bad_betas_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parsing.parse_betas(text)
    assert "\n" not in str(refused.value)


def test_repeats_are_merged_and_named() -> None:
    merged, repeated = parsing.merge_repeats(parsing.parse_betas("1,0.1,1.0,1e0"))
    assert merged == (1.0, 0.1)
    assert repeated == (1.0,)


@pytest.mark.parametrize(
    ("text", "seeds"), [("5", (0, 1, 2, 3, 4)), ("0,3,7", (0, 3, 7)), ("7,", (7,)), ("1", (0,))]
)
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert parsing.parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "a", ",1", "4294967296,", "1,,2"])
def test_bad_seeds(text: str) -> None:
    with pytest.raises(BadInput):
        parsing.parse_seeds(text)


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "1/0", "a/b", "1/2/3", "-1/4", "1.5/4"])
def test_bad_shards(text: str) -> None:
    assert parsing.parse_shard("3/16") == (3, 16)
    with pytest.raises(BadInput, match="shard"):
        parsing.parse_shard(text)


@pytest.mark.parametrize(
    ("text", "epochs"),
    [
        ("log", (1, 2, 4, 8, 16, 25)),
        ("last", (25,)),
        ("10", (10, 20, 25)),
        ("25", (25,)),
        ("100", (25,)),
        ("1", tuple(range(1, 26))),
    ],
)
def test_checkpoints(text: str, epochs: tuple[int, ...]) -> None:
    assert parsing.parse_checkpoints(text, 25) == epochs


def test_log_checkpoints_of_a_power_of_two() -> None:
    assert parsing.parse_checkpoints("log", 8) == (1, 2, 4, 8)


@pytest.mark.parametrize("text", ["0", "-5", "often", "", "1.5"])
def test_bad_checkpoints(text: str) -> None:
    with pytest.raises(BadInput):
        parsing.parse_checkpoints(text, 25)


@pytest.mark.parametrize("name", interpretations.SIGMAS)
def test_names_of_interpretations_are_canonical(name: str) -> None:
    assert interpretations.parse_sigma(f" {name} ") == name


def test_a_constant_is_named_by_its_number() -> None:
    assert interpretations.parse_sigma("constant:1e-2") == interpretations.parse_sigma(
        "constant:0.01"
    )


@pytest.mark.parametrize("name", ["", "best", "constant", "constant:", "constant:0", "constant:-1"])
def test_unknown_interpretations(name: str) -> None:
    with pytest.raises(BadInput):
        interpretations.parse_sigma(name)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(BadInput, match=r"'best'.*half.*shared.*constant:V"):
        interpretations.parse_sigma("best")


@pytest.mark.parametrize("text", ["1:2..3", "1:..", ":..", "0.1:0.2..0.3:4"])
def test_dots_after_the_colon_are_no_range(text: str) -> None:
    with pytest.raises(BadInput, match=r"is not a number|missing"):
        parsing.parse_betas(text)
