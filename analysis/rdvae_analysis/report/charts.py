"""The interactive charts of a report, as Vega-Lite specifications."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from rdkit_vae.config.parsing import SIGMAS
from rdkit_vae.config.trial import DEFAULT_SIGMA2
from rdvae_analysis.figures.style import interpretation_look
from rdvae_analysis.names import model_name, models_in_order, short
from rdvae_analysis.points import DEFAULT_SIGMAS

_WIDTH, _HEIGHT = 620, 330
_ROOM = 0.06  # beyond the outermost points
_SHAPES = ("circle", "diamond", "square", "triangle-up", "cross")
# Beta is written beside points that are so far apart, on a chart of a narrow screen.
_NARROW, _APART, _LINE = 300, 26, 12  # pixels
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [4, 4])


def specification(rows: pd.DataFrame, row_ids: dict[str, str]) -> dict[str, Any]:
    """Rate-distortion and ELBO against beta, with a box to tick for each interpretation.

    Args:
        rows: results of one setup and split, of last checkpoints.
        row_ids: by run_id, the row of the page that tells more of it.

    Returns:
        A Vega-Lite specification whose points carry `row`, for the page to show and go to.
    """
    sigmas = [s for s in SIGMAS if s in set(rows["sigma"])]
    sigmas += sorted(set(rows["sigma"]) - set(sigmas))
    models = models_in_order(rows["objective"], rows["train_sigma2"])
    names = _names(rows)
    drawn = {s: s in DEFAULT_SIGMAS["constant"] or s not in SIGMAS for s in sigmas}
    by_reading, reading_test = _boxes("sigma", {s: names.get(s, s) for s in sigmas}, drawn)
    by_model, model_test = _boxes("model", {m: m for m in models}, dict.fromkeys(models, True))
    base = alt.Chart(_points(rows, row_ids))
    base = base.transform_filter(reading_test).transform_filter(model_test)
    charts = alt.vconcat(
        _rate_distortion(base, rows, sigmas), _elbo(base, rows, sigmas), spacing=28
    )
    charts = charts.add_params(*by_reading, *by_model).configure_view(strokeOpacity=0.3)
    with alt.data_transformers.disable_max_rows():  # all of them belong in the page
        found: dict[str, Any] = charts.to_dict()
    return found


def _names(rows: pd.DataFrame) -> dict[str, str]:
    """How the readings of a constant variance are written: beta/2 is beta C for another C."""
    others = rows["train_sigma2"].dropna() != DEFAULT_SIGMA2
    beta_half = "σ² = βC" if others.any() else "σ² = β/2"
    return {"half": "σ² = 1/2", "beta-half": beta_half, "optimal": "optimal (no density)"}


def _boxes(
    field: str, names: dict[str, str], ticked: dict[str, bool]
) -> tuple[list[alt.Parameter], str]:
    """A box to tick for each value of a field, and the test that a point is of a ticked one."""
    boxes = {value: f"show_{field}_{place}" for place, value in enumerate(names)}
    params = [
        alt.param(
            name=boxes[value], value=ticked[value], bind=alt.binding_checkbox(name=f"{name} ")
        )
        for value, name in names.items()
    ]
    test = " || ".join(f"({box} && datum.{field} === {value!r})" for value, box in boxes.items())
    return params, test


def _points(rows: pd.DataFrame, row_ids: dict[str, str]) -> pd.DataFrame:
    """A row per model and reading; `label`: the beta to write below the lowest of a model."""
    points = rows[["sigma", "beta", "seed", "rate", "distortion", "elbo", "mse", "curve"]].copy()
    points["model"] = list(map(model_name, rows["objective"], rows["train_sigma2"]))
    points["row"] = rows["run_id"].map(row_ids)
    numbers = points.select_dtypes("float").columns
    points[numbers] = points[numbers].map(lambda value: float(f"{value:.6g}"))
    labelled = _labelled(points)
    keys = zip(points["curve"], points["beta"], strict=True)
    points["label"] = [short(key[1]) if key in labelled else "" for key in keys]
    return points


def _labelled(points: pd.DataFrame) -> set[tuple[str, float]]:
    """The (curve, beta) whose label covers no other, where the readings of the start are shown."""
    shown = points[points["sigma"].isin(DEFAULT_SIGMAS["constant"])]
    means = shown.groupby(["curve", "beta", "sigma"], as_index=False)[["rate", "distortion"]].mean()
    lowest = means.groupby(["curve", "beta"], as_index=False).min()
    (left, right), (low, high) = _domain(points["rate"]), _domain(_steady(points)["distortion"])
    chosen: dict[tuple[str, float], tuple[float, float]] = {}
    for p in lowest.itertuples():
        x = _NARROW * (p.rate - left) / (right - left)
        y = _HEIGHT * (p.distortion - low) / (high - low)
        if all(abs(x - a) > _APART or abs(y - b) > _LINE for a, b in chosen.values()):
            chosen[p.curve, p.beta] = x, y
    return set(chosen)


def _rate_distortion(base: alt.Chart, rows: pd.DataFrame, sigmas: list[str]) -> Any:
    x = alt.Scale(domain=_domain(rows["rate"]), nice=False)
    y = alt.Scale(domain=_domain(_steady(rows)["distortion"]), zero=False, nice=False)
    points = base.mark_point(filled=True, size=65, opacity=0.9, clip=True).encode(
        alt.X("rate:Q", scale=x, title="rate (nats / image)"),
        alt.Y("distortion:Q", scale=y, title="distortion (nats / image)"),
        tooltip=_tooltip(),
        **_looks(rows, sigmas),
    )
    means = base.transform_aggregate(
        rate="mean(rate)",
        distortion="mean(distortion)",
        groupby=["curve", "model", "sigma", "beta"],
    )
    lines = means.mark_line(clip=True, strokeWidth=1.3).encode(
        alt.X("rate:Q"),
        alt.Y("distortion:Q"),
        order="beta:Q",
        detail=["curve:N"],
        **_looks(rows, sigmas, lines=True),
    )
    lowest = base.transform_filter("datum.label !== ''").transform_aggregate(
        rate="mean(rate)", distortion="min(distortion)", groupby=["curve", "label"]
    )
    betas = lowest.mark_text(dy=12, fontSize=10, color="#555", clip=True).encode(
        alt.X("rate:Q"), alt.Y("distortion:Q"), text="label:N"
    )
    zoom = alt.selection_interval(bind="scales", name="zoom")
    beyond = _beyond(base, "distortion", "rate", "zoom", y.domain, rows, sigmas)
    return alt.layer(lines, points.add_params(zoom), betas, *beyond).properties(
        width=_WIDTH, height=_HEIGHT, title="Rate and distortion, by reading of the variance"
    )


def _elbo(base: alt.Chart, rows: pd.DataFrame, sigmas: list[str]) -> Any:
    x = alt.Scale(type="log", domain=[rows["beta"].min() / 2, rows["beta"].max() * 2], nice=False)
    y = alt.Scale(domain=_domain(_steady(rows)["elbo"]), zero=False, nice=False)
    points = base.mark_point(filled=True, size=55, opacity=0.9, clip=True).encode(
        alt.X(
            "beta:Q",
            scale=x,
            axis=alt.Axis(
                values=_ticks(rows["beta"]), format="~g", labelOverlap=True, title="β of training"
            ),
        ),
        alt.Y("elbo:Q", scale=y, title="ELBO (nats / image)"),
        tooltip=_tooltip(),
        **_looks(rows, sigmas),
    )
    lines = base.mark_line(clip=True, strokeWidth=1.3).encode(
        alt.X("beta:Q"),
        alt.Y("mean(elbo):Q"),
        detail=["curve:N"],
        **_looks(rows, sigmas, lines=True),
    )
    zoom = alt.selection_interval(bind="scales", name="zoom_elbo")
    beyond = _beyond(base, "elbo", "beta", "zoom_elbo", y.domain, rows, sigmas)
    return alt.layer(lines, points.add_params(zoom), *beyond).properties(
        width=_WIDTH, height=_HEIGHT - 60, title="What the same weights claim: ELBO against β"
    )


def _ticks(betas: "pd.Series[float]") -> list[float]:
    """Decades, or the betas themselves where they span none."""
    low, high = np.log10(betas.min()), np.log10(betas.max())
    decades = [float(f"1e{place}") for place in range(math.ceil(low), math.floor(high) + 1)]
    return decades if len(decades) > 1 else sorted(float(beta) for beta in set(betas))


def _beyond(
    base: alt.Chart,
    value: str,
    across: str,
    zoom: str,
    domain: Sequence[float],
    rows: pd.DataFrame,
    sigmas: list[str],
) -> list[alt.Chart]:
    """An arrow at the edge for each point that lies beyond it, with the numbers of the point."""
    colour = _looks(rows, sigmas)["color"]
    low, high = (f"({zoom}.{value} ? {zoom}.{value}[{end}] : {domain[end]})" for end in (0, 1))
    arrows = [("▲", f"datum.{value} > {high}", 7), ("▼", f"datum.{value} < {low}", -5)]
    return [
        base.transform_filter(beyond)
        .mark_text(text=arrow, fontSize=11, dy=inwards, clip=True)
        .encode(
            alt.X(f"{across}:Q"),
            y=alt.value(0 if arrow == "▲" else "height"),
            color=colour,
            tooltip=_tooltip(),
        )
        for arrow, beyond, inwards in arrows
    ]


def _looks(rows: pd.DataFrame, sigmas: list[str], *, lines: bool = False) -> dict[str, Any]:
    """A colour per reading, a shape or dash per model, as in the figures."""
    colours = [interpretation_look(sigma, sigmas)["color"] for sigma in sigmas]
    models = models_in_order(rows["objective"], rows["train_sigma2"])
    labels = " : ".join(f"datum.value === {s!r} ? {t!r}" for s, t in _names(rows).items())
    legend = alt.Legend(title="read with", labelExpr=f"{labels} : datum.value")
    looks: dict[str, Any] = {
        "color": alt.Color("sigma:N", scale=alt.Scale(domain=sigmas, range=colours), legend=legend)
    }
    places = range(len(models))
    if lines:
        dashes = [_DASHES[place % len(_DASHES)] for place in places]
        scale = alt.Scale(domain=models, range=dashes)
        looks["strokeDash"] = alt.StrokeDash("model:N", scale=scale, title="trained with")
    else:
        shapes = [_SHAPES[place % len(_SHAPES)] for place in places]
        scale = alt.Scale(domain=models, range=shapes)
        looks["shape"] = alt.Shape("model:N", scale=scale, title="trained with")
    return looks


def _tooltip() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("model:N", title="trained with"),
        alt.Tooltip("beta:Q", title="β", format=".4~g"),
        alt.Tooltip("seed:Q", title="seed"),
        alt.Tooltip("sigma:N", title="read with"),
        alt.Tooltip("rate:Q", title="rate", format=".2f"),
        alt.Tooltip("distortion:Q", title="distortion", format=".2f"),
        alt.Tooltip("elbo:Q", title="ELBO", format=".2f"),
        alt.Tooltip("mse:Q", title="mse", format=".4~g"),
        alt.Tooltip("row:N", title="row"),
    ]


def _steady(rows: pd.DataFrame) -> pd.DataFrame:
    """All but the reading that runs off as beta goes to 0 or to infinity."""
    steady = rows[rows["sigma"] != "beta-half"]
    return rows if steady.empty else steady


def _domain(values: "pd.Series[float]") -> list[float]:
    low, high = float(values.min()), float(values.max())
    room = _ROOM * (high - low) or 1.0
    return [low - room, high + room]
