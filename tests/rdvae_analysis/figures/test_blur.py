"""What the figures of samples and of priors show: the numbers of their tables."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from rdkit_vae.errors import BadInput
from rdvae_analysis.figures.blur import blur
from rdvae_analysis.figures.priors import priors as plot_priors
from rdvae_analysis.shares import prior_rates, prior_shares

Made = Callable[..., pd.DataFrame]


@pytest.fixture
def table(generation: pd.DataFrame, priors: pd.DataFrame) -> pd.DataFrame:
    return prior_shares(generation, priors)[0]


def _drawn(axes: Axes, *, hollow: bool) -> set[tuple[float, float]]:
    lines = [line for line in axes.lines if line.get_marker() not in ("None", "_", "|")]
    white = [line for line in lines if (line.get_markerfacecolor() == "white") == hollow]
    return {tuple(np.round(point, 9)) for line in white for point in line.get_xydata()}


def _expected(table: pd.DataFrame, name: str) -> set[tuple[float, float]]:
    return {tuple(p) for p in table[["frechet_reconstruction", name]].round(9).to_numpy()}


def test_every_model_is_a_point_and_a_line_is_the_share_of_its_prior(table: pd.DataFrame) -> None:
    axes = blur(table).axes[0]
    assert _drawn(axes, hollow=False) == _expected(table, "frechet")
    assert _drawn(axes, hollow=True) == _expected(table, "frechet_best")
    lengths = [
        abs(segment[1, 1] - segment[0, 1])
        for lines in axes.collections
        if isinstance(lines, LineCollection)
        for segment in lines.get_segments()
        if np.isclose(segment[0, 0], segment[1, 0])
    ]
    assert {round(share, 6) for share in table["share"]} <= {round(d, 6) for d in lengths}


def test_the_diagonal_and_the_level_of_real_images_are_where_they_belong(
    table: pd.DataFrame,
) -> None:
    axes = blur(table).axes[0]
    unmarked = [line for line in axes.lines if line.get_marker() == "None"]
    ends = [np.asarray(line.get_xydata()) for line in unmarked if len(line.get_xydata()) == 2]
    (diagonal,) = (end for end in ends if end[0, 0] == end[0, 1])
    assert diagonal[1, 0] == diagonal[1, 1] > diagonal[0, 0]
    levels = [set(line.get_ydata()) for line in axes.lines if len(line.get_ydata()) == 2]
    assert {table["floor"].iloc[0]} in levels


@pytest.mark.parametrize(("factor", "scale"), [(1.0, "linear"), (40.0, "log")])
def test_axes_are_logarithmic_beyond_a_decade(
    table: pd.DataFrame, factor: float, scale: str
) -> None:
    one = table[table["beta"] == 1]
    names = [name for name in one if "frechet" in name and pd.api.types.is_float_dtype(one[name])]
    far = one.copy()
    far.loc[far.index[-1], names] *= factor
    axes = blur(far).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == (scale, scale)


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("pixels", ["clipped", "stretched"])
def test_distances_are_drawn_under_the_names_of_their_features(
    frame: pd.DataFrame, distances_of: Made, rates_of: Made, columns: int, pixels: str
) -> None:
    made = distances_of(frame, pixels=pixels, features="pixels", features_sha256="0011223344")
    axes = blur(prior_shares(made, rates_of(frame))[0], columns=columns).axes[0]
    for label in (axes.get_xlabel(), axes.get_ylabel()):
        words = " ".join(label.split())
        assert words.startswith("Fréchet distance of ")
        assert "pixels 00112233" in words
        assert ("stretched pictures" in words) == (pixels == "stretched")
    title = " ".join(axes.get_title().split())
    for fact in ("digits, test split", "1,000 samples and 500 reconstructions", "2 seeds"):
        assert fact in title


def test_no_hollow_marker_without_fitted_priors(
    generation: pd.DataFrame, priors: pd.DataFrame
) -> None:
    figure = blur(prior_shares(generation, priors[:0])[0])
    assert _drawn(figure.axes[0], hollow=True) == set()
    assert "best-fitting" not in _key(figure)
    only_standard = priors.assign(rate=priors["rate"].mask(priors["prior"] == "standard", 0.0))
    figure = blur(prior_shares(generation, only_standard)[0])
    assert _drawn(figure.axes[0], hollow=True) == set()


def _key(figure: Figure) -> str:
    return " ".join(text.get_text() for legend in figure.legends for text in legend.get_texts())


def test_nothing_to_draw_is_said(generation: pd.DataFrame, priors: pd.DataFrame) -> None:
    only_samples = generation[generation["source"] == "prior"]
    with pytest.raises(BadInput, match="rdvae generation measures them"):
        blur(prior_shares(only_samples, priors)[0])
    with pytest.raises(BadInput, match="rdvae describe --priors"):
        plot_priors(prior_rates(priors[:0])[0])


def _points(axes: Axes) -> set[tuple[float, ...]]:
    lines = [line for line in axes.lines if line.get_marker() not in ("None", "_", "|")]
    return {tuple(np.round(point, 9)) for line in lines for point in line.get_xydata()}


def test_every_rate_is_drawn_in_the_panels_of_its_objective(priors: pd.DataFrame) -> None:
    table, _ = prior_rates(priors)
    figure = plot_priors(table)
    titles = [axes.get_title().partition(" (")[0] for axes in figure.axes]
    assert titles == 2 * ["constant variance"] + 2 * ["BS-VAE"]
    standard = table[table["prior"] == "standard"].set_index(["objective", "beta"])["rate"]
    for place, objective in enumerate(("constant", "optimal")):
        part = table[table["objective"] == objective]
        rates, shares = figure.axes[2 * place : 2 * place + 2]
        assert _points(rates) == {tuple(p) for p in part[["beta", "rate"]].round(9).to_numpy()}
        expected = {
            (round(row.beta, 9), round(row.rate / standard[objective, row.beta], 9))
            for row in part.itertuples()
            if standard[objective, row.beta] >= 0.1
        }
        assert _points(shares) == expected
        assert expected
    assert "two-stage (at most)" in " ".join(_key(figure).split())
    (title,) = (text.get_text() for text in figure.texts)
    assert "digits, test split, 2 seeds" in title


@pytest.mark.parametrize(("power", "scale"), [(1.0, "log"), (0.1, "linear")])
def test_rates_are_logarithmic_beyond_a_decade(
    priors: pd.DataFrame, power: float, scale: str
) -> None:
    spread = priors.assign(rate=(priors["rate"] / priors["beta"]) ** power)
    assert plot_priors(prior_rates(spread)[0]).axes[0].get_yscale() == scale


@pytest.mark.parametrize("name", ["blur", "priors"])
def test_models_from_elsewhere_are_drawn(
    name: str, with_models: pd.DataFrame, distances_of: Made, rates_of: Made
) -> None:
    rows = with_models[with_models["model"].notna()]
    rows = rows.assign(beta=rows["beta"].fillna(3.0))
    generation, priors = distances_of(rows), rates_of(rows)
    generation["beta"], priors["beta"] = np.nan, np.nan
    if name == "blur":
        figure = blur(prior_shares(generation, priors)[0])
        text = _key(figure)
    else:
        figure = plot_priors(prior_rates(priors)[0])
        text = " ".join(label.get_text() for label in figure.axes[0].get_xticklabels())
    for model in ("mine", "friend's VAE"):
        assert model in text.replace("\n", " ")
