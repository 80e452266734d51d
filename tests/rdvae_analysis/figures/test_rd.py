import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text

from rdkit_vae.errors import BadData, BadInput
from rdvae_analysis import plot_rd
from rdvae_analysis.figures.rd import rd
from rdvae_analysis.figures.style import WIDTHS, save
from rdvae_analysis.points import rd_points


@pytest.fixture
def figure(frame: pd.DataFrame) -> Figure:
    return rd(rd_points(frame)[0])


def _series(figure: Figure, panel: int = 0) -> dict[str, ErrorbarContainer]:
    return {str(c.get_label()): c for c in figure.axes[panel].containers}


def test_every_point_is_drawn_where_it_is(figure: Figure, frame: pd.DataFrame) -> None:
    points, _ = rd_points(frame)
    for panel in (0, 1):
        drawn = [line for c in _series(figure, panel).values() for line in [c.lines[0]]]
        places = {(x, y) for line in drawn for x, y in line.get_xydata().tolist()}
        assert places == set(zip(points["rate"], points["value"], strict=True))


def test_one_colour_and_marker_per_objective_and_interpretation(figure: Figure) -> None:
    series = _series(figure)
    looks = {(c.lines[0].get_color(), c.lines[0].get_marker()) for c in series.values()}
    assert len(looks) == len(series) == 6
    assert "BS-VAE, shared" in series


def test_whiskers_span_the_seeds(figure: Figure, frame: pd.DataFrame) -> None:
    points, _ = rd_points(frame)
    line = points[(points["objective"] == "optimal") & (points["sigma"] == "shared")]
    (horizontal, _) = _series(figure)["BS-VAE, shared"].lines[2]
    spans = sorted((s[0][0], s[1][0]) for s in horizontal.get_segments())
    expected = sorted(zip(line["rate_low"], line["rate_high"], strict=True))
    np.testing.assert_allclose(spans, expected)


def test_every_beta_is_labelled(figure: Figure) -> None:
    assert {"0.1", "1", "10"} <= {text.get_text() for text in figure.axes[0].texts}


@pytest.mark.parametrize("columns", [1, 2])
def test_no_label_covers_another_or_leaves_its_panel(frame: pd.DataFrame, columns: int) -> None:
    figure = plot_rd(frame, columns=columns)
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [
            text.get_window_extent()
            for text in axes.texts
            if text.get_text() != "logarithmic above"
        ]
        assert len(boxes) > 1
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        frame_box = axes.get_window_extent().padded(3)
        assert all(frame_box.contains(*corner) for box in boxes for corner in box.corners())


@pytest.mark.parametrize("columns", [1, 2])
def test_text_is_legible_at_the_width_it_is_printed_at(frame: pd.DataFrame, columns: int) -> None:
    figure = plot_rd(frame, columns=columns)
    assert figure.get_figwidth() == WIDTHS[columns]
    texts = [text for text in figure.findobj(Text) if text.get_text().strip()]
    assert min(text.get_fontsize() for text in texts) >= 6.5


def test_points_that_fall_together_share_a_label(frame: pd.DataFrame) -> None:
    frame["rate"] = frame["rate"].where(frame["beta"] < 1, 0.0)
    frame["distortion"] = frame["distortion"].where(frame["beta"] < 1, 40.0)
    figure = rd(rd_points(frame, sigmas=["shared"])[0])
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert "1–10" in labels
    assert not {"1", "10"} & set(labels)


def test_the_right_panel_is_the_low_rate_end(figure: Figure) -> None:
    full, low = figure.axes
    assert low.get_xlim()[1] < full.get_xlim()[1] / 2


def test_there_is_no_right_panel_where_it_would_show_nothing_new(frame: pd.DataFrame) -> None:
    assert len(plot_rd(frame[frame["beta"] > 0.5]).axes) == 1
    assert len(plot_rd(frame[frame["beta"] < 0.5]).axes) == 1


def test_an_interpretation_that_runs_off_bends_the_axis_and_stays_on_it(
    frame: pd.DataFrame,
) -> None:
    points, _ = rd_points(frame)
    axes = rd(points).axes[0]
    assert axes.get_yscale() == "function"
    bottom, top = axes.get_ylim()
    assert bottom < points["value"].min() < points["value"].max() < top
    assert rd(rd_points(frame, sigmas=["shared"])[0]).axes[0].get_yscale() == "linear"


def test_the_bent_axis_is_linear_below_and_undone_by_its_inverse(frame: pd.DataFrame) -> None:
    points, _ = rd_points(frame)
    scale = rd(points).axes[0].yaxis.get_transform()
    bend = points.loc[points["sigma"] != "beta-half", "value"].max()
    values = np.linspace(points["value"].min(), points["value"].max(), 200)
    heights = scale.transform(values)
    assert (np.diff(heights) > 0).all()
    np.testing.assert_allclose(scale.inverted().transform(heights), values, rtol=1e-9)
    below = heights[values <= bend]
    np.testing.assert_allclose(np.diff(below), np.diff(below)[0], rtol=1e-9)


def test_ticks_are_apart(figure: Figure) -> None:
    axes = figure.axes[0]
    heights = axes.transAxes.inverted().transform(
        axes.transData.transform([(0, tick) for tick in axes.get_yticks()])
    )[:, 1]
    assert np.diff(heights).min() > 0.03
    assert len(heights) >= 4


def test_bounds_are_the_users(frame: pd.DataFrame) -> None:
    figure = rd(rd_points(frame)[0], xlim=(0, 12), ylim=(-5, 50))
    (axes,) = figure.axes
    assert axes.get_xlim() == (0, 12)
    assert axes.get_ylim() == (-5, 50)
    with pytest.raises(BadInput, match="rates run from"):
        rd(rd_points(frame)[0], xlim=(500, 600))


def test_each_dataset_has_its_row(frame: pd.DataFrame) -> None:
    other = frame.assign(dataset="mnist", run_id=frame["run_id"] + "m")
    figure = plot_rd(pd.concat([frame, other]))
    titles = [axes.get_title() for axes in figure.axes[::2]]
    assert [title.split(",")[0] for title in titles] == ["digits", "mnist"]


def test_the_title_names_the_split_and_the_number_of_seeds(frame: pd.DataFrame) -> None:
    one = frame[frame["seed"] == frame["seed"].min()]
    more = pd.concat(
        [one.assign(seed=seed, run_id=one["run_id"] + str(seed)) for seed in (7, 8, 9)]
    )
    fewer = more[(more["seed"] < 9) | (more["beta"] > more["beta"].min())]
    for rows, seeds in ((one, "1 seed"), (more, "3 seeds"), (fewer, "2 to 3 seeds")):
        title = plot_rd(rows).axes[0].get_title()
        assert f", test split, {seeds}; " in title


def test_two_curves_of_one_objective_are_told_apart(frame: pd.DataFrame) -> None:
    other = frame.assign(
        curve="constant-wxyz", setup="wxyz", run_id=frame["run_id"] + "w", latents=9
    )
    labels = _series(plot_rd(pd.concat([frame, other]), sigmas=["shared"]))
    assert "constant variance (4 latents), shared" in labels
    assert "constant variance (9 latents), shared" in labels
    same = frame.assign(curve="constant-wxyz", setup="wxyz", run_id=frame["run_id"] + "w")
    labels = _series(plot_rd(pd.concat([frame, same]), sigmas=["shared"]))
    assert "constant variance (curve …abcd), shared" in labels
    assert "constant variance (curve …wxyz), shared" in labels


def test_no_two_labels_share_a_look(frame: pd.DataFrame) -> None:
    parts = [
        frame.assign(
            dataset=f"data{i % 2}",
            latents=i + 1,
            curve=frame["curve"] + str(i),
            setup=f"setup{i}",
            run_id=frame["run_id"] + str(i),
        )
        for i in range(6)
    ]
    looks: dict[str, set[object]] = {}
    for axes in plot_rd(pd.concat(parts)).axes:
        for container in axes.containers:
            line = container.lines[0]
            look = (line.get_color(), line.get_marker(), line.get_linestyle())
            looks.setdefault(str(container.get_label()), set()).add(look)
    assert all(len(one) == 1 for one in looks.values())
    assert len({next(iter(one)) for one in looks.values()}) == len(looks) == 36


def test_objectives_differ_in_colour_where_no_interpretation_does(frame: pd.DataFrame) -> None:
    series = _series(plot_rd(frame, distortion="psnr"))
    assert list(series) == ["constant variance", "BS-VAE"]
    assert len({container.lines[0].get_color() for container in series.values()}) == 2


def test_an_interpretation_keeps_its_look_from_figure_to_figure(frame: pd.DataFrame) -> None:
    whole = _series(plot_rd(frame))
    part = _series(plot_rd(frame, sigmas=["shared"], objectives=["optimal"]))
    (label,) = part
    for get in ("get_color", "get_marker", "get_linestyle"):
        assert getattr(part[label].lines[0], get)() == getattr(whole[label].lines[0], get)()


def test_a_single_point_is_drawn(frame: pd.DataFrame) -> None:
    one = frame[(frame["run_id"] == "optimal-1.0-0") & (frame["sigma"] == "shared")]
    assert len(_series(plot_rd(one))) == 1


def test_vector_files_need_no_font_of_the_reader(figure: Figure, tmp_path: Path) -> None:
    save(figure, tmp_path / "rd.svg")
    drawn = (tmp_path / "rd.svg").read_text()
    assert "<text" not in drawn
    assert "BS-VAE" in drawn  # as the comment of its outlines
    save(figure, tmp_path / "rd.pdf")
    assert b"FontFile2" in (tmp_path / "rd.pdf").read_bytes()


def test_the_same_figure_is_the_same_file(frame: pd.DataFrame, tmp_path: Path) -> None:
    for name in ("a", "b"):
        for kind in ("png", "pdf", "svg"):
            save(plot_rd(frame), tmp_path / f"{name}.{kind}")
    for kind in ("png", "pdf", "svg"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_a_figure_that_cannot_be_written(figure: Figure) -> None:
    with pytest.raises(BadData, match=r"/dev/null/x\.png"):
        save(figure, Path("/dev/null/x.png"))
