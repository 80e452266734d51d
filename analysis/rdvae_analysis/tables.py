"""Tables of results as text: aligned, Markdown, LaTeX, CSV."""

from dataclasses import dataclass

import pandas as pd

from rdkit_vae.grammar import SIGMAS
from rdvae_analysis.names import dataset_name
from rdvae_analysis.paper_table import quantities
from rdvae_analysis.points import final_rows


def elbo_table(frame: pd.DataFrame, *, split: str = "test") -> tuple[pd.DataFrame, list[str]]:
    """The ELBO of every finished run under every interpretation, seeds averaged.

    Args:
        frame: results, as `load_results` gives them.
        split: `train` or `test`.

    Returns:
        A row per curve and beta: objective, beta, seeds (how many), rate (nats), mse, then a column
        of ELBOs in nats per image for each interpretation, empty where it does not apply; and in
        words what was left out.
    """
    rows, notes = final_rows(frame)
    rows = rows[rows["split"] == split]
    keys = ["dataset", "curve", "objective", "beta"]
    facts = rows.groupby(keys).agg(
        seeds=("seed", "nunique"), rate=("rate", "mean"), mse=("mse", "mean")
    )
    elbos = rows.pivot_table(index=keys, columns="sigma", values="elbo", aggfunc="mean")
    named = [name for name in SIGMAS if name in elbos]
    elbos = elbos[[*named, *(name for name in elbos if name not in named)]]
    table = facts.join(elbos).reset_index()
    constant = [key for key in ("dataset", "seeds") if table[key].nunique() == 1]
    if not table.duplicated(["dataset", "objective", "beta"]).any():
        constant.append("curve")
    return table.drop(columns=constant), notes


def to_text(table: pd.DataFrame) -> str:
    """A table as aligned plain text; numbers get the digits that a reader can use."""
    text = table.copy()
    for name in text.columns:
        if pd.api.types.is_float_dtype(text[name]):
            text[name] = [_number(value, str(name)) for value in text[name]]
    return str(text.to_string(index=False))


_SIGNIFICANT = ("beta", "beta_const", "sigma2", "train_sigma2", "C", "product", "distance", "mse")


def _number(value: float, column: str) -> str:
    if pd.isna(value):
        return "-"
    if column in _SIGNIFICANT:
        return f"{value:.4g}"
    return f"{value:.4f}" if column.endswith(("bits_per_dim", "_bits")) else f"{value:.2f}"


@dataclass(frozen=True)
class _Markup:
    """How a format writes the best value, a plus-minus, what is not there, and plain text."""

    best: str
    plus_minus: str
    missing: str = ""
    escape: bool = False


_MARKUPS = {
    "text": _Markup("{}*", "±", missing="-"),
    "markdown": _Markup("**{}**", "±"),
    "latex": _Markup(r"\textbf{{{}}}", r"$\pm$", escape=True),
}
_LATEX = {c: f"\\{c}" for c in "&%#_{}$"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
FORMATS = (*_MARKUPS, "csv")


def render(table: pd.DataFrame, kind: str) -> str:
    """A Table 1 as text: mean and standard deviation over seeds, the best of each column marked.

    Args:
        table: as `paper_table.table1` gives it.
        kind: of `FORMATS`; `csv` has every column and digit.
    """
    if kind == "csv":
        return str(table.to_csv(index=False))
    cells = _cells(table, _MARKUPS[kind])
    if kind == "text":
        return f"{cells.to_string(index=False)}\n*: best of its column; ±: sd over seeds\n"
    header, rows = list(cells), cells.to_numpy().tolist()
    if kind == "markdown":
        rule = ["---" if name in ("dataset", "setup", "model") else "---:" for name in header]
        return "".join(f"| {' | '.join(line)} |\n" for line in [header, rule, *rows])
    columns = "".join("l" if name in ("dataset", "setup", "model") else "r" for name in header)
    lines = [" & ".join(line) + r" \\" for line in [header, *rows]]
    head = [f"\\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule"]
    return "\n".join([*head, *lines[1:], r"\bottomrule", r"\end{tabular}", ""])


def _cells(table: pd.DataFrame, markup: _Markup) -> pd.DataFrame:
    cells = {}
    several = table.drop_duplicates(["dataset", "setup"])
    if several["dataset"].nunique() > 1:
        cells["dataset"] = [_text(dataset_name(name), markup) for name in table["dataset"]]
    if several["dataset"].duplicated().any():  # networks or epochs differ
        cells["setup"] = list(table["setup"])
    cells["model"] = [_text(name, markup) for name in table["model"]]
    cells[r"$\beta$" if markup.escape else "beta"] = [f"{beta:.4g}" for beta in table["beta"]]
    cells["seeds"] = [f"{seeds:.0f}" for seeds in table["seeds"]]
    for name in quantities(table):
        cells[name] = [
            _mean(mean, sd, best, markup)
            for mean, sd, best in zip(
                table[name], table[f"{name}_sd"], table[f"{name}_best"], strict=True
            )
        ]
        if f"{name}_paper" in table:
            printed = (f"{v:g}" if pd.notna(v) else markup.missing for v in table[f"{name}_paper"])
            cells[f"{name} (paper)"] = list(printed)
    return pd.DataFrame(cells)


def _mean(mean: float, sd: float, best: bool, markup: _Markup) -> str:
    if pd.isna(mean):
        return markup.missing
    number = f"{mean:.1f}"
    if markup.escape:
        number = number.replace("-", "$-$")
    marked = markup.best.format(number) if best else number
    return marked if pd.isna(sd) else f"{marked} {markup.plus_minus} {sd:.1f}"


def _text(text: str, markup: _Markup) -> str:
    if not markup.escape:
        return text
    return "".join(_LATEX.get(character, character) for character in text)
