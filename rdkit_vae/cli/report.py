"""`rdvae report`. Never imports torch."""

from pathlib import Path

import click

from rdkit_vae.cli.options import check_extra, check_suffixes, split_option

_NEEDED = ("altair", "vl_convert", "jinja2")


@click.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
@split_option
@click.option("--out", metavar="FILE", default="report.html", show_default=True, help=".html")
def command(folder: Path, split: str, out: str) -> None:
    """One self-contained page of the sweeps below FOLDER, to share: it fetches nothing.

    A summary in words, interactive rate-distortion and ELBO curves, Table 1, every model with its
    pictures (where `rdvae sample` made some), and the commands and versions behind it all. Needs
    the extra `report`: pip install 'rdkit-vae[report]'.

    \b
    rdvae sample runs/mnist
    rdvae report runs/mnist --out report.html
    """
    check_suffixes([out], (".html",))
    check_extra(_NEEDED, "report", "rdvae report")
    from rdkit_vae.system.files import write_output
    from rdvae_analysis.report.page import report

    page, notes = report(folder, split=split)
    for note in notes:
        click.echo(f"rdvae: {note}", err=True)
    data = page.encode("utf-8", "backslashreplace")  # names of folders may be no UTF-8
    write_output(Path(out), data)
    click.echo(f"wrote {out}, {len(data) / 1e6:.2f} MB")
