"""`rdvae plot-rd`. Never imports torch."""

from pathlib import Path

import click

from rdkit_vae.cli.options import bounds_of, check_suffixes, columns_option, sigmas_of, split_option
from rdkit_vae.objectives.losses import OBJECTIVES
from rdkit_vae.text import counted, one_of

SUFFIXES = (".png", ".pdf", ".svg")


@click.command("plot-rd")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--distortion",
    type=click.Choice(["nll", "mse", "psnr"]),
    default="nll",
    show_default=True,
    help="nll: -log p(x|z) in nats, by interpretation. mse and psnr: no variance changes them; "
    "rates are in bits per pixel then.",
)
@split_option
@click.option(
    "--sigma", "sigmas", metavar="NAME", multiple=True, help="Interpretations to draw; repeatable."
)
@click.option(
    "--objective", "objectives", metavar="NAME", multiple=True, help="Objectives; repeatable."
)
@click.option("--xlim", metavar="LOW,HIGH", help="Rates to show, in the unit of the axis.")
@click.option("--ylim", metavar="LOW,HIGH", help="Distortions to show.")
@columns_option
@click.option(
    "--out",
    metavar="FILE",
    multiple=True,
    default=("figures/rd.png",),
    show_default=True,
    help=".png, .pdf or .svg; repeatable.",
)
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

    The last checkpoint of each run is a point: rate across, distortion up, beta along the curve.
    Seeds are averaged, and whiskers span them; verticals join the readings of the same weights.
    Runs that are not finished are left out and named.

    \b
    rdvae plot-rd runs/
    rdvae plot-rd runs/digits --sigma optimal --sigma shared --out rd.pdf --out rd.png
    rdvae plot-rd runs/ --distortion psnr --objective optimal
    """
    chosen_sigmas = sigmas_of(sigmas)
    chosen_objectives = [one_of(name, OBJECTIVES, "objective") for name in objectives]
    x, y = bounds_of(xlim, "--xlim"), bounds_of(ylim, "--ylim")
    check_suffixes(out, SUFFIXES)

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
    for note in [*notes, *left_out]:
        click.echo(f"rdvae: {note}", err=True)
    figure = rd(points, distortion=distortion, split=split, columns=int(columns), xlim=x, ylim=y)
    for path in out:
        save(figure, Path(path))
        click.echo(f"drew {counted(len(points), 'point')}: {path}")
