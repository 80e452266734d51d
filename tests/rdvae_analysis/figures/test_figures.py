"""What holds for every figure of results, and what each of them shows."""

import inspect
import itertools
from collections.abc import Callable
from importlib import import_module

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from rdkit_vae.errors import BadInput
from rdvae_analysis.figures import FIGURES, draw
from rdvae_analysis.figures.concept import concept, plane
from rdvae_analysis.figures.rd import plot_rd, rd
from rdvae_analysis.figures.samples import samples
from rdvae_analysis.figures.style import WIDTHS, series_look
from rdvae_analysis.figures.training import training
from rdvae_analysis.figures.units import units
from rdvae_analysis.names import ELSEWHERE, file_part
from rdvae_analysis.pictures import alike
from rdvae_analysis.points import final_rows, rd_points
from rdvae_analysis.sound import LoadWarning

Draw = Callable[[pd.DataFrame, int], Figure]

MODULES = (
    *(name.replace("-", "_") for name in FIGURES),
    "rd",
    "samples",
    "matched",
    "overlay",
    "pairs",
)


def _pictures(objectives: tuple[str, ...], betas: tuple[float, ...], channels: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    shape = (5, channels, 6, 7)
    original, rows = rng.integers(256, size=shape, dtype=np.uint8), []
    for objective, beta in itertools.product(objectives, betas):
        made = (rng.integers(256, size=shape, dtype=np.uint8) for _ in range(2))
        row = {"objective": objective, "beta": beta, "seed": 0, "epoch": 5, "epochs": 5}
        row |= {"run_id": f"{objective}-{beta}", "dataset": "npz:/a/b.npz", "setup": "efgh"}
        row |= {"train_sigma2": 0.5 if objective == "constant" else np.nan}
        row |= {"split": "test", "picture_seed": 3, "original": original}
        rows.append(row | dict(zip(("reconstruction", "prior"), made, strict=True)))
    return pd.DataFrame(rows)


def _last(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["epoch"] == 5]


DRAWS: dict[str, Draw] = {
    **{
        name: lambda frame, columns, name=name: draw(  # type: ignore[misc]
            name, frame if name == "training" else _last(frame), split="test", columns=columns
        )
        for name in FIGURES
    },
    "rd": lambda frame, columns: plot_rd(frame, columns=columns),
    "samples": lambda frame, columns: samples(
        _pictures(("constant", "optimal", "optimal-batch"), (1e-4, 3e-3, 0.1, 1, 10), 1),
        columns=columns,
    ),
}


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("name", DRAWS)
def test_figures_are_legible_at_the_width_they_are_printed_at(
    name: str, columns: int, frame: pd.DataFrame
) -> None:
    figure = DRAWS[name](frame, columns)
    assert figure.get_figwidth() == WIDTHS[columns]
    figure.draw_without_rendering()
    assert min(text.get_fontsize() for text in figure.findobj(Text)) >= 6.5
    page = figure.bbox.padded(1)
    for text in _written(figure):
        corners = text.get_window_extent().corners()
        assert all(page.contains(*corner) for corner in corners), text


def _written(figure: Figure) -> list[Text]:
    """All text but the numbers of ticks, some of which lie outside and are not drawn."""
    texts = [*figure.texts, *(t for legend in figure.legends for t in legend.get_texts())]
    for axes in figure.axes:
        texts += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
    return [text for text in texts if text.get_text().strip()]


def test_the_palette_is_colour_blind_safe() -> None:
    """Colours differ under the three kinds of dichromacy (Machado et al. 2009, severity 1)."""
    kinds = {
        "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    }
    looks = [series_look(i, i) for i in range(6)]  # as many as there are interpretations
    for kind in kinds.values():
        seen = [np.clip(np.array(kind) @ np.array(to_rgb(look["color"])), 0, 1) for look in looks]
        for (i, a), (j, b) in itertools.combinations(enumerate(seen), 2):
            other_shape = looks[i]["marker"] != looks[j]["marker"]
            assert np.linalg.norm(a - b) > 0.1 or other_shape
    assert len({look["marker"] for look in looks}) == len(looks)


def test_a_model_and_its_fitted_variance_lie_on_one_line_of_beta_times_c(
    frame: pd.DataFrame,
) -> None:
    axes = concept(_last(frame)).axes[0]
    trained, fitted, path = (np.asarray(c.get_offsets()) for c in axes.collections[:3])
    np.testing.assert_allclose(trained.prod(axis=1), fitted.prod(axis=1), rtol=1e-12)
    table = plane(_last(frame))
    constant = table[table["objective"] == "constant"]
    np.testing.assert_allclose(trained[:, 1], 0.5)
    np.testing.assert_allclose(fitted[:, 1], constant["sigma2"])
    np.testing.assert_allclose(path, table[table["objective"] == "optimal"][["beta", "sigma2"]])


def test_the_plane_needs_models_that_have_a_place_in_it(frame: pd.DataFrame) -> None:
    with pytest.raises(BadInput, match="no models of constant, optimal, learned"):
        concept(frame.assign(objective="optimal-batch"))


def test_training_shows_each_checkpoint(frame: pd.DataFrame) -> None:
    figure = training(frame, sigma="optimal")
    expected = frame[frame["sigma"] == "optimal"]
    drawn = [
        tuple(point)
        for axes in figure.axes[:2]  # the first row of panels: rates
        for line in axes.lines
        for point in line.get_xydata().tolist()
    ]
    assert sorted(drawn) == sorted(zip(expected["epoch"], expected["rate"], strict=True))


def test_a_diverged_run_is_shown_as_such(frame: pd.DataFrame) -> None:
    gone = (frame["run_id"] == "constant-1.0-0") & (frame["epoch"] == 5)
    frame.loc[gone, ["rate", "distortion", "elbo", "sigma2"]] = np.nan
    frame.loc[gone, "status"] = "diverged"
    never = frame["run_id"] == "optimal-1.0-0"
    frame.loc[never, ["rate", "distortion", "elbo", "sigma2"]] = np.nan
    frame.loc[never, "status"] = "crashed"
    frame = frame[~(never & (frame["epoch"] == 1))]
    figure = training(frame)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["checkpoint", "diverged (1 run)", "crashed (1 run)"]
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    (mark,) = marks
    last = frame[(frame["run_id"] == "constant-1.0-0") & (frame["epoch"] == 1)]
    assert mark.get_xydata()[-1].tolist() == [5.0, last["rate"].iloc[0]]
    crashed = [line for line in figure.axes[1].lines if line.get_marker() == "+"]
    assert [line.get_xdata()[0] for line in crashed] == [5]


def test_units_draw_the_parts_of_the_rate(frame: pd.DataFrame) -> None:
    figure = units(_last(frame))
    rate, information, marginal, ceiling = figure.axes[0].lines
    np.testing.assert_allclose(rate.get_ydata(), information.get_ydata() + marginal.get_ydata())
    assert ceiling.get_ydata()[0] == pytest.approx(np.log(100))
    assert [line.get_ydata().tolist() for line in figure.axes[-1].lines] == [[4, 4, 3]] * 2


def test_units_count_runs_that_do_not_say(frame: pd.DataFrame) -> None:
    frame.loc[frame["run_id"] == "optimal-1.0-0", "mutual_information"] = np.nan
    assert "1 run without these numbers left out" in units(_last(frame)).get_suptitle()
    with pytest.raises(BadInput, match="do not say where the rate goes"):
        units(_last(frame).assign(mutual_information=np.nan))


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_stand_where_their_beta_and_row_are(channels: int) -> None:
    pictures = _pictures(("optimal", "constant"), (0.1, 10.0), channels)
    figure = samples(pictures.drop(index=3))  # constant at beta 10 is not there
    shown = [axes.images[0].get_array() for axes in figure.axes]
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert [label.split("\n")[0] for label in labels] == [
        *("original", "constant", "constant", "BS-VAE,", "BS-VAE,")
    ]
    gap = 2  # of a cell of 2 x 2 pictures of 6 x 7, with one pixel between
    for row, kind, place in ((1, "reconstruction", 2), (2, "prior", 2), (3, "reconstruction", 0)):
        first = pictures.loc[place, kind][0]  # (C, H, W)
        expected = first[0] if channels == 1 else first.transpose(1, 2, 0)
        np.testing.assert_array_equal(shown[row][:6, gap : gap + 7], expected)
    assert (np.asarray(shown[1])[:, len(shown[1][0]) // 2 :] == 255).all()


def test_only_pictures_of_the_same_are_put_side_by_side() -> None:
    pictures = _pictures(("constant", "optimal"), (0.1, 1.0, 10.0), 1)
    pictures.at[4, "original"] = pictures.at[4, "original"] ^ 1
    pictures.loc[5, "epoch"] = 2
    kept, notes = alike(pictures)
    assert len(kept) == 4
    assert notes == [
        "left out the pictures of 1 checkpoint of a run that is not finished",
        "left out the pictures of 1 checkpoint made from other images or latents",
    ]


def test_figures_do_not_change_the_users_settings(frame: pd.DataFrame) -> None:
    before = dict(mpl.rcParams)
    for name in DRAWS:
        DRAWS[name](frame, 2)
    assert dict(mpl.rcParams) == before


@pytest.fixture
def two_constants(frame: pd.DataFrame) -> pd.DataFrame:
    """The same, and models of another constant variance with twice the rate."""
    constant = frame[frame["objective"] == "constant"]
    other = constant.assign(
        train_sigma2=0.01,
        run_id="c" + constant["run_id"],
        curve="constant-c",
        rate=2 * constant["rate"],
    )
    return pd.concat([frame, other], ignore_index=True)


def test_constants_are_never_averaged(two_constants: pd.DataFrame) -> None:
    frame = two_constants.assign(mutual_information=1.0, marginal_kl=two_constants["rate"] - 1)
    figure = units(_last(frame))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["constant variance, C=0.01", "constant variance"]
    twice, once = (axes.lines[0].get_ydata() for axes in figure.axes[:2])
    np.testing.assert_allclose(twice, 2 * once)
    titles = [axes.get_title() for axes in training(frame).axes[:3]]
    assert [title.replace("\n", " ") for title in titles] == [
        *("constant variance, C=0.01", "constant variance", "BS-VAE")
    ]


def test_an_interpretation_that_a_user_named_is_drawn(frame: pd.DataFrame) -> None:
    named = frame[frame["sigma"] == "half"].assign(sigma="constant:0.01", elbo=-500.0)
    rows = _last(pd.concat([frame, named], ignore_index=True))
    axes = draw("elbo-vs-beta", rows, split="test", columns=2).axes[0]
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert (drawn["constant:0.01"] == -500).all()
    assert axes.get_ylim()[0] < -500
    alone = draw("elbo-vs-beta", _last(named), split="test", columns=2)
    assert len(alone.axes[0].lines) == 1


def test_two_interpretations_that_a_user_named_look_different(frame: pd.DataFrame) -> None:
    half = frame[frame["sigma"] == "half"]
    named = [half.assign(sigma=f"constant:{v}") for v in (0.01, 0.02)]
    rows = _last(pd.concat([frame, *named], ignore_index=True))
    lines = draw("elbo-vs-beta", rows, split="test", columns=2).axes[0].lines
    looks = {(line.get_color(), line.get_marker()) for line in lines}
    assert len(looks) == len(lines) == 6


def test_the_path_of_learned_variance_and_its_point(frame: pd.DataFrame) -> None:
    learned = frame[frame["sigma"] == "shared"].assign(
        objective="learned", train_sigma2=np.nan, sigma="own", run_id="l" + frame["run_id"]
    )
    rows = _last(pd.concat([frame[frame["objective"] == "constant"], learned], ignore_index=True))
    axes = concept(rows).axes[0]
    star = np.asarray(axes.collections[-1].get_offsets())
    assert star[:, 0].tolist() == [1.0]
    path = next(line for line in axes.lines if line.get_linestyle() == "--")
    assert path.get_xdata().tolist() == [0.1, 1.0, 10.0]


@pytest.mark.parametrize("name", [name for name in DRAWS if name != "samples"])
def test_names_are_not_typeset(name: str, frame: pd.DataFrame) -> None:
    figure = DRAWS[name](frame.assign(dataset="npz:/tmp/a $x_1% b$c^d.npz"), 2)
    figure.draw_without_rendering()
    assert any(r"a \$x_1% b\$c^d.npz" in text.get_text() for text in figure.findobj(Text))


ONE_PANEL: dict[str, Callable[[pd.DataFrame, Axes], Figure]] = {
    "rd": lambda frame, ax: plot_rd(frame, ax=ax),
    "rd, psnr": lambda frame, ax: plot_rd(frame, distortion="psnr", ax=ax),
    "rd, bounds": lambda frame, ax: rd(rd_points(frame)[0], xlim=(0, 12), ylim=(-5, 50), ax=ax),
    "concept": lambda frame, ax: draw("concept", _last(frame), split="test", columns=2, ax=ax),
}


def test_only_figures_of_one_panel_take_axes() -> None:
    functions = [getattr(import_module(f"rdvae_analysis.figures.{n}"), n) for n in MODULES]
    takes = {f.__name__ for f in functions if "ax" in inspect.signature(f).parameters}
    assert takes == {"rd", "concept"}


@pytest.mark.parametrize("name", ONE_PANEL)
def test_a_figure_of_one_panel_is_drawn_into_the_users_axes(
    name: str, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = Figure(figsize=(9, 4))
    mine, other = figure.subplots(1, 2)
    size, engine, other_artists = (
        figure.get_size_inches(),
        figure.get_layout_engine(),
        set(other.get_children()),
    )
    places = [axes.get_position().bounds for axes in (mine, other)]
    limits = other.get_xlim(), other.get_ylim()
    with monkeypatch.context() as patch:
        patch.setattr(Figure, "__init__", _no_figure)
        assert ONE_PANEL[name](frame, mine) is figure
    assert mine.collections
    assert mine.get_title()
    assert mine.get_legend().get_texts()
    assert figure.axes == [mine, other]
    assert set(other.get_children()) == other_artists
    assert (other.get_xlim(), other.get_ylim()) == limits
    assert not [*figure.legends, *figure.texts]
    assert figure.get_suptitle() == ""
    assert (figure.get_size_inches() == size).all()
    assert figure.get_layout_engine() is engine
    assert [axes.get_position().bounds for axes in (mine, other)] == places
    figure.draw_without_rendering()


def _no_figure(*args: object, **kwargs: object) -> None:
    raise AssertionError("a new figure was made")


@pytest.mark.parametrize("name", ["rd", "concept"])
def test_axes_of_a_subfigure(name: str, frame: pd.DataFrame) -> None:
    figure = Figure(layout="constrained")
    left, right = figure.subfigures(1, 2)
    assert ONE_PANEL[name](frame, left.subplots()) is figure
    assert not right.axes
    figure.draw_without_rendering()


def test_the_users_axes_show_what_a_new_figure_shows(frame: pd.DataFrame) -> None:
    axes = Figure().subplots()
    plot_rd(frame, ax=axes)
    new = plot_rd(frame).axes[0]
    for mine, theirs in zip(axes.containers, new.containers, strict=True):
        assert mine.get_label() == theirs.get_label()
        np.testing.assert_array_equal(mine.lines[0].get_xydata(), theirs.lines[0].get_xydata())


def test_one_ax_takes_one_dataset(frame: pd.DataFrame) -> None:
    other = frame.assign(dataset="mnist", run_id=frame["run_id"] + "m")
    with pytest.raises(BadInput, match="one ax takes one dataset, these points are of digits, mni"):
        plot_rd(pd.concat([frame, other]), ax=Figure().subplots())


OWN = {"constant": "my_package.losses:huber_loss", "optimal": "my_package.losses:robust_loss"}


def _of_a_user(frame: pd.DataFrame, objectives: dict[str, str], architecture: str) -> pd.DataFrame:
    return frame.assign(
        objective=frame["objective"].map(objectives),
        curve=frame["objective"].map(objectives) + "-abcd",
        run_id="own" + frame["run_id"],
        architecture=architecture,
        train_sigma2=np.nan,
        setup="ijkl",
    )


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("name", [name for name in DRAWS if name not in ("samples", "concept")])
def test_objectives_and_networks_of_a_user_are_drawn(
    name: str, columns: int, frame: pd.DataFrame
) -> None:
    own = _of_a_user(frame, OWN, "my_package.networks:wide")
    figure = DRAWS[name](pd.concat([frame, own]) if name == "rd" else own, columns)
    figure.draw_without_rendering()
    texts = [text.get_text().replace("\n", "") for text in _written(figure)]
    for objective in OWN.values():
        assert any(objective in text for text in texts)
    assert all(
        figure.bbox.padded(1).contains(*text.get_window_extent().min) for text in _written(figure)
    )
    if name == "rd":
        lines = [container.lines[0] for container in figure.axes[0].containers]
        assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(lines)


@pytest.mark.parametrize("name", [name for name in DRAWS if name not in ("samples", "concept")])
def test_no_name_of_a_file_is_taken_for_a_formula(name: str, frame: pd.DataFrame) -> None:
    odd = {"constant": r"a$\nosuch$b", "optimal": "c$^"}
    own = _of_a_user(frame, odd, r"$\nosuch$")
    figure = DRAWS[name](pd.concat([frame, own]) if name == "rd" else own, 2)
    figure.draw_without_rendering()
    assert any("a??nosuch?b" in text.get_text() for text in _written(figure))


def test_file_names_of_objectives_and_networks_of_a_user() -> None:
    assert file_part("my_package.networks:wide") == "my_package.networks-wide"


def _elsewhere(with_models: pd.DataFrame, count: int = 0) -> pd.DataFrame:
    """Last checkpoints of the models from elsewhere, and further ones with long, hostile names."""
    mine = with_models[with_models["model"] == "mine"]
    names = [f"$\\frac model <b>{i}</b> " + "of-a-long-name" * 5 for i in range(count)]
    further = [mine.assign(model=name, run_id=f"m{i}-ab") for i, name in enumerate(names)]
    rows, _ = final_rows(pd.concat([with_models, *further], ignore_index=True))
    return rows[rows["setup"] == ELSEWHERE]


@pytest.mark.parametrize("count", [0, 9])
@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("name", ["elbo-vs-beta", "units"])
def test_models_from_elsewhere_stand_side_by_side(
    name: str, columns: int, count: int, with_models: pd.DataFrame
) -> None:
    rows = _elsewhere(with_models, count)
    figure = draw(name, rows, split="test", columns=columns)
    figure.draw_without_rendering()
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert len(labels) == 3 + count
    for model in ("mine", "friend's VAE", "optimal"):
        assert any(" ".join(label.split()).startswith(model) for label in labels)
    page = figure.bbox.padded(1)
    for text in [*_written(figure), *figure.axes[0].get_xticklabels()]:
        assert all(page.contains(*c) for c in text.get_window_extent().corners()), text


def test_models_from_elsewhere_are_single_points_with_names(with_models: pd.DataFrame) -> None:
    figure = plot_rd(with_models)
    figure.draw_without_rendering()
    written = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert {"from elsewhere", "mine", "friend's VAE", "optimal"} <= set(written)
    assert {"constant variance", "BS-VAE"} <= set(written)
    own = [line for line in figure.axes[0].lines if line.get_linestyle() not in ("None", "")]
    points = [line for line in figure.axes[0].lines if line.get_markersize() > 5]
    assert len(points) == 4 + 3 + 4  # an interpretation each
    assert all(len(line.get_xdata()) == 1 for line in points)
    assert all(line.get_markersize() < points[0].get_markersize() for line in own)


def test_the_plane_has_the_models_whose_constant_variance_is_known(
    with_models: pd.DataFrame,
) -> None:
    rows = _elsewhere(with_models)
    table = plane(rows)
    assert list(table["objective"]) == ["model mine"]
    figure = concept(rows)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["mine: 1"]  # beta C


def test_models_from_elsewhere_have_no_path_of_training(with_models: pd.DataFrame) -> None:
    with pytest.warns(LoadWarning, match="left out 3 models from elsewhere, whose training"):
        training(with_models, sigma="shared")


@pytest.mark.parametrize("name", ["elbo-vs-beta", "units"])
def test_beside_curves_over_beta_a_model_without_beta_is_counted(
    name: str, with_models: pd.DataFrame
) -> None:
    rows, _ = final_rows(with_models)
    with pytest.warns(LoadWarning, match="left out 1 model from elsewhere, whose beta is not"):
        draw(name, rows, split="test", columns=2)
