"""`rdvae plot-rd`. Never imports torch."""

from pathlib import Path

import click

from rdkit_vae.cli.options import (
    FIGURE_SUFFIXES,
    bounds_of,
    check_suffixes,
    figure_options,
    sigmas_of,
    split_option,
)
from rdkit_vae.cli.terminal import print_notes
from rdkit_vae.objectives.losses import objective_name
from rdkit_vae.text import counted


@click.command("plot-rd")
@figure_options("rd")
@click.option(
    "--distortion",
    type=click.Choice(["nll", "mse", "psnr"]),
    default="nll",
    show_default=True,
    help="nll: -log p(x|z) in nats, for each interpretation. mse and psnr do not depend on the "
    "variance; rates are then in bits per pixel.",
)
@split_option
@click.option(
    "--sigma",
    "sigmas",
    metavar="NAME",
    multiple=True,
    help="Interpretation of the variance to draw. Repeatable.  [default: the main ones of each "
    "objective]",
)
@click.option(
    "--objective",
    "objectives",
    metavar="NAME",
    multiple=True,
    help="Only this objective. Repeatable.  [default: all]",
)
@click.option("--xlim", metavar="LOW,HIGH", help="Range of rates to show, in the unit of the axis.")
@click.option("--ylim", metavar="LOW,HIGH", help="Range of distortions to show.")
def command(
    folder: Path,
    distortion: str,
    split: str,
    sigmas: tuple[str, ...],
    objectives: tuple[str, ...],
    xlim: str | None,
    ylim: str | None,
    columns: str,
    out: tuple[str, ...],
) -> None:
    """Draw the rate-distortion curves of all sweeps below FOLDER (the paper's Fig. 3).

    The last checkpoint of each run is a point, with the rate on the horizontal axis and the
    distortion on the vertical one; beta varies along each curve. Points are means over seeds, and
    whiskers show their range. Vertical lines join interpretations of the same weights. Unfinished
    runs are skipped, and their names are printed.

    \b
    rdvae plot-rd runs/
    rdvae plot-rd runs/digits --sigma optimal --sigma shared --out rd.pdf --out rd.png
    rdvae plot-rd runs/ --distortion psnr --objective optimal
    """
    chosen_sigmas = sigmas_of(sigmas)
    chosen_objectives = [objective_name(name) for name in objectives]
    x, y = bounds_of(xlim, "--xlim"), bounds_of(ylim, "--ylim")
    check_suffixes(out, FIGURE_SUFFIXES)

    from rdvae_analysis.figures.rd import rd
    from rdvae_analysis.figures.style import save
    from rdvae_analysis.load import scan
    from rdvae_analysis.points import POINT_COLUMNS, rd_points

    frame, notes = scan(folder, columns=POINT_COLUMNS)
    points, left_out = rd_points(
        frame,
        distortion=distortion,
        split=split,
        sigmas=chosen_sigmas,
        objectives=chosen_objectives,
    )
    print_notes([*notes, *left_out])
    figure = rd(points, distortion=distortion, split=split, columns=int(columns), xlim=x, ylim=y)
    for path in out:
        save(figure, Path(path))
        click.echo(f"drew {counted(len(points), 'point')}: {path}")
