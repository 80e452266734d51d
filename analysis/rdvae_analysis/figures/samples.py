"""Reconstructions of the same images and samples of the same latents (Fig. 1 and 4)."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from rdkit_vae.errors import BadInput
from rdkit_vae.store.samples import KINDS
from rdvae_analysis.figures.fit import wrapped
from rdvae_analysis.figures.style import WIDTHS, dataset_title, paper_style
from rdvae_analysis.names import in_order, objective_name, short

Pixels = npt.NDArray[np.uint8]

_TILES = {1: (2, 1), 2: (2, 2)}  # pictures per cell, down and across, by `columns`
_WHITE = 255
_LEFT, _BETWEEN = 0.82, 0.05  # inches
_LINE, _BELOW = 0.12, 0.12  # height of a line of the title, and of the gap below it, inches
_LETTERS = {1: 52, 2: 100}  # per line of the title, by `columns`
_WIDEST = 0.75  # width of a picture at most, inches
_CHARACTER = 0.062  # width of a character in a heading, inches
_KINDS = {"reconstruction": "reconstructed", "prior": "from the prior"}


def samples(pictures: pd.DataFrame, *, columns: int = 2) -> Figure:
    """Originals, reconstructions and prior samples as rows, betas as columns.

    All models get the same images, the first of the split, and the same latents.

    Args:
        pictures: as `pictures.alike` returns them, of one setup.
        columns: width of the figure in columns of a paper, 1 or 2.

    Raises:
        BadInput: there are no pictures, or pictures of different shapes.
    """
    if pictures.empty:
        raise BadInput("nothing to draw: no pictures (rdvae sample makes them)")
    shapes = {p.shape[1:] for kind in KINDS for p in pictures[kind]}
    if len(shapes) > 1:
        some = " and ".join("x".join(map(str, shape)) for shape in sorted(shapes)[:2])
        raise BadInput(f"pictures of different shapes ({some}): draw them in separate figures")
    betas = sorted(pictures["beta"].unique())
    rows = _rows(pictures, betas, _TILES[columns])
    width = WIDTHS[columns]
    across = min(width - _LEFT - 0.05, _WIDEST * _TILES[columns][1] * len(betas))
    left = (width - 0.05 + _LEFT - across) / 2
    heights = [float(across * len(row) / row.shape[1]) for row in rows.values()]
    headings = [short(beta) for beta in betas]
    upright = max(map(len, headings)) * _CHARACTER > across / len(betas)
    title = wrapped(_title(pictures), _LETTERS[columns])
    head = _LINE * (title.count("\n") + 1) + _BELOW
    head += _CHARACTER * max(map(len, headings)) if upright else 0.16
    height = sum(heights) + _BETWEEN * len(rows) + head
    with paper_style():
        figure = Figure(figsize=(width, height))
        top = height - head
        for (label, row), tall in zip(rows.items(), heights, strict=True):
            place = (left / width, (top - tall) / height, across / width, tall / height)
            _draw_row(figure, place, label, row)
            top -= tall + _BETWEEN
        above = 1 - (head - 0.04) / height
        style: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 7}
        figure.text((left - 0.1) / width, above, r"$\beta$", **style)
        for index, heading in enumerate(headings):
            x = (left + across * (index + 0.5) / len(betas)) / width
            figure.text(x, above, heading, rotation=90 if upright else 0, **style)
        figure.suptitle(title, y=1 - 0.04 / height, va="top", fontsize=8)
    return figure


def _draw_row(figure: Figure, place: tuple[float, ...], label: str, row: Pixels) -> None:
    axes = figure.add_axes(place)  # type: ignore[arg-type]
    axes.imshow(row, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7)


def _title(pictures: pd.DataFrame) -> str:
    first = pictures.iloc[0]
    return (
        f"{dataset_title(first['dataset'])}: the first images of the {first['split']} split; "
        f"latents of seed {first['picture_seed']}"
    )


def _rows(
    pictures: pd.DataFrame, betas: Sequence[float], tiles: tuple[int, int]
) -> Mapping[str, Pixels]:
    """The rows of the figure as images of equal width, by label."""
    first = pictures.iloc[0]
    blank = np.full_like(_cell(first["original"], tiles), _WHITE)
    rows = {"original": _joined([_cell(first["original"], tiles)] * len(betas))}
    names_c = pictures["train_sigma2"].nunique() > 1
    ranked = pictures.assign(rank=pictures["objective"].map(in_order(pictures["objective"]).index))
    ranked = ranked.sort_values(["rank", "train_sigma2"])
    groups = ranked.groupby(["objective", "train_sigma2"], sort=False, dropna=False)
    for (objective, c), part in groups:
        name = objective_name(str(objective)) + (f" C={c:g}" if names_c and c == c else "")
        name = textwrap.fill(name, 13)
        by_beta = {row["beta"]: row for _, row in part.iterrows()}
        for kind, words in _KINDS.items():
            cells = [
                _cell(by_beta[beta][kind], tiles) if beta in by_beta else blank for beta in betas
            ]
            rows[f"{name},\n{words}"] = _joined(cells)
    return rows


def _cell(pictures: Pixels, tiles: tuple[int, int]) -> Pixels:
    """Tiles the first pictures: (n, C, H, W) to (h, w) or (h, w, 3)."""
    down, across = tiles
    _, channels, height, width = pictures.shape
    cell = np.full((down, across, channels, height + 1, width + 1), _WHITE, np.uint8)
    shown = pictures[: down * across]
    cell.reshape(-1, channels, height + 1, width + 1)[: len(shown), :, :height, :width] = shown
    flat = cell.transpose(0, 3, 1, 4, 2).reshape(down * (height + 1), across * (width + 1), -1)
    return flat[:-1, :-1, 0] if channels == 1 else flat[:-1, :-1]


def _joined(cells: Sequence[Pixels]) -> Pixels:
    gap = max(2, cells[0].shape[1] // 10)
    gutter = np.full((len(cells[0]), gap, *cells[0].shape[2:]), _WHITE, np.uint8)
    parts = [part for cell in cells for part in (gutter, cell, gutter)]
    return np.concatenate(parts, axis=1)
