"""Every figure at both widths, on several data: no text is cut off, and none covers another."""

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from rdvae_analysis import consistency as comparisons
from rdvae_analysis import load_results
from rdvae_analysis.figures import FIGURES, draw
from rdvae_analysis.figures.blur import blur
from rdvae_analysis.figures.matched import matched
from rdvae_analysis.figures.overlay import overlay
from rdvae_analysis.figures.pairs import pairs
from rdvae_analysis.figures.priors import priors
from rdvae_analysis.figures.rd import plot_rd
from rdvae_analysis.figures.samples import samples
from rdvae_analysis.figures.style import WIDTHS
from rdvae_analysis.matched import constant_curve, matched_rate
from rdvae_analysis.matched import overlay as overlaid
from rdvae_analysis.points import final_rows
from rdvae_analysis.shares import prior_rates, prior_shares

EXAMPLE = Path(__file__).parents[3] / "runs" / "example" / "results"
COLUMNS = (1, 2)  # of a paper

_OVERLAP = 0.5  # points in both directions, from which two texts cover each other: 1/13 of a line


def _another(frame: pd.DataFrame, name: str, rate: float, **facts: object) -> pd.DataFrame:
    """The same models again as others, with so many times the rate."""
    made = frame.assign(**facts, rate=rate * frame["rate"], run_id=frame["run_id"] + name)
    made["curve"] = made["curve"] + name
    return made.assign(elbo=-(made["rate"] + made["distortion"]))


def _several(frame: pd.DataFrame) -> pd.DataFrame:
    """Four objectives, two variances, two seeds, and a second setup of fewer latents."""
    constant = frame[frame["objective"] == "constant"]
    optimal = frame[frame["objective"] == "optimal"]
    parts = [frame, _another(constant, "c", 1.1, train_sigma2=0.05)]
    for rate, name in ((0.9, "optimal-batch"), (0.7, "learned-image")):
        parts.append(_another(optimal, name, rate, objective=name))
    one = pd.concat(parts)
    two = _another(one, "-1", 1.05, seed=1).assign(curve=one["curve"])
    both = pd.concat([one, two])
    both["rate"] += 0.1 * both["seed"]
    fewer = _another(frame, "-4", 0.7, latents=4, setup="of 4", epochs=1000, epoch=1000)
    longer = _another(frame, "-9", 0.8, latents=4, setup="of 9", epochs=1000, epoch=1000)
    return pd.concat([both, fewer, longer], ignore_index=True)


@pytest.fixture(scope="module")
def sweeps() -> dict[str, pd.DataFrame]:
    """Results of the example sweep as they are, and as those of other sweeps."""
    frame = load_results(EXAMPLE)
    frame = frame[frame["split"] == "test"]
    beta = frame["beta"].unique()[3]
    name = "npz:/data/a file whose name is longer than any column of a paper is wide.npz"
    return {
        "one": frame,
        "several": _several(frame[frame["beta"].isin(sorted(set(frame["beta"]))[:5])]),
        "gaussian": frame.assign(dataset="gaussian"),
        "one beta": frame[frame["beta"] == beta].assign(dataset=name),
    }


def _setup(frame: pd.DataFrame) -> pd.DataFrame:
    rows, _ = final_rows(frame)
    return rows[rows["setup"] == rows["setup"].iloc[0]]


def _checkpoints(frame: pd.DataFrame) -> pd.DataFrame:
    """A setup with three checkpoints a run."""
    rows = _setup(frame)
    return pd.concat([rows.assign(epoch=rows["epoch"] // 10**i) for i in range(3)])


def _pictures(frame: pd.DataFrame, columns: int) -> Figure:
    runs = _setup(frame).drop_duplicates("run_id")
    runs = runs.drop_duplicates(["objective", "train_sigma2", "beta"])
    images = np.zeros((8, 1, 8, 8), np.uint8)
    kinds = {kind: [images] * len(runs) for kind in ("original", "reconstruction", "prior")}
    return samples(runs.assign(picture_seed=0, **kinds), columns=columns)


DRAWS: dict[str, Callable[[pd.DataFrame, int], Figure]] = {
    **{
        name: lambda frame, columns, name=name: draw(  # type: ignore[misc]
            name, _setup(frame), split="test", columns=columns
        )
        for name in FIGURES
        if name != "training"
    },
    "training": lambda frame, columns: draw(
        "training", _checkpoints(frame), split="test", columns=columns
    ),
    "training, one checkpoint": lambda frame, columns: draw(
        "training", _setup(frame), split="test", columns=columns, sigma="optimal"
    ),
    "rd": lambda frame, columns: plot_rd(frame, columns=columns),
    "rd, psnr": lambda frame, columns: plot_rd(frame, distortion="psnr", columns=columns),
    "samples": _pictures,
}


Drawn = Callable[[str, str, int], Figure]


@pytest.fixture(scope="module")
def drawn(sweeps: dict[str, pd.DataFrame]) -> Drawn:
    """A figure by its name, data and columns; each is drawn once."""

    @functools.cache
    def drawn(name: str, data: str, columns: int) -> Figure:
        return DRAWS[name](sweeps[data], columns)

    return drawn


@pytest.fixture(scope="module")
def compared(sweeps: dict[str, pd.DataFrame]) -> Callable[[str], dict[str, Figure]]:
    """The figures that `rdvae consistency` draws of a setup besides the ELBOs."""

    @functools.cache
    def compared(data: str) -> dict[str, Figure]:
        rows = _setup(sweeps[data])
        constant = comparisons.by_beta(comparisons.spread(constant_curve(rows)))
        figures = {"matched": matched(matched_rate(rows)[0])}
        figures["overlay"] = overlay(overlaid(rows), constant)
        lines = comparisons.pairs(rows, {})
        if len(lines):
            figures["pairs"] = pairs(lines.assign(distance=1e-7))
            figures["pairs of unknown distance"] = pairs(lines)
        return figures

    return compared


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Callable[[Figure], list[Text]]:
    """Draws a figure and returns exactly the texts that were drawn."""
    drawn: list[Text] = []
    draw_one = Text.draw

    def recorded(text: Text, renderer: object) -> None:
        if text.get_visible() and text.get_text().strip():
            drawn.append(text)
        draw_one(text, renderer)  # type: ignore[arg-type]

    def written(figure: Figure) -> list[Text]:
        drawn.clear()
        monkeypatch.setattr(Text, "draw", recorded)
        figure.draw_without_rendering()
        return list(dict.fromkeys(drawn))

    return written


def _check(figure: Figure, texts: list[Text]) -> None:
    page, point = figure.bbox, figure.dpi / 72
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    for legend in figure.legends:
        boxes.append(("the legend", legend.get_window_extent()))
    for words, box in boxes:
        inside = page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 <= box.y1 <= page.y1
        assert inside, f"cut off: {words!r}"
        dollars = [line.count("$") - line.count(r"\$") for line in words.split("\n")]
        assert all(count % 2 == 0 for count in dollars), f"broken inside a formula: {words!r}"
    texts_only = boxes[: len(texts)]
    for (a, at), (b, other) in itertools.combinations(texts_only, 2):
        common = Bbox.intersection(at, other)
        covers = common is not None and min(common.width, common.height) > _OVERLAP * point
        assert not covers, f"{a!r} and {b!r} lie over each other"
    for axes in figure.axes:
        frame, label = axes.get_window_extent(), axes.yaxis.label
        level = label.get_rotation() == 0  # beside a row of pictures
        assert level or label.get_window_extent().height <= frame.height, axes.get_ylabel()
        assert axes.xaxis.label.get_window_extent().width <= frame.width, axes.get_xlabel()


CASES = [  # one figure of many panels takes seconds: not each of them on all data
    *itertools.product(("elbo-vs-beta", "concept", "units", "rd"), ("one", "several"), (1, 2)),
    *itertools.product([name for name in DRAWS if "," not in name], ("one beta",), (1, 2)),
    *(("training", "one", columns) for columns in (1, 2)),
    *(("training, one checkpoint", "one", 1), ("training", "several", 1)),
    *(("rd", "gaussian", 1), ("rd", "gaussian", 2), ("rd, psnr", "gaussian", 1)),
    *(("samples", "several", 1), ("samples", "several", 2)),
]


@pytest.mark.parametrize(("name", "data", "columns"), CASES)
def test_no_text_is_cut_off_or_covers_another(
    name: str,
    data: str,
    columns: int,
    drawn: Drawn,
    written: Callable[[Figure], list[Text]],
) -> None:
    figure = drawn(name, data, columns)
    _check(figure, written(figure))


@pytest.mark.parametrize("data", ["one", "several"])
def test_no_text_of_the_comparisons_is_cut_off_or_covers_another(
    data: str,
    compared: Callable[[str], dict[str, Figure]],
    written: Callable[[Figure], list[Text]],
) -> None:
    figures = compared(data)
    assert len(figures) == (4 if data == "several" else 2)
    for figure in figures.values():
        _check(figure, written(figure))


@pytest.mark.parametrize("data", ["one", "several", "one beta"])
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("name", ["blur", "blur without fitted priors", "priors"])
def test_no_text_of_distances_and_rates_is_cut_off_or_covers_another(
    name: str,
    columns: int,
    data: str,
    sweeps: dict[str, pd.DataFrame],
    distances_of: Callable[..., pd.DataFrame],
    rates_of: Callable[..., pd.DataFrame],
    written: Callable[[Figure], list[Text]],
) -> None:
    rows = _setup(sweeps[data])
    rates = rates_of(rows)
    if name == "priors":
        figure = priors(prior_rates(rates)[0], columns=columns)
    else:
        features = "package.of_my_own:a_network_of_a_long_name"
        made = distances_of(rows, features=features, pixels="stretched")
        table, _ = prior_shares(made, rates if name == "blur" else rates[:0])
        figure = blur(table, columns=columns)
        for label in (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()):
            assert features in label.replace("\n", "")
            assert "3f2a9c1b" in label.replace("\n", "")
    assert figure.get_figwidth() == WIDTHS[columns]
    _check(figure, written(figure))


def _labels(axes: Axes) -> Iterator[Annotation]:
    """The labels of points, not the note on the axis."""
    notes = (text for text in axes.texts if isinstance(text, Annotation))
    return (text for text in notes if isinstance(text.xycoords, str) and text.xycoords == "data")


@pytest.mark.parametrize("data", ["one", "several", "gaussian"])
@pytest.mark.parametrize("columns", COLUMNS)
def test_a_beta_stands_by_its_own_curve_in_its_colour(
    columns: int, data: str, sweeps: dict[str, pd.DataFrame], drawn: Drawn
) -> None:
    """The nearest point to a label is one of its beta, and a curve of its colour goes through."""
    figure = drawn("rd", data, columns)
    figure.draw_without_rendering()
    seen = 0
    for axes in figure.axes:
        curves = [container.lines[0] for container in axes.containers]
        points = np.concatenate([np.asarray(line.get_xydata()) for line in curves])
        places = axes.transData.transform(points)
        for label in _labels(axes):
            box = label.get_window_extent()
            corner = np.array([box.x0, box.y0]), np.array([box.x1, box.y1])
            beyond = np.maximum(np.maximum(corner[0] - places, places - corner[1]), 0)
            distance = np.hypot(*beyond.T)
            assert distance.min() > 0, f"{label.get_text()} lies over a point"
            at = axes.transData.transform(label.xy)
            nearest = places[distance.argmin()]
            span = label.get_text().split("–")
            if len(span) == 1:  # of several betas in one place, any of them may be the nearest
                near = _values(sweeps[data], points[distance.argmin()])
                assert float(span[0]) in near, label.get_text()
            assert np.abs(nearest[0] - at[0]) < 20 * figure.dpi / 72
            through = [line for line in curves if label.xy in map(tuple, line.get_xydata())]
            assert label.get_color() in [line.get_color() for line in through]
            seen += 1
    assert seen >= 5


def _values(frame: pd.DataFrame, point: np.ndarray) -> set[float]:
    """The betas of models about the rate of a point."""
    rows, _ = final_rows(frame)
    means = rows.groupby(["curve", "beta"])["rate"].mean().reset_index()
    return {float(f"{b:.2g}") for b in means.loc[np.isclose(means["rate"], point[0]), "beta"]}


@pytest.mark.parametrize("columns", COLUMNS)
def test_a_product_of_beta_and_c_stands_by_its_own_point(columns: int, drawn: Drawn) -> None:
    figure = drawn("concept", "several", columns)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    points = np.concatenate([np.asarray(marks.get_offsets()) for marks in axes.collections])
    places = axes.transData.transform(points)
    labels = list(_labels(axes))
    assert len(labels) >= 4
    for label in labels:
        box = label.get_window_extent()
        low, high = np.array([box.x0, box.y0]), np.array([box.x1, box.y1])
        distance = np.hypot(*np.maximum(np.maximum(low - places, places - high), 0).T)
        assert float(label.get_text()) == pytest.approx(points[distance.argmin()].prod(), rel=0.05)
        assert distance.min() > 0


def test_legends_say_that_optimal_is_no_density(
    drawn: Drawn, compared: Callable[[str], dict[str, Figure]]
) -> None:
    figures = dict(compared("several"))
    figures |= {name: drawn(name, "several", 1) for name in ("rd", "elbo-vs-beta")}
    for name, figure in figures.items():
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        assert "optimal (no density)" in legend, name
        assert "optimal" not in legend


def test_gains_stand_before_what_interpolation_misses(sweeps: dict[str, pd.DataFrame]) -> None:
    """The band about zero is what leaving a point out of both curves does to them."""
    table, notes = matched_rate(_setup(sweeps["one"]))
    figure = matched(table)
    (axes,) = figure.axes
    band = axes.collections[0].get_paths()[0].vertices
    assert "interpolation error" in [t.get_text() for t in figure.legends[0].get_texts()]
    worst = table.groupby("rate")["miss"].max()
    assert band[:, 1].max() == pytest.approx(worst.max())
    assert band[:, 1].min() == pytest.approx(-worst.max())
    shared = table[table["sigma"] == "shared"]
    (note,) = [note for note in notes if "from its neighbours is off by" in note]
    at_most = float(note.partition("nats (median; ")[2].split()[0])
    assert shared["miss"].max() >= at_most / 2 > 0
