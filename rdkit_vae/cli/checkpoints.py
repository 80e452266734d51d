"""Options that the commands on checkpoints share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.cli.options import data_dir_option, device_option, with_options
from rdkit_vae.config.trial import MOST_DRAWS, import_code

if TYPE_CHECKING:
    from rdkit_vae.evaluation.checkpoints import Measuring

_PLACE_OPTIONS = (
    data_dir_option,
    click.option(
        "--dataset",
        metavar="NAME",
        help="The images, if they have moved since the sweep, or for a model from elsewhere.",
    ),
    device_option,
    click.option(
        "--architecture",
        "architectures",
        metavar="MODULE:NAME",
        multiple=True,
        help="Your own network, if the checkpoints name one. Code is imported only if you name "
        "it here; repeatable.",
    ),
    click.option(
        "--objective",
        "objectives",
        metavar="MODULE:NAME",
        multiple=True,
        help="Your own loss, if the checkpoints name one; repeatable.",
    ),
)
_MEASURING_OPTIONS = (
    click.option(
        "--evaluate", "again", is_flag=True, help="Evaluate now, even if statistics are stored."
    ),
    click.option(
        "--draws",
        type=click.IntRange(1, MOST_DRAWS),
        help="Evaluate now, with this many posterior samples per image (from elsewhere: 8).",
    ),
)
MEASURING = ("data_dir", "dataset", "device", "architectures", "objectives", "again", "draws")
# Where a model runs and its images are; and in `with_measuring_options` also how to measure it.
with_place_options = with_options(_PLACE_OPTIONS)
with_measuring_options = with_options((*_PLACE_OPTIONS, *_MEASURING_OPTIONS))


def measuring_of(
    *, architectures: Sequence[str], objectives: Sequence[str], **options: Any
) -> "Measuring":
    """What the options ask for; imports the user's own code.

    Raises:
        BadInput: the code cannot be imported.
    """
    from rdkit_vae.evaluation.checkpoints import Measuring

    for name in architectures:
        import_code(name, None)
    for name in objectives:
        import_code(None, name)
    return Measuring(**options)
