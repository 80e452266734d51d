"""The report: what it says, how large it is, and what it does in a real browser."""

import importlib.util
import itertools
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rdkit_vae.config.trial import Trial
from rdkit_vae.store.results import read_results, write_results
from rdkit_vae.store.samples import Samples, write_samples
from rdvae_analysis.load import load_results
from rdvae_analysis.points import final_rows

pytest.importorskip("altair")
pytest.importorskip("vl_convert")
from rdvae_analysis.curves import TRAINING_SIGMA
from rdvae_analysis.report import words
from rdvae_analysis.report.charts import specification
from rdvae_analysis.report.page import report
from rdvae_analysis.report.strips import strips

Run = Callable[..., subprocess.CompletedProcess[str]]
MOST = 3_000_000  # bytes of a page
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def sampled(rdvae: Run, sweep_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small sweep, with pictures and a page."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(sweep_folder, folder / "small")
    for arguments in (("sample", "small"), ("report", "small")):
        done = rdvae(*arguments, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def results(sampled: Path) -> pd.DataFrame:
    """The rows that the page must show: last checkpoints on the test split."""
    rows, _ = final_rows(load_results(sampled / "small"))
    return rows[rows["split"] == "test"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    path = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser here: {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, sampled: Path) -> Iterator[Any]:
    """The page, drawn; an error in it or a request from it fails the test."""
    yield from _opened(browser, sampled / "report.html")


def _opened(browser: Any, path: Path) -> Iterator[Any]:
    wrong: list[str] = []
    page = browser.new_page(viewport={"width": 1100, "height": 1000})
    page.on("console", lambda message: wrong.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("request", lambda request: wrong.append(f"request: {request.url}"))
    page.goto(path.as_uri())
    page.wait_for_selector("#chart-s0[data-drawn=yes]")
    yield page
    page.close()
    loaded = [f"request: {path.as_uri()}"]
    assert [line for line in wrong if not line.startswith("request: data:")] == loaded


def _points(page: Any) -> list[str]:
    """The label of each drawn point."""
    marks = page.locator("#chart-s0 path[aria-roledescription=point]")
    return [mark.get_attribute("aria-label") for mark in marks.all()]


_KIND_AT = "([x, y]) => document.elementFromPoint(x, y)?.getAttribute('aria-roledescription')"


def _centre(mark: Any) -> tuple[float, float]:
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def _by_interpretation(labels: list[str]) -> dict[str, int]:
    names = [re.search(r"interpretation: ([\w-]+)", label).group(1) for label in labels]  # type: ignore[union-attr]
    return {name: names.count(name) for name in dict.fromkeys(names)}


def test_every_model_is_drawn_in_both_charts(page: Any, results: pd.DataFrame) -> None:
    models = results["run_id"].nunique()
    shown = ("half", "beta-half", "optimal", "shared")
    assert _by_interpretation(_points(page)) == dict.fromkeys(shown, 2 * models)


def test_hovering_shows_the_numbers_and_pictures_of_the_model(
    page: Any, results: pd.DataFrame
) -> None:
    marks = page.locator("#chart-s0 path[aria-roledescription=point]")
    seen = set()
    for place in range(0, marks.count(), 7):
        at = _centre(marks.nth(place))
        page.mouse.move(0, 0)
        if page.evaluate(_KIND_AT, at) != "point":
            continue  # beyond the axes, as beta-half is for small betas
        page.mouse.move(*at)
        tip = page.wait_for_selector("#vg-tooltip-element.visible")
        run = tip.query_selector("b").inner_text()
        cells = [row.query_selector_all("td") for row in tip.query_selector_all("tr")]
        tip_cells = {pair[0].inner_text(): pair[1] for pair in cells}
        sigma = tip_cells["interpretation"].inner_text()
        (row,) = results[(results["run_id"] == run) & (results["sigma"] == sigma)].itertuples()
        for name, column in (
            ("rate", row.rate),
            ("distortion", row.distortion),
            ("ELBO", row.elbo),
        ):
            number = tip_cells[name].inner_text().replace("\N{MINUS SIGN}", "-").replace(",", "")
            assert float(number) == pytest.approx(column, abs=0.0051 + 1e-5 * abs(column))
        assert int(tip_cells["seed"].inner_text()) == row.seed
        assert float(tip_cells["β"].inner_text()) == row.beta
        of_row = page.locator("tr", has=page.get_by_text(run, exact=True)).locator("img").all()
        expected = [image.get_attribute("src") for image in of_row]
        there = [tip_cells[name].query_selector("img") for name in ("reconstruction", "prior")]
        assert [image.get_attribute("src") for image in there] == expected
        seen.add((run, sigma))
    assert len(seen) > 4


def _texts(page: Any, chart: int) -> dict[str, list[Any]]:
    """The boxes of the text in a chart's panel, by what it says."""
    texts = page.locator(f"#chart-s0 g.concat_{chart}_group .mark-text.role-mark text")
    boxes: dict[str, list[Any]] = {}
    for mark in texts.all():
        boxes.setdefault(mark.text_content(), []).append(mark.bounding_box())
    return boxes


def test_points_show_their_beta(page: Any, results: pd.DataFrame) -> None:
    labels = {text: boxes for text, boxes in _texts(page, 0).items() if text not in "▲▼"}
    assert set(labels) <= {f"{beta:g}" for beta in results["beta"]}
    assert len(labels) > 1
    boxes = [box for of_text in labels.values() for box in of_text]
    for a, b in itertools.combinations(boxes, 2):
        apart_across = a["x"] + a["width"] < b["x"] or b["x"] + b["width"] < a["x"]
        assert apart_across or a["y"] + a["height"] < b["y"] or b["y"] + b["height"] < a["y"]


def test_claims_off_the_scale_are_hinted_at_the_edge(page: Any, results: pd.DataFrame) -> None:
    shown = results[results["sigma"].isin(["half", "beta-half", "optimal", "shared"])]
    steady = results[results["sigma"] != "beta-half"]  # what sets the scale
    for chart, column in enumerate(("distortion", "elbo")):
        low, high = steady[column].min(), steady[column].max()
        room = 0.06 * (high - low)
        arrows = {text: len(boxes) for text, boxes in _texts(page, chart).items() if text in "▲▼"}
        beyond = {
            "▲": int((shown[column] > high + room).sum()),
            "▼": int((shown[column] < low - room).sum()),
        }
        assert arrows == {arrow: count for arrow, count in beyond.items() if count}
        assert sum(arrows.values()) > 0


def test_a_model_of_one_beta_has_one_tick(
    browser: Any, tmp_path: Path, frame: pd.DataFrame
) -> None:
    _write(tmp_path, frame[frame["beta"] == 10])
    (tmp_path / "x.html").write_text(report(tmp_path)[0])
    for opened in _opened(browser, tmp_path / "x.html"):
        axis = opened.locator("#chart-s0 .role-axis", has_text="β of training").last
        ticks = axis.locator(".role-axis-label text").all_text_contents()
        assert ticks == ["10"]


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (400, 800)])
def test_the_first_screen_says_what_was_trained_and_what_came_out(
    page: Any, width: int, height: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    screen = page.locator("ul.answers")
    box = screen.bounding_box()
    assert box["y"] + box["height"] <= height
    assert "Best ELBO under shared" in screen.inner_text()
    assert "12 linear models with 4 latents" in page.locator("h2 + p").first.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_answers_come_before_remarks_and_what_was_left_out(sampled: Path) -> None:
    text = (sampled / "report.html").read_text()
    marks = ["12 linear models", "Best ELBO under shared", "chart-s0", "is not compared"]
    places = [text.index(mark) for mark in [*marks, "Nothing was left out."]]
    assert places == sorted(places)


def test_interpretations_and_models_are_toggled(page: Any) -> None:
    before = _by_interpretation(_points(page))
    page.get_by_role("checkbox", name="optimal").uncheck()
    page.get_by_role("checkbox", name="mixture").check()
    after = _by_interpretation(_points(page))
    assert set(after) == set(before) - {"optimal"} | {"mixture"}
    page.get_by_role("checkbox", name="BS-VAE").uncheck()
    assert _by_interpretation(_points(page)) == {name: count / 2 for name, count in after.items()}


def test_a_click_goes_to_the_row_of_the_model(page: Any) -> None:
    mark = page.locator("#chart-s0 path[aria-roledescription=point]").first
    page.mouse.click(*_centre(mark))
    page.wait_for_function("location.hash.length > 1")
    row = page.locator("tr:target")
    run = row.locator("code").inner_text()
    label = next(label for label in _points(page) if f"row: {page.url.split('#')[1]}" in label)
    assert float(re.search(r"β: ([\d.]+)", label).group(1)) == float(  # type: ignore[union-attr]
        re.search(r"beta=([\d.]+)", run).group(1)  # type: ignore[union-attr]
    )
    assert row.is_visible()


def test_zooming_changes_what_the_axes_show(page: Any) -> None:
    def ticks() -> list[str]:
        return page.locator("#chart-s0 .role-axis-label text").all_inner_texts()  # type: ignore[no-any-return]

    before, box = ticks(), page.locator("#chart-s0 svg.marks").bounding_box()
    page.mouse.move(box["x"] + 250, box["y"] + 150)
    page.mouse.wheel(0, -600)
    page.wait_for_timeout(300)
    assert ticks() != before


def test_tables_are_sorted_by_value(page: Any) -> None:
    heading = page.locator("table.table1 th", has_text="test")
    column = heading.evaluate("th => th.cellIndex")
    cells = page.locator(f"table.table1 tbody td:nth-child({column + 1})")
    for ascending in (True, False):
        heading.click()
        values = [float(cell.get_attribute("data-value")) for cell in cells.all()]
        assert values == sorted(values, reverse=not ascending)
        assert len(values) == 6


def test_the_page_says_what_made_it(sampled: Path, results: pd.DataFrame) -> None:
    text = (sampled / "report.html").read_text()
    assert "rdvae sweep --betas 0.01,1,100 --seeds 2 --architecture linear" in text
    assert results["code_version"].iloc[0] in text
    for run, sha256 in zip(results["run_id"], results["checkpoint_sha256"], strict=True):
        assert f'title="SHA-256 {sha256}">{run}</code>' in text
    assert "Nothing was left out." in text
    assert len(text.encode()) < MOST


def _many(folder: Path, trial: Trial, side: int, channels: int, count: int) -> None:
    """Results and pictures of so many models; coarse noise, as no format makes it small."""
    rng, rows = np.random.default_rng(0), []
    betas = np.geomspace(1e-4, 1e3, count // 2)
    for objective, beta in itertools.product(("constant", "optimal"), betas):
        c = 0.5 if objective == "constant" else None
        values = trial.to_dict() | {"objective": objective, "beta": beta, "train_sigma2": c}
        one = Trial.from_dict(values)
        facts = ("run_id", "curve", "setup", "dataset", "architecture", "latents", "objective")
        base = {name: getattr(one, name) for name in (*facts, "beta", "seed", "protocol", "epochs")}
        base |= {"train_sigma2": c, "epoch": one.epochs, "status": "ok", "n_images": 9}
        base |= {"checkpoint_sha256": "ab" * 32, "code_version": "0", "created_at": "2026"}
        sigmas = ("half", "beta-half", "optimal", "shared", "own", "mixture")
        for split, sigma in itertools.product(("train", "test"), sigmas):
            numbers = rng.gamma(2, 30, 3)
            row = dict(zip(("rate", "distortion", "mse"), numbers, strict=True))
            row |= {"elbo": -numbers[:2].sum(), "psnr": numbers[2], "dims": side**2 * channels}
            row |= {"split": split, "sigma": sigma, "is_density": sigma != "optimal", "n_draws": 1}
            rows.append(base | row)
        grain = max(1, side // 16)
        coarse = rng.integers(256, size=(3, 8, channels, side // grain, side // grain))
        noise = coarse.repeat(grain, axis=3).repeat(grain, axis=4).astype(np.uint8)
        kinds = dict(zip(("reconstruction", "prior"), noise[1:], strict=True))
        originals = np.resize(np.arange(256, dtype=np.uint8), noise[0].shape)
        about = {"trial": one.to_dict(), "epoch": one.epochs, "checkpoint_sha256": "ab" * 32}
        made = Samples(split="test", seed=0, original=originals, **kinds)
        write_samples(folder / "samples" / f"{one.run_id}.parquet", made, about)
    write_results(folder / "results" / "all.parquet", rows, {})


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (64, 3)])
def test_two_hundred_checkpoints_are_below_three_megabytes(
    side: int, channels: int, tmp_path: Path, tiny_trial: Trial
) -> None:
    _many(tmp_path, tiny_trial, side, channels, 200)
    page, notes = report(tmp_path)
    assert notes == []
    assert len(page.encode()) < MOST
    assert re.search("[24] of 8 of each kind|compressed with loss", page)
    assert page.count('alt="prior"') == 200
    assert "too large" not in page


def test_pictures_that_fit_are_kept_as_they_are(tmp_path: Path, tiny_trial: Trial) -> None:
    import base64
    import io

    from PIL import Image

    from rdvae_analysis.pictures import load_pictures

    _many(tmp_path, tiny_trial, 5, 3, 4)
    pictures, _ = load_pictures(tmp_path)
    packed = strips(pictures, 10**6)
    assert packed.remark == ""
    row = pictures.iloc[2]
    data = base64.b64decode(packed.by_run[row["run_id"]]["prior"].partition(",")[2])
    shown = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(shown[:, 6:11], row["prior"][1].transpose(1, 2, 0))
    none = strips(pictures, 100)
    assert none.by_run == {}
    assert "too large" in none.remark


def test_names_are_text_and_never_code(browser: Any, tmp_path: Path, frame: pd.DataFrame) -> None:
    evil = "</script><img src=x onerror=alert(1)>'\"{{7*7}}"
    rows = frame.assign(dataset=f"npz:{evil}", curve=evil, protocol=evil, is_density=True)
    named = evil.replace("/", "")  # a run is called by one plain name
    rows["run_id"] = rows["run_id"] + named
    made = rows.assign(
        n_images=9, n_draws=1, checkpoint_sha256="", code_version=evil, created_at=""
    )
    both = [made, made.assign(split="train")]
    records = pd.concat(both).replace({np.nan: None}).to_dict("records")
    write_results(tmp_path / "results" / "a.parquet", records, {})
    page, _ = report(tmp_path)
    assert "<img src=x" not in page
    (tmp_path / "x.html").write_text(page)
    for opened in _opened(browser, tmp_path / "x.html"):
        assert named in opened.locator("table.models code").first.inner_text()


def test_the_page_lists_what_was_left_out(tmp_path: Path, frame: pd.DataFrame) -> None:
    frame.loc[frame["run_id"] == "optimal-1.0-0", "status"] = "diverged"
    _write(tmp_path, frame)
    (tmp_path / "results" / "bad.parquet").write_text("no")
    page, notes = report(tmp_path)
    assert any("bad.parquet" in note for note in notes)
    assert "left out 1 run that diverged: optimal-1.0-0" in notes
    for note in notes:
        assert note.split(":")[0] in page
    assert "optimal-1.0-0</code>: diverged at epoch" in page


def test_sentences_against_the_numbers(results: pd.DataFrame) -> None:
    sentence = words.claims(results)
    spreads = results.groupby("run_id")["elbo"].agg(lambda elbo: elbo.max() - elbo.min())
    assert f"differ by {spreads.min():,.0f} to {spreads.max():,.0f} nats" in sentence
    best = {line.split(":")[0]: line for line in words.best(results)}
    means = results[results["sigma"] == "shared"].groupby(["objective", "beta"])["elbo"].mean()
    for objective, name in (("constant", "constant variance"), ("optimal", "BS-VAE")):
        assert f"{name} {means[objective].max():,.1f}" in best["Best ELBO under shared"]
    assert "The variance of optimal depends on the image it scores" in words.densities(results)
    assert list(words.deltas(results)) == []
    (reason,) = words.missing_deltas(results)
    assert "not compared with constant variance at equal PSNR: the anchor curve has" in reason


def _curve(objective: str, betas: np.ndarray, factor: float = 1.0) -> pd.DataFrame:
    """Made-up models whose slope under their own variance is beta, with `factor` times the rate."""
    rate = 30 - 13 * np.log10(betas / betas[0])
    steps = np.diff(rate, prepend=rate[0])
    middle = np.sqrt(betas * np.r_[betas[0], betas[:-1]])
    own = TRAINING_SIGMA[objective]
    shared = {"objective": objective, "curve": objective, "seed": 0, "split": "train"}
    return pd.DataFrame(
        {
            **{"rate": factor * rate, "distortion": -np.cumsum(steps * middle), "beta": betas},
            **{"psnr": 10 + rate / 4, "sigma": own, "train_sigma2": 0.5},
            **{"run_id": [f"{objective}-{beta}" for beta in betas], **shared},
        }
    )


def test_the_sentence_on_slopes_judges_models_that_are_not_collapsed() -> None:
    curve = _curve("constant", np.geomspace(1e-2, 1, 9))
    sentence = words.training(curve)
    assert "this holds for 7 of 7 models" in sentence
    assert "factor of 1.00 in the median and 1.0 at most" in sentence
    assert "Not judged: 2 models that" in sentence
    collapsed = curve.iloc[[-1]].assign(rate=1e-7, distortion=50.0, beta=1000.0, run_id="gone")
    sentence = words.training(pd.concat([curve, collapsed]))
    assert "1.0 at most" in sentence
    assert "Not judged: 3 models that" in sentence
    wrong = words.training(curve.assign(beta=curve["beta"] * 5))
    assert "this holds for 0 of 7 models; slope and β differ by a factor of 5.00" in wrong


def test_the_sentence_on_rates_says_which_needs_less() -> None:
    betas = np.geomspace(1e-2, 1, 9)
    constant = _curve("constant", betas)
    for factor, needs in ((0.5, "needs 50.0% less rate"), (2.0, "needs 100.0% more rate")):
        both = pd.concat([constant, _curve("optimal", betas, factor)])
        (sentence,) = words.deltas(both)
        assert list(words.missing_deltas(both)) == []
        assert f"BS-VAE {needs} than constant variance" in sentence
        assert ("PSNR is +" in sentence) == (factor < 1)


def test_models_of_another_constant_are_told_apart(tmp_path: Path, frame: pd.DataFrame) -> None:
    other = frame[frame["objective"] == "constant"].assign(
        train_sigma2=0.01, run_id="c" + frame["run_id"], curve="constant-c"
    )
    _write(tmp_path, pd.concat([frame, other], ignore_index=True))
    page, _ = report(tmp_path)
    assert page.count(">constant variance, C=0.01<") == 6 + 3  # models, and rows of Table 1
    assert r"\u03b2C" in page
    assert r"\u03b2/2" not in page


def test_more_models_than_altair_would_take(frame: pd.DataFrame) -> None:
    many = pd.concat(
        [frame.assign(seed=i, run_id=frame["run_id"] + str(i)) for i in range(60)],
        ignore_index=True,
    )
    assert len(many) > 5000
    (data,) = specification(many, {})["datasets"].values()
    assert len(data) == len(many)


def test_pictures_of_other_checkpoints_are_left_out(sampled: Path, tmp_path: Path) -> None:
    shutil.copytree(sampled / "small", tmp_path / "small")
    path = next((tmp_path / "small" / "results").glob("*-constant-beta=1-seed=0-*"))
    rows = [row | {"checkpoint_sha256": "00" * 32} for row in read_results(path).to_pylist()]
    write_results(path, rows, {})
    page, notes = report(tmp_path)
    assert any("left out pictures of 1 model" in note for note in notes)
    assert page.count('alt="prior"') == 11


@pytest.mark.parametrize("text", ['{"command": 5}', '{"data": 3}', "[]", "{", '{"data": {}}'])
def test_a_damaged_description_spoils_nothing_else(
    text: str, tmp_path: Path, frame: pd.DataFrame
) -> None:
    _write(tmp_path, frame)
    (tmp_path / "sweep.json").write_text(text)
    assert "How this was made" in report(tmp_path)[0]


def test_results_without_the_interpretation_optimal(tmp_path: Path, frame: pd.DataFrame) -> None:
    _write(tmp_path, frame[frame["sigma"] != "optimal"])
    assert "No Table 1" in report(tmp_path)[0]


def _write(folder: Path, frame: pd.DataFrame) -> None:
    """Results on both splits in a file."""
    facts = {"is_density": True, "n_images": 9, "n_draws": 1, "code_version": "0", "created_at": ""}
    both = pd.concat([frame.assign(**facts), frame.assign(**facts, split="train")])
    records = both.astype(object).where(both.notna(), None).to_dict("records")
    write_results(folder / "results" / "a.parquet", records, {})


def test_a_missing_extra_is_named(
    main: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = main("report", ".", cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install 'rdkit-vae[report]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_objectives_and_networks_of_a_user(tmp_path: Path, frame: pd.DataFrame) -> None:
    """They are named `module:function`: in sentences, in charts and in the table of models."""
    own = frame[frame["objective"] == "optimal"].assign(
        objective="my_package.losses:robust", run_id="own" + frame["run_id"], curve="own-abcd"
    )
    both = pd.concat([frame, own], ignore_index=True)
    _write(tmp_path, both.assign(architecture="my_package.networks:wide"))
    page, notes = report(tmp_path)
    assert notes == []
    assert page.count(">my_package.losses:robust<") == 6 + 3  # models, and rows of Table 1
    assert '<h2 class="first">digits, my_package.networks:wide, 4 latents, 5 epochs</h2>' in page
    charts = specification(final_rows(both)[0], {})
    (points,) = charts["datasets"].values()
    assert {point["model"] for point in points} >= {"my_package.losses:robust", "BS-VAE"}
