"""Options that the commands on checkpoints share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.cli.options import data_dir_option
from rdkit_vae.config.trial import MOST_DRAWS

if TYPE_CHECKING:
    from rdkit_vae.evaluation.checkpoints import Measuring

_PLACE_OPTIONS = (
    data_dir_option,
    click.option(
        "--dataset",
        metavar="NAME",
        help="Where the images are now, if not where the sweep found them.",
    ),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto"),
    click.option(
        "--architecture",
        metavar="MODULE:NAME",
        help="A network of your own that the checkpoints name; their files alone run no code.",
    ),
    click.option(
        "--objective", metavar="MODULE:NAME", help="A loss of your own that the checkpoints name."
    ),
)
_MEASURING_OPTIONS = (
    click.option(
        "--evaluate", "again", is_flag=True, help="Measure now, even if statistics are stored."
    ),
    click.option(
        "--draws",
        type=click.IntRange(1, MOST_DRAWS),
        help="Measure now, with so many posterior samples per image.",
    ),
)


def with_place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say where a model runs and its images are, for `measuring_of`."""
    for option in reversed(_PLACE_OPTIONS):
        command = option(command)
    return command


def with_measuring_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds all options that `measuring_of` takes."""
    for option in reversed(_MEASURING_OPTIONS):
        command = option(command)
    return with_place_options(command)


def measuring_of(*, architecture: str | None, objective: str | None, **options: Any) -> "Measuring":
    """What the options ask for, with the user's own code imported.

    Raises:
        BadInput: that code cannot be imported.
    """
    from rdkit_vae.evaluation.checkpoints import Measuring, import_code

    import_code(architecture, objective)
    return Measuring(**options)
