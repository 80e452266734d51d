"""Options that several commands share, and how they are parsed."""

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.config.parsing import merge_repeats
from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.interpretations import SIGMAS, parse_sigma
from rdkit_vae.text import counted, positive

if TYPE_CHECKING:
    from rdkit_vae.store.evaluations import Evaluation

Function = Callable[..., Any]


class Runs(click.Path):
    """A path, or the URL of a place in an object store, of which a local copy is made."""

    def __init__(self, *kinds: str) -> None:
        super().__init__(path_type=Path)
        self._kinds = kinds or ("results",)

    def convert(self, value: Any, *about: Any) -> Any:
        """Returns the path, or that of the copy."""
        from rdkit_vae.store.mirror import local
        from rdkit_vae.store.objects import is_url

        if is_url(value):
            return local(value, self._kinds)
        return super().convert(value, *about)


data_dir_option = click.option(
    "--data-dir",
    metavar="DIR",
    help="Folder with the files of mnist, fashion-mnist or celeba.  [default: $RDVAE_DATA]",
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where the networks run.",
)
split_option = click.option(
    "--split",
    type=click.Choice(["test", "train"]),
    default="test",
    show_default=True,
    help="Which data split to use.",
)

features_option = click.option(
    "--features",
    metavar="NAME",
    default="",
    help="Features of the distances, such as classifier or 'classifier 3f2a9c1b'.  [default: those "
    "of most rows]",
)


def sigma_option(default: str) -> Callable[[Function], Function]:
    """Adds --sigma, which names one interpretation."""
    return click.option(
        "--sigma",
        metavar="NAME",
        default=default,
        show_default=True,
        help="Interpretation of the decoder variance.",
    )


FIGURE_SUFFIXES = (".png", ".pdf", ".svg")


def figure_options(name: str, *kinds: str) -> Callable[[Function], Function]:
    """Adds FOLDER, --columns and --out, which every figure takes.

    Args:
        name: of the figure.
        *kinds: folders of a sweep that it is drawn from; by default the results.
    """
    options = (
        click.argument("folder", type=Runs(*kinds)),
        click.option(
            "--columns",
            type=click.Choice(["1", "2"]),
            default="2",
            show_default=True,
            help="Width in columns of a paper: 1 (3.4 inches) or 2 (7 inches).",
        ),
        click.option(
            "--out",
            metavar="FILE",
            multiple=True,
            default=(f"figures/{name}.png",),
            show_default=True,
            help="File to write: .png, .pdf or .svg. Repeatable.",
        ),
    )
    return with_options(options)


def with_options(
    options: Sequence[Callable[[Function], Function]],
) -> Callable[[Function], Function]:
    """A decorator that adds several options, which the help lists in this order."""

    def add(command: Function) -> Function:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def positive_option(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Callback of an option that takes a positive number."""
    return None if value is None else positive(value, param.opts[0])


def sigmas_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Canonical names of interpretations, without repeats; `all` stands for every one.

    Raises:
        BadInput: a name is unknown, or the V of `constant:V` is not positive.
    """
    named = [sigma for name in names for sigma in (SIGMAS if name == "all" else [name])]
    merged, _ = merge_repeats(parse_sigma(name) for name in named)
    return merged


def student_in_words(sigma: str, nu: float) -> str:
    """A note on the Student t of an interpretation."""
    return f"{sigma}: Student t of {nu:.3g} degrees of freedom; sigma2 is its scale"


def measured_in_words(evaluation: "Evaluation") -> str:
    """`359 train and 359 test images, 4 posterior samples, stored statistics`."""
    counts = {split: len(measured.kl) for split, measured in evaluation.statistics.items()}
    images = " and ".join(f"{count} {split}" for split, count in counts.items())
    noun = "image" if [*counts.values()][-1] == 1 else "images"
    samples = counted(evaluation.draws, "posterior sample")
    return f"{images} {noun}, {samples}, {evaluation.source}"


def check_extra(modules: Sequence[str], extra: str, what: str) -> None:
    """Checks that the modules of an optional extra are installed.

    Raises:
        BadInput: one of them is missing.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise BadInput(
            f"{what} needs {', '.join(missing)}: pip install 'rdkit-vae[{extra}]' (in a clone: pip "
            f"install '.[{extra}]')"
        )


def bounds_of(text: str | None, option: str) -> tuple[float, float] | None:
    """Parses the `LOW,HIGH` of an axis."""
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
    """Checks that the names of files to write end in one of the suffixes.

    Raises:
        BadParameter: one does not.
    """
    for name in files:
        if Path(name).suffix not in suffixes:
            raise click.BadParameter(f"{name} must end in {', '.join(suffixes)}", param_hint=option)
