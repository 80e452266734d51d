"""What a user can ask for as features. Imports nothing heavy."""

from collections.abc import Mapping

from rdkit_vae.errors import BadInput
from rdkit_vae.system.imports import is_import_name
from rdkit_vae.text import shown, unknown

MODULE = "MODULE:FACTORY"
FEATURES: Mapping[str, str] = {
    "classifier": "a small network trained on the dataset's own labels; needs no download",
    "inception:FILE": "2,048 features of the FID Inception network, whose weights are in FILE",
    "pixels": "the pixels themselves",
    MODULE: "features of your own: factory(shape) returns a torch.nn.Module or a function",
}


def check_features(asked: str) -> tuple[str, str]:
    """Reads what the user asked for.

    Args:
        asked: such as `classifier` or `inception:FILE`.

    Returns:
        The key of `FEATURES`, and the FILE or the name of the factory; otherwise an empty text.

    Raises:
        BadInput: there are no such features; the message lists the known ones.
    """
    kind, colon, file = asked.partition(":")
    if kind == "inception" and asked.isprintable():
        if not file:
            raise BadInput("features inception: name the file of its weights, as inception:FILE")
        return "inception:FILE", file
    if not colon and kind in FEATURES:
        return kind, ""
    if is_import_name(asked):
        return MODULE, asked
    if not asked.isprintable():
        raise BadInput(f"features {shown(asked)}: a name must be printable")
    raise BadInput(unknown(asked, FEATURES, "features"))
