"""The names of features. Imports neither torch nor NumPy, so that options are checked quickly."""

from collections.abc import Mapping

from rdkit_vae.errors import BadInput
from rdkit_vae.system.imports import is_import_name
from rdkit_vae.text import unknown

INCEPTION = "inception:"
FEATURES: Mapping[str, str] = {
    "classifier": "a small network trained on the labels of digits, mnist or fashion-mnist",
    "inception:FILE": "the Inception network of the usual FID; FILE holds its weights",
    "pixels": "the pixels themselves",
}


def check_features(asked: str) -> str:
    """Returns a name of features if there can be such; imports nothing.

    Raises:
        BadInput: it is neither in `FEATURES` nor of the form `package.module:factory`.
    """
    if asked.startswith(INCEPTION) and asked != INCEPTION:
        return asked
    if asked not in ("classifier", "pixels") and (
        asked.startswith("inception") or not is_import_name(asked)
    ):
        raise BadInput(unknown(asked, [*FEATURES, "package.module:factory"], "features"))
    return asked
