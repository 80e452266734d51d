"""The interactive charts of a report, as Vega-Lite specifications."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from rdkit_vae.scoring.interpretations import SIGMAS
from rdvae_analysis.names import model_name, models_in_order, short
from rdvae_analysis.points import DEFAULT_SIGMAS
from rdvae_analysis.report.looks import (
    HEIGHT,
    WIDTH,
    beta_ticks,
    domain,
    labelled_models,
    looks,
    sigma_labels,
    steady,
)


def specification(rows: pd.DataFrame, row_ids: dict[str, str]) -> dict[str, Any]:
    """Rate-distortion and ELBO against beta, with a checkbox for each interpretation and model.

    Args:
        rows: results of last checkpoints, of one setup and split.
        row_ids: by run_id, the id of the table row on the page that has the model.

    Returns:
        A Vega-Lite specification. Its points carry `row`, so that the page can go to that row.
    """
    sigmas = [s for s in SIGMAS if s in set(rows["sigma"])]
    sigmas += sorted(set(rows["sigma"]) - set(sigmas))
    models = models_in_order(rows["objective"], rows["train_sigma2"])
    labels = sigma_labels(rows)
    shown = {s: s in DEFAULT_SIGMAS["constant"] or s not in SIGMAS for s in sigmas}
    by_sigma, sigma_test = _checkboxes("sigma", {s: labels.get(s, s) for s in sigmas}, shown)
    by_model, model_test = _checkboxes("model", {m: m for m in models}, dict.fromkeys(models, True))
    base = alt.Chart(_points(rows, row_ids))
    base = base.transform_filter(sigma_test).transform_filter(model_test)
    panels = [_rate_distortion(base, rows, sigmas)]
    if rows["beta"].notna().any():
        panels.append(_elbo(base.transform_filter("isValid(datum.beta)"), rows, sigmas))
    charts = alt.vconcat(*panels, spacing=28)
    charts = charts.add_params(*by_sigma, *by_model).configure_view(strokeOpacity=0.3)
    with alt.data_transformers.disable_max_rows():  # the page holds all of them
        chart: dict[str, Any] = charts.to_dict()
    return chart


def _checkboxes(
    field: str, names: dict[str, str], ticked: dict[str, bool]
) -> tuple[list[alt.Parameter], str]:
    """A checkbox for each value of a field, and the test that the box of a point is ticked."""
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
    """A row per model and interpretation; `label`: the beta to write below the model, or ""."""
    points = rows[["sigma", "beta", "seed", "rate", "distortion", "elbo", "mse", "curve"]].copy()
    points["model"] = list(map(model_name, rows["objective"], rows["train_sigma2"]))
    points["row"] = rows["run_id"].map(row_ids)
    numbers = points.select_dtypes("float").columns
    points[numbers] = points[numbers].map(lambda value: float(f"{value:.6g}"))
    labelled = labelled_models(points)
    keys = zip(points["curve"], points["beta"], strict=True)
    points["label"] = [short(key[1]) if key in labelled else "" for key in keys]
    return points


def _rate_distortion(base: alt.Chart, rows: pd.DataFrame, sigmas: list[str]) -> Any:
    x = alt.Scale(domain=domain(rows["rate"]), nice=False)
    y = alt.Scale(domain=domain(steady(rows)["distortion"]), zero=False, nice=False)
    points = base.mark_point(filled=True, size=65, opacity=0.9, clip=True).encode(
        alt.X("rate:Q", scale=x, title="rate (nats / image)"),
        alt.Y("distortion:Q", scale=y, title="distortion (nats / image)"),
        tooltip=_tooltip(),
        **looks(rows, sigmas),
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
        **looks(rows, sigmas, lines=True),
    )
    lowest = base.transform_filter("datum.label !== ''").transform_aggregate(
        rate="mean(rate)", distortion="min(distortion)", groupby=["curve", "label"]
    )
    betas = lowest.mark_text(dy=12, fontSize=10, color="#555", clip=True).encode(
        alt.X("rate:Q"), alt.Y("distortion:Q"), text="label:N"
    )
    zoom = alt.selection_interval(bind="scales", name="zoom")
    arrows = _arrows(base, "distortion", "rate", "zoom", y.domain, looks(rows, sigmas)["color"])
    return alt.layer(lines, points.add_params(zoom), betas, *arrows).properties(
        width=WIDTH, height=HEIGHT, title="Rate and distortion, by interpretation of the variance"
    )


def _elbo(base: alt.Chart, rows: pd.DataFrame, sigmas: list[str]) -> Any:
    x = alt.Scale(type="log", domain=[rows["beta"].min() / 2, rows["beta"].max() * 2], nice=False)
    y = alt.Scale(domain=domain(steady(rows)["elbo"]), zero=False, nice=False)
    axis = alt.Axis(
        values=beta_ticks(rows["beta"]), format="~g", labelOverlap=True, title="β of training"
    )
    points = base.mark_point(filled=True, size=55, opacity=0.9, clip=True).encode(
        alt.X("beta:Q", scale=x, axis=axis),
        alt.Y("elbo:Q", scale=y, title="ELBO (nats / image)"),
        tooltip=_tooltip(),
        **looks(rows, sigmas),
    )
    lines = base.mark_line(clip=True, strokeWidth=1.3).encode(
        alt.X("beta:Q"),
        alt.Y("mean(elbo):Q"),
        detail=["curve:N"],
        **looks(rows, sigmas, lines=True),
    )
    zoom = alt.selection_interval(bind="scales", name="zoom_elbo")
    arrows = _arrows(base, "elbo", "beta", "zoom_elbo", y.domain, looks(rows, sigmas)["color"])
    return alt.layer(lines, points.add_params(zoom), *arrows).properties(
        width=WIDTH, height=HEIGHT - 60, title="ELBO of the same weights against β"
    )


def _arrows(
    base: alt.Chart, value: str, across: str, zoom: str, limits: Sequence[float], colour: alt.Color
) -> list[alt.Chart]:
    """An arrow at the edge for each point that lies beyond it, with the numbers of the point."""
    low, high = (f"({zoom}.{value} ? {zoom}.{value}[{end}] : {limits[end]})" for end in (0, 1))
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


def _tooltip() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("model:N", title="model"),
        alt.Tooltip("beta:Q", title="β", format=".4~g"),
        alt.Tooltip("seed:Q", title="seed"),
        alt.Tooltip("sigma:N", title="interpretation"),
        alt.Tooltip("rate:Q", title="rate", format=".2f"),
        alt.Tooltip("distortion:Q", title="distortion", format=".2f"),
        alt.Tooltip("elbo:Q", title="ELBO", format=".2f"),
        alt.Tooltip("mse:Q", title="mse", format=".4~g"),
        alt.Tooltip("row:N", title="row"),
    ]
