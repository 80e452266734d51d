"""`rdvae table`. Never imports torch."""

from pathlib import Path

import click

from rdkit_vae.scoring.interpretations import parse_sigma
from rdkit_vae.text import counted

_NOT_A_DENSITY = (
    "sigma optimal looks at x, so these bound no likelihood; --sigma shared or mixture does"
)


@click.command("table")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["text", "markdown", "latex", "csv"]),
    default="text",
    show_default=True,
    help="csv has every column and digit, with intervals over seeds; latex has a caption.",
)
@click.option(
    "--sigma",
    metavar="NAME",
    default="optimal",
    show_default=True,
    help="Interpretation of the decoder variance.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file.")
def command(folder: Path, kind: str, sigma: str, out: Path | None) -> None:
    """The paper's Table 1 of the sweeps below FOLDER: test and train bounds by model and beta.

    Mean and standard deviation over seeds (of the sample: it divides by seeds - 1), nats per image;
    the best of each column is marked. Where dataset and protocol are the paper's, its printed
    values stand beside.

    \b
    rdvae table runs/
    rdvae table runs/mnist --sigma shared --format latex --out table1.tex
    """
    sigma = parse_sigma(sigma)
    from rdkit_vae.system.files import write_output
    from rdvae_analysis.load import scan
    from rdvae_analysis.paper_table import table1
    from rdvae_analysis.points import setups_in_words
    from rdvae_analysis.tables import render

    frame, notes = scan(folder)
    table, left_out = table1(frame, sigma=sigma)
    remarks = [_NOT_A_DENSITY] if sigma == "optimal" else []
    for note in [*notes, *left_out, *setups_in_words(frame), *remarks]:
        click.echo(f"rdvae: {note}", err=True)
    text = render(table, kind)
    if out is None:
        click.echo(text, nl=False)
        return
    write_output(out, text.encode())
    click.echo(f"wrote {counted(len(table), 'row')}: {out}")
