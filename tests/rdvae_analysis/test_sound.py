"""Rows with invalid values are left out, named and counted, whichever function gets them."""

import itertools
import json
import math
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rdkit_vae import make_trial
from rdkit_vae.errors import BadInput
from rdkit_vae.store.results import write_results
from rdkit_vae.store.samples import Samples, write_samples
from rdkit_vae.store.schema import COLUMNS, NOT_NEGATIVE, NULLABLE, POSITIVE
from rdvae_analysis import curves, matched, tables
from rdvae_analysis.claims import lint, read_claims
from rdvae_analysis.consistency import by_beta, on_lines, pairs, spread
from rdvae_analysis.figures import FIGURES, draw
from rdvae_analysis.figures.matched import matched as matched_figure
from rdvae_analysis.figures.overlay import overlay as overlay_figure
from rdvae_analysis.figures.pairs import pairs as pairs_figure
from rdvae_analysis.figures.rd import plot_rd
from rdvae_analysis.figures.samples import samples
from rdvae_analysis.intervals import over_seeds
from rdvae_analysis.paper_table import table1
from rdvae_analysis.pictures import alike, load_pictures
from rdvae_analysis.points import final_rows, rd_points
from rdvae_analysis.sound import LoadWarning, only_sound, sound_rows

Run = Callable[..., subprocess.CompletedProcess[str]]
Function = Callable[[pd.DataFrame, Path], Any]

NUMBERS = [name for name, column in COLUMNS.items() if column.is_number]
VALUES = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "None": None, "0": 0.0, "-1": -1.0}


@pytest.fixture(scope="module")
def whole() -> pd.DataFrame:
    """Every column filled: constant variance of two C, BS-VAE; two seeds, two splits."""
    models = [("constant", 0.5, beta) for beta in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0)]
    models += [("constant", 0.05, beta) for beta in (1.0, 10.0)]
    models += [("optimal", None, beta) for beta in (0.1, 0.3, 1.0, 3.0, 10.0)]
    rows = [
        row
        for model, seed, split in itertools.product(models, (0, 1), ("test", "train"))
        for row in _rows_of_model(*model, seed, split)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows_of_model(
    objective: str, c: float | None, beta: float, seed: int, split: str
) -> list[dict[str, object]]:
    tau = beta * (c or 0.02)
    rate, mse = 30 / (1 + (tau / 0.01) ** 0.5) + seed / 10, 0.01 + 0.1 * tau / (1 + tau)
    variances = {"half": 0.5, "beta-half": beta * (c or 0.5), "optimal": mse, "shared": 1.01 * mse}
    variances |= {"mixture": None} | ({"own": c} if c else {})
    rows = []
    for sigma, sigma2 in variances.items():
        s2 = sigma2 or mse
        distortion = 32 * (mse / s2 + math.log(2 * math.pi * s2))
        mixed, fitted = sigma == "mixture", sigma in ("optimal", "shared")
        rows.append(
            {
                **{"run_id": f"{objective}-{c}-{beta}-{seed}", "curve": f"{objective}-{c}"},
                **{"setup": "efgh", "dataset": "digits", "architecture": "mlp", "latents": 8},
                **{"objective": objective, "beta": beta, "train_sigma2": c, "seed": seed},
                **{"protocol": "clean", "epoch": 5, "epochs": 5, "step": 100, "split": split},
                **{"sigma": sigma, "sigma2": sigma2, "sigma2_floor": 1e-6 if fitted else None},
                **{"s_min": 1e-3 if mixed else None, "s_max": 1.0 if mixed else None},
                **{"floored": 0.0, "is_density": sigma != "optimal", "caveat": "", "rate": rate},
                **{"distortion": distortion, "elbo": -(rate + distortion), "mse": mse},
                **dict.fromkeys(("rate_se", "distortion_se", "elbo_se"), 0.1),
                **{"psnr": -10 * math.log10(mse), "mutual_information_se": 0.01},
                **{"bits_per_dim": (rate + distortion) / 64 / math.log(2), "active_units": 4},
                **dict.fromkeys(("mutual_information", "marginal_kl"), rate / 2),
                **{"n_images": 100, "n_draws": 2, "dims": 64, "checkpoint_sha256": "ab"},
                **{"status": "ok", "reason": "", "code_version": "0", "created_at": "2024"},
            }
        )
    return rows


def _spoilt(frame: pd.DataFrame, row: int, column: str, value: float | None) -> pd.DataFrame:
    values = frame[column].astype(object if value is None else float)
    return frame.assign(**{column: values.where(frame.index != row, value)})


def _can_be(row: "pd.Series[Any]", column: str, value: float | None) -> bool:
    """Whether the schema allows a value in a row of its kind."""
    if value is None or math.isnan(value):
        needed = {"sigma2": row["sigma"] != "mixture", "train_sigma2": row["curve"] != "optimal"}
        return column in NULLABLE and not needed.get(column, False)
    if math.isinf(value) or (column in ("seed", "epochs") and value != row[column]):
        return False  # all rows of a run have the same
    return value > 0 or (column not in POSITIVE and (value == 0 or column not in NOT_NEGATIVE))


@pytest.mark.parametrize("column", NUMBERS)
def test_a_number_that_cannot_be_costs_its_row_and_is_named(
    column: str, whole: pd.DataFrame
) -> None:
    assert sound_rows(whole)[1] == []
    chosen = (whole["sigma"] == "shared") & (whole["seed"] == 1) & (whole["objective"] != "optimal")
    row = int(whole.index[chosen][5])
    for value in VALUES.values():
        frame = _spoilt(whole, row, column, value)
        kept, notes = sound_rows(frame)
        if _can_be(whole.loc[row], column, value):
            assert len(kept) == len(whole)
            assert notes == []
            continue
        pd.testing.assert_frame_equal(kept, whole.drop(index=row))
        (note,) = notes
        assert note.startswith("left out 1 row ")
        assert column in note
        assert note.endswith(f": {whole.loc[row, 'run_id']}")
        with pytest.warns(LoadWarning, match=column):
            only_sound(frame)


@pytest.fixture(scope="module", params=[0, 2, 4])
def spoilt(request: pytest.FixtureRequest, whole: pd.DataFrame) -> pd.DataFrame:
    """In every column of numbers another one of the values, each in a row of its own."""
    frame, values = whole, list(VALUES.values())
    rows = whole.index[whole["split"] == "test"]
    bad = 0
    for place, column in enumerate(NUMBERS):
        value = values[(place + request.param) % len(values)]
        row = int(rows[place * len(rows) // len(NUMBERS)])
        frame = _spoilt(frame, row, column, value)
        bad += not _can_be(whole.loc[row], column, value)
    kept, notes = sound_rows(frame)
    assert len(frame) - len(kept) == bad
    assert sum(int(note.split()[2]) for note in notes) == bad
    return frame


def _test(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["split"] == "test"]


def _last(frame: pd.DataFrame) -> pd.DataFrame:
    return _test(final_rows(frame)[0])


def _lint(frame: pd.DataFrame, folder: Path) -> None:
    for part in (frame, frame.drop(columns=["curve", "setup"])):
        part.to_csv(folder / "t.csv", index=False)
        lint(read_claims(folder / "t.csv")[0])


def _overlaid(frame: pd.DataFrame) -> None:
    constant = by_beta(spread(matched.constant_curve(frame)))
    table = matched.overlay(frame)
    assert len(table)
    overlay_figure(table, constant)


def _on_lines(frame: pd.DataFrame) -> None:
    table = pairs(frame, dict.fromkeys(on_lines(frame), 0.1))
    assert len(table)
    pairs_figure(table)


def _matched(frame: pd.DataFrame) -> None:
    table, _ = matched.matched_rate(frame)
    assert len(table)
    matched_figure(table)


def _curves(frame: pd.DataFrame) -> None:
    rows = frame[frame["sigma"] == "shared"]
    over_seeds(rows, ["objective", "train_sigma2", "beta"], ["elbo", "rate"])
    one = rows[(rows["objective"] == "optimal") & (rows["seed"] == 0)]
    curves.hull(one)
    curves.at_rate(one, [5.0])
    curves.at_distortion(one, [-20.0])
    curves.slopes(one)
    curves.areas(rows[rows["seed"] == 0], ["objective", "train_sigma2"])


def _report(frame: pd.DataFrame) -> None:
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    from rdvae_analysis.report import charts, page, words
    from rdvae_analysis.report.strips import Strips

    rows, here = final_rows(frame)[0], _last(frame)
    words.answers(here)
    words.remarks(rows, "test")
    ids = {run: run for run in here["run_id"]}
    json.dumps(charts.specification(here, ids), allow_nan=False)
    page._models(here, ids, Strips(by_run={}))
    page._table1(rows)


FUNCTIONS: dict[str, Function] = {
    "elbo_table": lambda frame, _: tables.to_text(tables.elbo_table(frame)[0]),
    "table1": lambda frame, _: [tables.render(table1(frame)[0], k) for k in tables.FORMATS],
    "points": lambda frame, _: [rd_points(frame, distortion=d) for d in ("nll", "mse", "psnr")],
    "plot_rd": lambda frame, _: plot_rd(frame),
    "by_beta": lambda frame, _: tables.to_text(by_beta(spread(_test(frame)))),
    "best": lambda frame, _: matched.best(_test(frame)),
    "matched": lambda frame, _: _matched(_test(frame)),
    "overlay": lambda frame, _: _overlaid(_test(frame)),
    "pairs": lambda frame, _: _on_lines(_test(frame)),
    "curves": lambda frame, _: _curves(_last(frame)),
    "curves of the table itself": lambda frame, _: _curves(
        _test(frame)[_test(frame)["seed"].isin([0, 1])]
    ),
    "report": lambda frame, _: _report(frame),
    "lint": _lint,
    **{
        name: lambda frame, _, name=name: draw(  # type: ignore[misc]
            name, _test(frame), split="test", columns=2
        )
        for name in FIGURES
    },
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_fails_on_numbers_that_cannot_be(
    name: str, spoilt: pd.DataFrame, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoadWarning)
        FUNCTIONS[name](spoilt, tmp_path)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_say_what_they_leave_out(name: str, whole: pd.DataFrame) -> None:
    frame = _test(whole).copy()
    row = frame.index[(frame["sigma"] == "shared") & (frame["beta"] == 1)][0]
    frame.loc[row, "rate"] = np.nan
    with pytest.warns(LoadWarning, match=f"1 row without rate: {frame.loc[row, 'run_id']}"):
        draw(name, frame, split="test", columns=2)
    with pytest.raises(BadInput, match="the table has no beta"):
        draw(name, frame.drop(columns="beta"), split="test", columns=2)


def test_rows_of_a_run_are_of_one_model(whole: pd.DataFrame) -> None:
    run = whole["run_id"] == "optimal-None-1.0-1"
    frame = whole.copy()
    frame.loc[frame.index[run][:2], "beta"] = 7.0
    kept, notes = sound_rows(frame)
    assert len(kept) == len(frame) - 2
    assert notes == [
        "left out 2 rows whose beta is not that of the rest of their run: optimal-None-1.0-1"
    ]


def test_failed_runs_have_no_numbers_and_are_kept(whole: pd.DataFrame) -> None:
    failed = whole["run_id"] == "optimal-None-1.0-1"
    numbers = ["rate", "distortion", "elbo", "mse", "psnr", "sigma2", "n_images", "dims"]
    frame = whole.astype(dict.fromkeys(numbers, float))
    frame.loc[failed, numbers] = np.nan
    frame.loc[failed, "status"] = "diverged"
    assert sound_rows(frame)[1] == []
    assert final_rows(frame)[1] == ["left out 1 run that diverged: optimal-None-1.0-1"]
    frame.loc[failed, "status"] = "odd"
    assert "rows of an unknown status: optimal-None-1.0-1" in sound_rows(frame)[1][0]


def test_a_table_put_together_twice_counts_once(whole: pd.DataFrame) -> None:
    kept, notes = sound_rows(pd.concat([whole, whole]))
    assert len(kept) == len(whole)
    assert notes == ["28 runs lie in more than one place; each is counted once"]


COMMANDS = [
    *(["plot", name] for name in ("rd", "training")),
    *(["table"], ["consistency"], ["lint"], ["report"]),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_name_the_runs_of_bad_rows(
    command: list[str], whole: pd.DataFrame, main: Run, tmp_path: Path
) -> None:
    if command == ["report"]:
        pytest.importorskip("altair")
        pytest.importorskip("vl_convert")
    records = whole.astype(object).where(whole.notna(), None).to_dict("records")
    # By value, rows of different runs and interpretations: each kind once in each of two columns.
    bad = {}
    rows = [place for place, row in enumerate(records) if row["split"] == "test"]
    kinds = [math.nan, math.inf, -math.inf, None]
    cases = [
        *itertools.product(("rate", "distortion", "mse"), kinds),
        ("beta", 0.0),
        ("beta", -1.0),
    ]
    for place, (column, value) in enumerate(cases):
        row = records[rows[place * len(rows) // len(cases)]]
        row[column] = value
        bad[row["run_id"]] = column
    write_results(tmp_path / "runs" / "results" / "a.parquet", records, {})
    done = main(*command, "runs", cwd=tmp_path)
    assert done.returncode in ((0, 1) if command == ["lint"] else (0,)), done.stderr
    left_out = [line for line in done.stderr.splitlines() if line.startswith("rdvae: left out ")]
    assert sum(int(line.split()[3]) for line in left_out if " row" in line) == len(cases)
    for column in ("rate", "distortion", "mse", "beta"):
        assert any(column in line for line in left_out)


def _pictures(*shape: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    return np.zeros(shape, np.uint8)


GOOD = (4, 1, 8, 8)


@pytest.mark.parametrize(
    ("kinds", "why"),
    [
        ([(4, 1, 4, 16)] * 3, "made from other images or latents"),
        ([(4, 3, 8, 8)] * 3, "made from other images or latents"),
        ([(4, 2, 8, 8)] * 3, "pictures must have 1 or 3 channels, the shape of these is 2x8x8"),
        ([(4, 5, 8, 8)] * 3, "pictures must have 1 or 3 channels"),
        ([(4, 1, 8)] * 3, "pictures must have 1 or 3 channels"),
        ([(0, 1, 8, 8)] * 3, "a column lies outside the file"),
        ([GOOD, GOOD, (0, 1, 8, 8)], "no pictures of kind prior"),
        ([GOOD, (0, 1, 8, 8), GOOD], "no pictures of kind reconstruction"),
        ([GOOD, (2, 1, 8, 8), GOOD], ""),
    ],
)
def test_pictures_of_other_shapes_are_left_out_and_said(
    kinds: list[tuple[int, ...]], why: str, tmp_path: Path
) -> None:
    for beta, shapes in ((1.0, [GOOD] * 3), (2.0, [GOOD] * 3), (3.0, kinds)):
        trial = make_trial("digits", architecture="mlp", objective="optimal", beta=beta, epochs=1)
        about = {"trial": trial.to_dict(), "epoch": 1, "checkpoint_sha256": "x"}
        arrays = dict(zip(("original", "reconstruction", "prior"), shapes, strict=True))
        made = {kind: _pictures(*shape) for kind, shape in arrays.items()}
        write_samples(tmp_path / f"{beta}.parquet", Samples(split="test", seed=0, **made), about)
    pictures, notes = load_pictures(tmp_path)
    shown, left_out = alike(pictures)
    assert len(shown) == 3 - bool(why)
    assert why in " ".join([*notes, *left_out])
    assert samples(shown, columns=1).axes


def test_pictures_of_different_shapes_in_one_figure_are_refused(tmp_path: Path) -> None:
    row = {"objective": "optimal", "train_sigma2": None, "dataset": "digits", "split": "test"}
    rows = [
        {**row, "beta": beta, "picture_seed": 0, **dict.fromkeys(_KINDS, _pictures(4, 1, 8, wide))}
        for beta, wide in ((1.0, 8), (2.0, 9))
    ]
    with pytest.raises(BadInput, match="different shapes \\(1x8x8 and 1x8x9\\)"):
        samples(pd.DataFrame(rows))


_KINDS = ("original", "reconstruction", "prior")
