"""Tables of results as text: aligned, Markdown, LaTeX, CSV.

Their contents may come from untrusted files, so text is escaped wherever a format would take it for
markup or a formula.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from rdkit_vae.scoring.interpretations import SIGMAS
from rdvae_analysis.distance_columns import FID, about_distances, distances
from rdvae_analysis.names import dataset_name, plain
from rdvae_analysis.paper_table import BOUNDS, about_paper, quantities
from rdvae_analysis.points import RUN_COLUMNS, last_checkpoints
from rdvae_analysis.sound import sound_rows

_SETTINGS = ("architecture", "latents", "epochs", "protocol")


def elbo_table(frame: pd.DataFrame, *, split: str = "test") -> tuple[pd.DataFrame, list[str]]:
    """The ELBO of every finished run under every interpretation, seeds averaged.

    Args:
        frame: results, as `load_results` returns them.
        split: `train` or `test`.

    Returns:
        A row per curve and beta (NaN if it is not known): those of dataset, network, epochs,
        protocol, constant variance `C` and `seeds` (how many) that vary; objective, beta, rate
        (nats per image), mse (squared pixel); then a column of ELBOs in nats per image for each
        interpretation, NaN where it does not apply. And notes on what was left out.

    Raises:
        BadInput: a column is missing.
    """
    frame, notes = sound_rows(frame, (*RUN_COLUMNS, "split", "sigma", "rate", "mse", "elbo"))
    rows, left_out = last_checkpoints(frame)
    notes += left_out
    rows = rows[rows["split"] == split].rename(columns={"train_sigma2": "C"})
    keys = ["dataset", "curve", "objective", "beta"]
    settings = [name for name in _SETTINGS if name in rows]
    models = rows.groupby(keys, dropna=False)
    facts = models.agg(
        **{name: (name, "first") for name in (*settings, "C")},
        seeds=("seed", "nunique"),
        rate=("rate", "mean"),
        mse=("mse", "mean"),
    )
    # By number, since a beta that is not known is no index.
    numbered = rows.assign(number=models.ngroup())
    elbos = numbered.pivot_table(index="number", columns="sigma", values="elbo", aggfunc="mean")
    named = [name for name in SIGMAS if name in elbos]
    elbos = elbos[[*named, *(name for name in elbos if name not in named)]]
    table = facts.reset_index().join(elbos)
    if "epochs" in table and (table["epochs"] == 0).any():
        table["epochs"] = table["epochs"].where(table["epochs"] > 0)  # 0: not known
    distinguishing = ["dataset", *settings, "objective", "beta", "C"]
    constant = [key for key in ("dataset", "seeds", *settings) if table[key].nunique() < 2]
    if table["C"].nunique() < 2:
        constant.append("C")
    if not table.duplicated(distinguishing).any():
        constant.append("curve")  # a hash is shown only if nothing else tells rows apart
    table = table.sort_values([*distinguishing, "curve"], ignore_index=True)
    columns = ["dataset", "curve", *settings, "objective", "beta", "C"]
    columns += [name for name in table if name not in columns]
    return table[columns].drop(columns=constant), notes


def to_text(table: pd.DataFrame) -> str:
    """A table as aligned plain text, with numbers rounded for reading."""
    text = table.copy()
    for name in text.columns:
        if pd.api.types.is_float_dtype(text[name]):
            text[name] = [_number(value, str(name)) for value in text[name]]
    return str(text.to_string(index=False))


_SIGNIFICANT = (
    *("beta", "beta_const", "sigma2", "train_sigma2", "C", "product", "distance", "mse"),
    *("implied_beta", "implied_tau", "beta_se", "scatter", "FD", "FD(inf)", "KID", "±"),
)


def _number(value: float, column: str) -> str:
    if pd.isna(value):
        return "-"
    if column == "epochs":
        return f"{value:.0f}"
    if column in _SIGNIFICANT:
        return f"{value:.4g}"
    return (
        f"{value:.4f}"
        if column.endswith(("bits_per_dim", "_bits", "bits_per_latent"))
        else f"{value:.2f}"
    )


@dataclass(frozen=True)
class _Markup:
    """How a format writes the best value, a plus-minus sign, a missing value and plain text."""

    best: str
    plus_minus: str
    missing: str = ""
    escaped: Mapping[str, str] = field(default_factory=dict)
    is_latex: bool = False


_LATEX = {c: f"\\{c}" for c in "&%#_{}$"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # after the end of a line it would start an argument
    "*": "{*}",
}
_FORMULA = ("=", "+", "-", "@", "\t", "\n")  # a cell that starts with one of these
_TEXTS = ("dataset", "setup", "model", "best prior")  # columns, of a rendered table
_OPTIMAL = "optimal"
_NO_DENSITY = (
    "The optimal variance depends on the image that it scores: it is not a density, so these "
    "numbers do not bound a likelihood."
)
_MARKUPS = {
    "text": _Markup("{}*", "±", missing="-"),
    "markdown": _Markup("**{}**", "±", escaped={"|": r"\|"}),
    "latex": _Markup(r"\textbf{{{}}}", r"$\pm$", escaped=_LATEX, is_latex=True),
}
FORMATS = (*_MARKUPS, "csv")


def render(table: pd.DataFrame, kind: str) -> str:
    """A Table 1 as text: mean and standard deviation over seeds, the best of each column marked.

    The standard deviation is that of the population, which divides by the number of seeds, as the
    paper's does. Beside the paper's values stands minus the loss of these models, and below the
    table how to compare the two.

    Args:
        table: as `table1` returns it.
        kind: one of `FORMATS`; `csv` has every column and digit, `latex` is a float with a caption.
    """
    if kind == "csv":
        return to_csv(table)
    cells = _cells(table, _MARKUPS[kind])
    notes = [*about_distances(table), *about_paper(table)]
    if kind == "text":
        footer = [
            "*: best of its column; ±: sd over seeds (divides by the number of seeds)",
            *notes,
        ]
        return f"{cells.to_string(index=False)}\n" + "".join(f"{line}\n" for line in footer)
    header, rows = list(cells), cells.to_numpy().tolist()
    if kind == "markdown":
        rule = ["---" if name in _TEXTS else "---:" for name in header]
        lines = [f"| {' | '.join(line)} |\n" for line in [header, rule, *rows]]
        return "".join([*lines, *(f"\n{_sentence(note)}\n" for note in notes)])
    columns = "".join("l" if name in _TEXTS else "r" for name in header)
    lines = [" & ".join(line) + r" \\" for line in [header, *rows]]
    head = [r"\begin{table}", r"\centering", f"\\caption{{{_caption(table)}}}"]
    head += [f"\\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule"]
    foot = [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join([*head, *lines[1:], *foot])


def to_csv(table: pd.DataFrame) -> str:
    """A table as CSV in which no cell is a formula to a spreadsheet.

    Numbers stay numbers; texts and column names that start like a formula get a `'` in front.
    """
    plain = table.rename(columns=_no_formula)
    for place, name in enumerate(plain.columns):
        if not pd.api.types.is_numeric_dtype(table.iloc[:, place]):
            plain.isetitem(place, table.iloc[:, place].map(_no_formula).rename(name))
    return str(plain.to_csv(index=False))


def _no_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.replace("\r", "\n")  # pandas does not quote a bare \r, so it would end the line
    return f"'{text}" if text.startswith(_FORMULA) else text


def _caption(table: pd.DataFrame) -> str:
    """The caption in LaTeX: the dataset, the unit, the interpretation and the statistics."""
    latex = _MARKUPS["latex"]
    sigma = str(table["sigma"].iloc[0])
    datasets = " and ".join(dict.fromkeys(map(dataset_name, table["dataset"])))
    bounds = " and ".join(name for name in BOUNDS if name in table)
    several = table["seeds"].max() > 1
    means = "mean $\\pm$ standard deviation over seeds (divided by the number of seeds)"
    words = [
        f"ELBO in nats per image on {_text(datasets, latex)} ({bounds}) under the interpretation "
        f"\\texttt{{{_text(sigma, latex)}}} of the decoder variance: "
        f"{means if several else 'one seed'}, the best of each column in bold.",
        *([_NO_DENSITY] if sigma == _OPTIMAL else []),
        *(_text(_sentence(note), latex) for note in [*about_distances(table), *about_paper(table)]),
    ]
    return " ".join(words)


def _cells(table: pd.DataFrame, markup: _Markup) -> pd.DataFrame:
    cells = {}
    several = table.drop_duplicates(["dataset", "setup"])
    if several["dataset"].nunique() > 1:
        cells["dataset"] = [_text(dataset_name(name), markup) for name in table["dataset"]]
    if several["dataset"].duplicated().any():  # networks or epochs differ
        cells["setup"] = [_text(setup, markup) for setup in table["setup"]]
    cells["model"] = [_text(name, markup) for name in table["model"]]
    cells[r"$\beta$" if markup.is_latex else "beta"] = [
        markup.missing if pd.isna(beta) else f"{beta:.4g}" for beta in table["beta"]
    ]
    cells["seeds"] = [f"{seeds:.0f}" for seeds in table["seeds"]]
    for name in quantities(table):
        digits = _digits(table[name]) if name in distances(table) else 1
        cells[_text(name, markup)] = [
            _mean(mean, sd, best, markup, digits)
            for mean, sd, best in zip(
                table[name], table[f"{name}_sd"], table[f"{name}_best"], strict=True
            )
        ]
        minus_loss = f"{name}_minus_loss"
        if minus_loss in table:
            cells[f"{name} ({'$-$' if markup.is_latex else '-'}loss)"] = [
                _mean(mean, sd, False, markup)
                for mean, sd in zip(table[minus_loss], table[f"{minus_loss}_sd"], strict=True)
            ]
        if f"{name}_paper" in table:
            printed = (f"{v:g}" if pd.notna(v) else markup.missing for v in table[f"{name}_paper"])
            cells[f"{name} (paper)"] = list(printed)
    if FID in table:
        printed = (f"{v:g}" if pd.notna(v) else markup.missing for v in table[FID])
        cells[FID] = list(printed)
    if "best_prior" in table and table["best_prior"].notna().any():
        cells["best prior"] = [
            markup.missing if pd.isna(name) else _text(plain(name), markup)
            for name in table["best_prior"]
        ]
    return pd.DataFrame(cells)


def _digits(values: "pd.Series[float]") -> int:
    """Digits after the point that give the smallest of positive values two digits, at least 1."""
    least = values[values > 0].min()
    return 1 if pd.isna(least) else int(min(max(1 - math.floor(math.log10(least)), 1), 6))


def _mean(mean: float, sd: float, best: bool, markup: _Markup, digits: int = 1) -> str:
    if pd.isna(mean):
        return markup.missing
    number = f"{mean:.{digits}f}"
    if markup.is_latex:
        number = number.replace("-", "$-$")
    marked = markup.best.format(number) if best else number
    return marked if pd.isna(sd) else f"{marked} {markup.plus_minus} {sd:.{digits}f}"


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}."


def _text(text: str, markup: _Markup) -> str:
    """A text on one line, with all markup of the format escaped."""
    printable = "".join(c if c.isprintable() else " " for c in str(text))
    return "".join(markup.escaped.get(character, character) for character in printable)
