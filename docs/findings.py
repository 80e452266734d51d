"""Draws docs/findings.md from the rows in runs/: python docs/findings.py

An objective is called ahead or behind where the 95% interval over seeds (Student's t) excludes zero
and, at equal rate, the difference exceeds the interpolation error. A single seed has no interval.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rdkit_vae.store.paths import Sweep
from rdkit_vae.system.files import read_json
from rdkit_vae.text import counted
from rdvae_analysis import paper
from rdvae_analysis.consistency import by_beta, spread
from rdvae_analysis.curves import COLLAPSED
from rdvae_analysis.intervals import mean_interval
from rdvae_analysis.load import scan
from rdvae_analysis.matched import best, constant_curve, matched_rate
from rdvae_analysis.names import dataset_name, in_order, objective_name, short
from rdvae_analysis.paper_table import table1
from rdvae_analysis.points import comparable, final_rows

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "findings.md"
SWEEPS = ("mnist-paper", "mnist-mlp", "example")  # in runs/, if they exist
# Of experiments by dataset, network and protocol: files in figures/, and what they show.
_FIGURES = {
    ("mnist", "conv", "paper"): {
        "rd-mnist-paper.png": "Rate-distortion curves of these models",
        "samples-mnist.png": "Their reconstructions, and samples from the prior",
    },
    ("mnist", "mlp", "clean"): {"rd-mnist.png": "Rate-distortion curves of these models"},
    ("digits", "mlp", "clean"): {"rd-example.png": "Rate-distortion curves of these models"},
}
_DENSITIES_FIRST = ("student", "mixture", "shared", "optimal")
_CONSTANT = "constant"
_VERDICTS = ("ahead", "behind", "higher", "lower", "not told apart")
_LEAST = 0.05  # nats; a smaller difference is printed as 0.0
_INTRODUCTION = """\
# Findings

What the models in `runs/` say about the paper, under every interpretation of the variance.
`python docs/findings.py` draws this page from their rows. Numbers are nats per image on the test
split; where there are several seeds they are means, with 95% intervals over seeds (Student's t)
in brackets. An objective is called ahead or behind only where that interval excludes zero and, at
equal rate, the difference exceeds the error of interpolating both curves. A single seed has no
interval: "higher" and "lower" then describe that seed, and nothing says whether another would
agree.

At equal rate, the ELBO under `shared` depends on the mean squared error alone (exactly so on the
train split, where s2 is fitted): a gain of g nats there is a mean squared error times exp(-2 g/D).
The column "mse" shows this change.
"""


def committed() -> list[Path]:
    """The folders of `SWEEPS` that exist."""
    return [folder for name in SWEEPS if (folder := ROOT / "runs" / name).exists()]


def page(*folders: Path) -> str:
    """Returns the whole page for the sweeps below some folders.

    Raises:
        ValueError: rows cannot be used; the message names them.
    """
    frame, notes = scan(*folders)
    for sweep in map(Sweep, folders):
        of_sweep = frame["run_id"].isin(sweep.run_ids())
        frame.loc[of_sweep, "trained_on"] = read_json(sweep.description)["data"]["n_train"]
    rows, left_out = final_rows(frame)
    rows, loose = comparable(rows)
    if problems := [*notes, *left_out, *loose]:
        raise ValueError("; ".join(problems))
    parts = [_INTRODUCTION]
    setups = rows.groupby(["dataset", "setup"], sort=False)
    for _, part in sorted(setups, key=lambda item: (item[0][0] != "mnist", item[0])):
        parts += _experiment(part)
    return "\n".join(parts)


def _experiment(rows: pd.DataFrame) -> Iterator[str]:
    test = rows[rows["split"] == "test"]
    first = test.iloc[0]
    epochs = counted(int(first["epochs"]), "epoch")
    images = counted(int(first["trained_on"]), "image")
    samples = counted(int(first["n_draws"]), "posterior sample")
    yield f"## {_title(first)}\n"
    yield (
        f"Trained on {images} for {epochs} with {counted(test['seed'].nunique(), 'seed')}; "
        f"scored on {int(first['n_images']):,} test images with {samples} of each.\n"
    )
    key = (first["dataset"], first["architecture"], first["protocol"])
    for file, shows in _FIGURES.get(key, {}).items():
        yield f"![{shows}](../figures/{file})\n"
    yield "ELBO by interpretation:\n"
    yield _elbos(test)
    yield from _best(test)
    yield from _equal_beta(test)
    yield from _equal_rate(test)
    yield from _paper(rows)


def _title(row: "pd.Series[object]") -> str:
    protocol = "" if row["protocol"] == "clean" else f", protocol {row['protocol']}"
    return f"{dataset_name(str(row['dataset']))}, {row['architecture']}{protocol}"


def _elbos(rows: pd.DataFrame) -> str:
    table = by_beta(spread(rows))
    sigmas = [name for name in (*_DENSITIES_FIRST, "half", "beta-half", "own") if name in table]
    return _table(
        {
            "objective": _named(table["objective"]),
            "β": table["beta"].map(short),
            "rate": table["rate"].map("{:.2f}".format),
            "mse": table["mse"].map("{:.4g}".format),
            **{name: table[name].map(_nats) for name in sigmas},
            "highest - lowest": table["spread"].map(_nats),
        }
    )


def _best(rows: pd.DataFrame) -> Iterator[str]:
    """The best model of each objective under each interpretation, against constant variance."""
    table = best(rows)
    objectives = in_order(table["objective"])
    cells = table.set_index(["objective", "sigma"])
    sigmas = [sigma for sigma in _DENSITIES_FIRST if sigma in set(table["sigma"])]

    def cell(objective: str, sigma: str) -> str:
        row = cells.loc[(objective, sigma)]
        return f"{_nats(row['elbo'])} (β = {short(row['beta'])})"

    yield "The best ELBO over beta:\n"
    columns = {name: [cell(name, sigma) for sigma in sigmas] for name in objectives}
    named = {objective_name(name): values for name, values in columns.items()}
    yield _table({"interpretation": sigmas, **named})
    for objective in (name for name in objectives if name != _CONSTANT):
        differences = [
            f"{_change(_paired(rows, sigma, cells, objective))} under `{sigma}`" for sigma in sigmas
        ]
        yield (
            f"The best {objective_name(objective)} minus the best model of constant variance: "
            f"{_listed(differences)}.\n"
        )


def _paired(
    rows: pd.DataFrame, sigma: str, cells: pd.DataFrame, objective: str
) -> tuple[float, float, float]:
    """The difference of both best models with its interval over the seeds that they share."""
    by_seed = [
        rows[
            (rows["objective"] == name)
            & (rows["sigma"] == sigma)
            & (rows["beta"] == cells.loc[(name, sigma), "beta"])
        ].set_index("seed")["elbo"]
        for name in (objective, _CONSTANT)
    ]
    return _interval((by_seed[0] - by_seed[1]).dropna().to_numpy())


def _equal_beta(rows: pd.DataFrame) -> Iterator[str]:
    """Each objective against constant variance at the same beta, and a Student t against BS-VAE."""
    others = [name for name in in_order(rows["objective"]) if name != _CONSTANT]
    pairs = [(name, _CONSTANT) for name in others]
    pairs += [("student", "optimal")] if {"student", "optimal"} <= {*others} else []
    keys = ["sigma", "beta", "seed"]
    for objective, against in pairs:
        part = rows[rows["objective"] == objective]
        base = constant_curve(rows) if against == _CONSTANT else rows[rows["objective"] == against]
        both = part.merge(base, on=keys, suffixes=("", "_base"))
        if both.empty:
            continue
        both["gain"] = both["elbo"] - both["elbo_base"]
        gains = {key: _interval(group["gain"].to_numpy()) for key, group in both.groupby(keys[:2])}
        betas = sorted(set(both["beta"]))
        sigmas = [sigma for sigma in _DENSITIES_FIRST if (sigma, betas[0]) in gains]
        names = objective_name(objective), objective_name(against)
        yield f"{names[0]} minus {names[1]} at the same beta:\n"
        columns = {sigma: [_change(gains[sigma, beta]) for beta in betas] for sigma in sigmas}
        yield _table({"β": [short(beta) for beta in betas], **columns})
        for sigma in sigmas:
            verdicts = [_verdict(*gains[sigma, beta]) for beta in betas]
            yield f"- `{sigma}`: {_where(verdicts, [short(b) for b in betas], 'β =')}."
        yield ""


def _equal_rate(rows: pd.DataFrame) -> Iterator[str]:
    """Each objective against constant variance at the same rate, and what each image's s2 gives."""
    table, notes = matched_rate(rows)
    for objective, part in table.groupby("objective", sort=False):
        sigmas = [sigma for sigma in _DENSITIES_FIRST if sigma in set(part["sigma"])]
        wide = part.set_index(["rate", "sigma"])[["gain", "low", "high", "miss"]]
        rates = sorted(set(part["rate"]))
        gains = {sigma: [wide.loc[(rate, sigma)] for rate in rates] for sigma in sigmas}
        yield f"{objective_name(str(objective))} minus constant variance at the same rate:\n"
        columns = {sigma: [_change(row[:3]) for row in of] for sigma, of in gains.items()}
        factors = [math.exp(-2 * row["gain"] / rows["dims"].iloc[0]) for row in gains["shared"]]
        columns["mse"] = [f"{factor - 1:+.1%}" for factor in factors]
        error = [f"{row['miss']:.1f}" for row in gains[sigmas[0]]]
        named = [f"{rate:.1f}" for rate in rates]
        yield _table({"rate": named, **columns, "interpolation error": error})
        for sigma in sigmas:
            verdicts = [_verdict(*row[:3], float(row["miss"])) for row in gains[sigma]]
            yield f"- `{sigma}`: {_where(verdicts, named, 'rate')}."
        pairs = zip(gains["optimal"], gains["shared"], strict=True)
        more = [float(optimal["gain"] - shared["gain"]) for optimal, shared in pairs]
        yield (
            f"- The variance of each image accounts for {_nats(min(more), '+')} to "
            f"{_nats(max(more), '+')} nats of the gain under `optimal`: it gains that much more "
            "there than under `shared`.\n"
        )
    yield "".join(f"- {note}.\n" for note in notes)


def _paper(rows: pd.DataFrame) -> Iterator[str]:
    """The paper's Table 1 beside ours, and the mse that its values need."""
    table, _ = table1(rows)
    if "test_paper" not in table:
        return
    table = table[table["test_paper"].notna()]
    test = rows[(rows["split"] == "test") & (rows["sigma"] == paper.SIGMA)]
    means = test.groupby(["objective", "beta"])[["rate", "mse", "dims"]].mean()
    facts = means.loc[list(zip(table["objective"], table["beta"], strict=True))].reset_index()
    needed = [
        mse_of_paper(value, row.beta, row.rate, int(row.dims))
        for value, row in zip(table["test_paper"], facts.itertuples(), strict=True)
    ]
    yield "Against the paper's Table 1, which prints minus the training loss under `optimal`:\n"
    yield _table(
        {
            "objective": _named(table["objective"]),
            "β": table["beta"].map(short),
            "ELBO": table["test"].map(_nats),
            "minus the loss": table["test_minus_loss"].map(_nats),
            "the paper's": table["test_paper"].map(_nats),
            "rate": facts["rate"].map("{:.1f}".format),
            "mse": facts["mse"].map("{:.4g}".format),
            "mse that the paper's value needs at this rate": [f"{value:.3g}" for value in needed],
        }
    )
    epochs, seeds = int(table["epochs"].iloc[0]), int(table["seeds"].max())
    speed = ""
    if epochs < paper.EPOCHS:
        speed = ". After fewer epochs, objectives also differ in how fast they learn"
        worst = facts.loc[facts["mse"].idxmax()]
        if worst["rate"] < COLLAPSED:
            model = f"{objective_name(worst['objective'])} at β = {short(worst['beta'])}"
            speed += (
                f": {model} codes nothing (rate {worst['rate']:.2f}), so an mse near its "
                f"{worst['mse']:.4g} is that of a model which has hardly begun"
            )
    yield (
        f"The paper trained for {paper.EPOCHS} epochs with {paper.SEEDS} seeds; this is "
        f"{counted(epochs, 'epoch')} with {counted(seeds, 'seed')}{speed}.\n"
    )


def mse_of_paper(value: float, beta: float, rate: float, dims: int) -> float:
    """The mse for which -(distortion + beta x rate) is a value of the paper, squared pixels.

    The distortion under `optimal` is (D/2)(log(2 pi mse) + 1) if all images have the same mse.
    """
    return math.exp(2 * (-value - beta * rate) / dims - 1) / (2 * math.pi)


def _interval(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> tuple[float, float, float]:
    mean, low, high = mean_interval(values[:, None])
    return float(mean[0]), float(low[0]), float(high[0])


def _verdict(gain: float, low: float, high: float, error: float = 0.0) -> str:
    """One of `_VERDICTS`; the bounds of a single seed are NaN."""
    if abs(gain) <= max(error, _LEAST) or low <= 0 <= high:
        return "not told apart"
    if math.isnan(low):
        return "higher" if gain > 0 else "lower"
    return "ahead" if gain > 0 else "behind"


def _where(verdicts: Sequence[str], names: Sequence[str], unit: str) -> str:
    """The verdicts with the betas or rates of each."""
    parts = []
    for verdict in _VERDICTS:
        at = [name for name, found in zip(names, verdicts, strict=True) if found == verdict]
        if len(at) == len(names):
            return f"{verdict} at every {unit.removesuffix(' =')}"
        if at:
            parts.append(f"{verdict} at {unit} {', '.join(at)}")
    return "; ".join(parts)


def _change(numbers: Sequence[float]) -> str:
    gain, low, high = numbers
    interval = "" if math.isnan(low) else f" [{_nats(low, '+')}, {_nats(high, '+')}]"
    return f"{_nats(gain, '+')}{interval}"


def _nats(value: float, sign: str = "-") -> str:
    return "" if math.isnan(value) else f"{value:{sign},.1f}"


def _named(objectives: "pd.Series[str]") -> list[str]:
    return [objective_name(objective) for objective in objectives]


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _table(columns: "dict[str, Sequence[str] | pd.Series[str]]") -> str:
    lines = [list(columns), ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(*committed()), "utf-8")
