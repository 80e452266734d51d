"""Options and their parsing that several commands share."""

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rdkit_vae.config.parsing import merge_repeats
from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.interpretations import SIGMAS, parse_sigma
from rdkit_vae.text import counted, positive

if TYPE_CHECKING:
    from rdkit_vae.store.evaluations import Evaluation

data_dir_option = click.option(
    "--data-dir",
    metavar="DIR",
    help="Folder that holds the files of mnist, fashion-mnist or celeba; else $RDVAE_DATA.",
)
split_option = click.option(
    "--split", type=click.Choice(["test", "train"]), default="test", show_default=True
)
columns_option = click.option(
    "--columns",
    type=click.Choice(["1", "2"]),
    default="2",
    show_default=True,
    help="Columns of a paper that the figure is as wide as: 3.4 or 7 inches.",
)


def positive_option(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Callback of an option that takes a positive number."""
    return None if value is None else positive(value, param.opts[0])


def sigmas_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Canonical names, each once; `all` stands for every interpretation.

    Raises:
        BadInput: an unknown name, or a V that is not positive.
    """
    named = [sigma for name in names for sigma in (SIGMAS if name == "all" else [name])]
    merged, _ = merge_repeats(parse_sigma(name) for name in named)
    return merged


def measured_in_words(evaluation: "Evaluation") -> str:
    """`359 train and 359 test images, 4 posterior samples, stored statistics`."""
    counts = {split: len(measured.kl) for split, measured in evaluation.statistics.items()}
    images = " and ".join(f"{count} {split}" for split, count in counts.items())
    noun = "image" if [*counts.values()][-1] == 1 else "images"
    samples = counted(evaluation.draws, "posterior sample")
    return f"{images} {noun}, {samples}, {evaluation.source}"


def check_extra(modules: Sequence[str], extra: str, what: str) -> None:
    """Refuses what needs an extra that is not installed.

    Raises:
        BadInput: one of its modules is not there.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise BadInput(
            f"{what} needs {', '.join(missing)}: pip install 'rdkit-vae[{extra}]' (here: pip "
            f"install '.[{extra}]')"
        )


def bounds_of(text: str | None, option: str) -> tuple[float, float] | None:
    """Reads `LOW,HIGH` of an axis."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
        valid = float("-inf") < low < high < float("inf")
    except ValueError:
        valid = False
    if not valid:
        raise click.BadParameter("must be LOW,HIGH, such as 0,40", param_hint=option)
    return low, high


def check_suffixes(files: Iterable[str], suffixes: Sequence[str], option: str = "--out") -> None:
    """Refuses a file to write whose format is not known.

    Raises:
        BadParameter: its name ends otherwise.
    """
    for name in files:
        if Path(name).suffix not in suffixes:
            raise click.BadParameter(f"{name} must end in {', '.join(suffixes)}", param_hint=option)
