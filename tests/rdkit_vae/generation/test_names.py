import subprocess
import sys

import pytest

from rdkit_vae.errors import BadInput
from rdkit_vae.generation.names import FEATURES, MODULE, check_features


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        ("classifier", ("classifier", "")),
        ("pixels", ("pixels", "")),
        ("inception:a b/c:d.pth", ("inception:FILE", "a b/c:d.pth")),
        ("package.module:factory", (MODULE, "package.module:factory")),
    ],
)
def test_what_can_be_asked_for(asked: str, read: tuple[str, str]) -> None:
    assert check_features(asked) == read
    assert read[0] in FEATURES


@pytest.mark.parametrize("asked", ["", "clasifier", "pixels:4", "classifier:x y", "a:b:c"])
def test_others_are_refused_with_the_known(asked: str) -> None:
    with pytest.raises(BadInput, match="classifier, inception:FILE, pixels, MODULE:FACTORY"):
        check_features(asked)


@pytest.mark.parametrize("asked", ["inception", "inception:"])
def test_inception_needs_its_file(asked: str) -> None:
    with pytest.raises(BadInput, match="name the file of its weights, as inception:FILE"):
        check_features(asked)


def test_a_name_that_would_control_the_terminal_is_refused() -> None:
    for asked in ("a\x1b[2J", "inception:a\nb"):
        with pytest.raises(BadInput, match="printable") as refused:
            check_features(asked)
        assert "\x1b" not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_names_are_checked_without_numpy_and_torch() -> None:
    program = (
        "import sys\n"
        "from rdkit_vae.generation.names import check_features\n"
        "check_features('classifier')\n"
        "print({'numpy', 'torch'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"set()\n"
