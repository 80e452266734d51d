"""Table 1 against plain pandas, and the paper's values only beside what they are of."""

import csv
import io
import math
import re
from collections.abc import Callable

import pandas as pd
import pytest

from rdkit_vae.errors import BadInput
from rdvae_analysis import paper
from rdvae_analysis.paper_table import table1
from rdvae_analysis.tables import FORMATS, render


@pytest.fixture
def both(frame: pd.DataFrame) -> pd.DataFrame:
    """Results on both splits, of models of which one of each objective is the best."""
    frame = frame.assign(elbo=frame["elbo"] - (frame["beta"] - 1).abs() + frame["seed"])
    return pd.concat(
        [frame, frame.assign(split="train", elbo=frame["elbo"] + 7)], ignore_index=True
    )


@pytest.fixture
def as_paper(both: pd.DataFrame) -> pd.DataFrame:
    """The same, as if from the paper's own set-up on MNIST."""
    setup = {**paper.SETUP, "epochs": 50, "latents": 32, "dataset": "mnist"}
    setup["checkpoint_sha256"] = "ab" * 32
    return both.assign(**setup, epoch=both["epoch"] * 10)


def test_means_and_deviations_over_seeds(both: pd.DataFrame) -> None:
    table, _ = table1(both, sigma="shared")
    rows = both[(both["sigma"] == "shared") & (both["epoch"] == 5)]
    expected = rows.groupby(["split", "objective", "beta"])["elbo"].agg(["mean", "min", "max"])
    assert len(table) == 6
    for row in table.itertuples():
        assert row.seeds == 2
        for split in ("test", "train"):
            mean, low, high = expected.loc[split, row.objective, row.beta]
            assert getattr(row, split) == pytest.approx(mean, rel=1e-12)
            assert getattr(row, f"{split}_sd") == pytest.approx((high - low) / 2, rel=1e-12)
    for split in ("test", "train"):
        assert table.loc[table[f"{split}_best"], split].tolist() == [table[split].max()] * 2
    assert table["model"].tolist() == ["constant variance"] * 3 + ["BS-VAE"] * 3


def test_the_papers_values_stand_beside_what_they_are_of(as_paper: pd.DataFrame) -> None:
    table, _ = table1(as_paper)
    for row in table.itertuples():
        printed = paper.TABLE_1["mnist", row.objective, row.beta]
        assert (row.test_paper, row.train_paper) == (printed["test"], printed["train"])
    assert paper.TABLE_1["mnist", "optimal", 1.0] == {"fid": 59.2, "test": 887, "train": 877}
    assert paper.TABLE_1["celeba", "constant", 100.0] == {"fid": 235.8, "test": 2233, "train": 2190}
    assert len(paper.TABLE_1) == 20


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": "clean"},
        {"latents": 16},
        {"architecture": "mlp"},
        {"dataset": "fashion-mnist"},
        {"beta": 0.5},
    ],
)
def test_the_papers_values_stand_beside_nothing_else(
    as_paper: pd.DataFrame, other: dict[str, object]
) -> None:
    seeds, _ = pd.factorize(as_paper["run_id"])
    table, notes = table1(as_paper.assign(**other, seed=seeds))
    assert not any(name.endswith("_paper") for name in table)
    assert "no column of the paper's values" in notes[-1]
    assert not any(name.endswith("_paper") for name in table1(as_paper, sigma="shared")[0])


def test_beside_results_of_older_releases_it_says_what_else_makes_them_differ(
    as_paper: pd.DataFrame,
) -> None:
    def caveats(frame: pd.DataFrame, sigma: str = "optimal") -> list[str]:
        return [note for note in table1(frame, sigma=sigma)[1] if "15 to 66 nats" in note]

    assert caveats(as_paper.assign(n_images=9_728)) == []
    assert caveats(as_paper.drop(columns="n_images")) == []
    as_paper = as_paper.assign(n_images=10_000)
    assert len(caveats(as_paper)) == 1
    assert caveats(as_paper, sigma="shared") == []
    assert caveats(as_paper.assign(protocol="clean")) == []
    celeba = as_paper.assign(dataset="celeba", latents=64)
    assert "test_paper" in table1(celeba)[0]
    assert caveats(celeba) == []  # a flip is a flip
    assert len(caveats(pd.concat([as_paper, celeba.assign(run_id="x" + celeba["run_id"])]))) == 1


@pytest.mark.parametrize("seeds", [1, 2])
def test_minus_the_loss_stands_beside_the_papers_values(as_paper: pd.DataFrame, seeds: int) -> None:
    rows = as_paper[(as_paper["seed"] < seeds) & (as_paper["sigma"] == "optimal")]
    table, _ = table1(rows.reset_index(drop=True))
    last = rows[rows["epoch"] == 50]
    for row in table.itertuples():
        for split in ("test", "train"):
            of_model = (last["objective"] == row.objective) & (last["beta"] == row.beta)
            models = last[of_model & (last["split"] == split)]
            expected = [
                -(model.distortion + model.beta * model.rate) for model in models.itertuples()
            ]
            assert len(expected) == seeds
            measured = getattr(row, f"{split}_minus_loss")
            assert measured == pytest.approx(sum(expected) / seeds, rel=1e-15)
            if row.beta == 1:
                elbos = -(models["rate"] + models["distortion"])
                assert measured == pytest.approx(elbos.mean(), rel=1e-15)
            deviation = getattr(row, f"{split}_minus_loss_sd")
            if seeds == 1:
                assert math.isnan(deviation)
                assert math.isnan(getattr(row, f"{split}_sd"))
            else:
                assert deviation == pytest.approx((max(expected) - min(expected)) / 2)


def test_minus_the_loss_stands_only_beside_the_papers_values(as_paper: pd.DataFrame) -> None:
    for frame, sigma in (
        (as_paper, "shared"),
        (as_paper.assign(protocol="clean"), "optimal"),
    ):
        assert not any("minus_loss" in name for name in table1(frame, sigma=sigma)[0])
    moved = as_paper.assign(beta=as_paper["beta"].replace(10.0, 20.0))
    table, _ = table1(moved)
    no_value = table["beta"] == 20
    assert table.loc[no_value, "test_minus_loss"].isna().all()
    assert table.loc[~no_value, "test_minus_loss"].notna().all()


@pytest.mark.parametrize("kind", ["text", "markdown", "latex"])
def test_epochs_and_seeds_of_both_are_said(as_paper: pd.DataFrame, kind: str) -> None:
    short = as_paper.assign(epochs=5, epoch=as_paper["epoch"] // 10)
    table, notes = table1(short)
    assert "test_paper" in table  # whatever the number of epochs
    assert not any("no column of the paper's values" in note for note in notes)
    text = render(table, kind)
    assert "hese models were trained for 5 epochs with 2 seeds" in text
    assert "the paper's for 50 epochs with 5 seeds" in text
    assert "ompare the paper's values with minus the loss" in text
    assert "for them is not known" in text
    bs_vae = short[short["objective"] == "optimal"]
    assert "for them is not known" not in render(table1(bs_vae)[0], kind)
    assert "paper" not in render(table1(short, sigma="shared")[0], kind)


def test_another_constant_is_another_model(as_paper: pd.DataFrame) -> None:
    other = as_paper[as_paper["objective"] == "constant"].assign(
        train_sigma2=0.01, run_id="c" + as_paper["run_id"]
    )
    table, _ = table1(pd.concat([as_paper, other]))
    assert "constant variance, C=0.01" in set(table["model"])
    assert table.loc[table["train_sigma2"] == 0.01, "test_paper"].isna().all()


@pytest.fixture
def made(as_paper: pd.DataFrame, distances_of: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return distances_of(as_paper)


def test_distances_stand_under_the_names_of_their_features(
    as_paper: pd.DataFrame, made: pd.DataFrame
) -> None:
    table, _ = table1(as_paper, generation=made)
    standard = made[(made["source"] == "prior") & (made["prior"] == "standard")]
    expected = standard.groupby(["objective", "beta"])["frechet"].agg(["mean", "min", "max"])
    name = "FD classifier 3f2a9c1b"
    for row in table.to_dict("records"):
        mean, low, high = expected.loc[(row["objective"], row["beta"])]
        assert row[name] == pytest.approx(mean, rel=1e-12)
        assert row[f"{name}_sd"] == pytest.approx((high - low) / 2, rel=1e-9)
        printed = paper.TABLE_1["mnist", row["objective"], row["beta"]]["fid"]
        assert row["FID (paper)"] == printed
    assert table.loc[table[f"{name}_best"], name].tolist() == [table[name].min()]
    assert f"{name}, best prior" not in table  # without rates nobody knows which that is


def test_the_papers_fid_stands_beside_distances_only(
    as_paper: pd.DataFrame, made: pd.DataFrame
) -> None:
    assert "FID (paper)" not in table1(as_paper)[0]
    clean = as_paper.assign(protocol="clean")
    table, _ = table1(clean, generation=made)
    assert "FD classifier 3f2a9c1b" in table
    assert "FID (paper)" not in table
    assert "Inception" not in render(table, "text")


def test_distances_of_other_checkpoints_are_named_and_not_shown(
    as_paper: pd.DataFrame, made: pd.DataFrame
) -> None:
    one = made["run_id"] == made["run_id"].iloc[0]
    other = made.assign(checkpoint_sha256=made["checkpoint_sha256"].mask(one, "cd" * 32))
    _, notes = table1(as_paper, generation=other)
    assert any("distances of 1 model: they are of other checkpoints" in note for note in notes)
    assert "FD classifier 3f2a9c1b: of fewer seeds for 1 model" in notes
    none, notes = table1(as_paper, generation=made.assign(checkpoint_sha256="cd" * 32))
    assert not any(name.startswith("FD") for name in none)
    assert any("distances of 12 models" in note for note in notes)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("pixels", ["clipped", "stretched"])
def test_every_distance_is_printed_with_its_features(
    as_paper: pd.DataFrame,
    distances_of: Callable[..., pd.DataFrame],
    rates_of: Callable[..., pd.DataFrame],
    kind: str,
    pixels: str,
) -> None:
    some = as_paper[as_paper["beta"] < 10]
    made = distances_of(some, pixels=pixels, features="my_code:net")
    table, _ = table1(as_paper, generation=made, priors=rates_of(some))
    text = render(table, kind)
    lines = [line for line in text.splitlines() if not line.startswith("\\caption")]
    (header,) = (line for line in lines if "seeds" in line and "FD" in line)
    features = "my_code:net 3f2a9c1b" + (", stretched pictures" if pixels == "stretched" else "")
    header = header.replace(r"\_", "_")
    of_each = 5 if kind == "csv" else 1  # mean, deviation, interval, best
    assert header.count("FD ") == header.count(f"FD {features}") == 2 * of_each
    assert header.count(f"FD {features}, best prior") == of_each
    others = re.sub(r"FD my_code:net|FID \(paper\)", "", header)
    assert not re.search(r"(?i)\bFI?D\b|fr.chet|kid", others)
    for name in (f"FD {features}", f"FD {features}, best prior"):
        assert table[name].notna().sum() == 4
        for value in table[name].dropna():
            assert f"{value:.1f}" in text or kind == "csv"
    if kind == "text":
        (unmeasured, *_) = (line for line in text.splitlines() if " 10 " in line)
        assert unmeasured.split()[-4:] == ["-", "-", "351.7", "-"]
    if kind != "csv":  # the command prints these notes
        assert "distance of other features (Inception)" in text
        made_how = "stretched" if pixels == "stretched" else "clipped"
        assert f"1,000 samples, {made_how} to" in text


@pytest.mark.parametrize("kind", FORMATS)
def test_features_of_any_name_are_no_code(
    as_paper: pd.DataFrame, distances_of: Callable[..., pd.DataFrame], kind: str
) -> None:
    made = distances_of(as_paper, features=r"=a|b\input{x}&$y$\n#")
    text = render(table1(as_paper, generation=made)[0], kind)
    plain = render(table1(as_paper, generation=distances_of(as_paper))[0], kind)
    assert text.count("\n") == plain.count("\n")
    assert "input{" not in text
    assert text.count("|") == plain.count("|")
    assert text.count("&") == plain.count("&")


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_has_every_row(as_paper: pd.DataFrame, kind: str) -> None:
    table, _ = table1(as_paper)
    text = render(table, kind)
    best = f"{table['test'].max():.1f}"
    marks = {"text": f"{best}*", "markdown": f"**{best}**", "latex": f"\\textbf{{{best}}}"}
    assert marks.get(kind, "") in text.replace("$-$", "-")
    assert text.count("BS-VAE") == 3
    assert "887" in text
    if kind == "csv":
        (row,) = (
            row
            for row in csv.DictReader(io.StringIO(text))
            if (row["objective"], row["beta"]) == ("optimal", "1.0")
        )
        assert float(row["test"]) == table["test"].iloc[4]
    if kind == "latex":
        lines = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert {line.count("&") for line in lines} == {8}
        assert text.count("{") == text.count("}")


def test_no_rows_of_that_interpretation_says_which_there_are(frame: pd.DataFrame) -> None:
    with pytest.raises(BadInput, match="rows of beta-half, half, optimal, shared"):
        table1(frame, sigma="mixture")
    with pytest.raises(BadInput, match="12 runs that diverged"):
        table1(frame.assign(status="diverged"))


def test_a_split_that_is_not_there_is_said(frame: pd.DataFrame) -> None:
    table, notes = table1(frame)
    assert "no rows of the train split" in notes
    assert "train" not in table
    assert len(table) == 6
    assert "train" not in render(table, "markdown")


def test_runs_of_unknown_setup_are_no_seeds(both: pd.DataFrame) -> None:
    other = both[both["seed"] == 1].index
    both.loc[other, "setup"] = None
    both.loc[other, "elbo"] += 100
    table, notes = table1(both)
    assert set(table["seeds"]) == {1}
    assert "left out 6 runs whose setup is not known" in notes


def test_latex_escapes_what_it_would_read(both: pd.DataFrame) -> None:
    other = {"dataset": "npz:/a/b$c_d%^~.npz", "setup": r"\input{/etc/passwd}"}
    two = pd.concat([both, both.assign(**other, run_id="x" + both["run_id"])])
    text = render(table1(two.reset_index(drop=True))[0], "latex")
    assert r"b\$c\_d\%\textasciicircum{}\textasciitilde{}.npz" in text


@pytest.mark.parametrize(
    "text", [r"\input{x}", "a & b", "50% $x_1^2$ #~", "[5pt]", "*", "a\nb\r\\"]
)
def test_no_text_of_a_table_is_code_in_latex(both: pd.DataFrame, text: str) -> None:
    """Whatever column it stands in: only commands and braces that the table writes itself."""
    table, _ = table1(both, sigma="shared")
    plain = render(table.assign(dataset=["a", "b"] * 3, setup=list("uvwxyz")), "latex")
    texts = {name: text for name in ("dataset", "setup", "model", "sigma")}
    evil = table.assign(**texts, beta=range(6))
    evil["dataset"] = [text, text + "2"] * 3
    evil["setup"] = [f"{text}{place}" for place in range(6)]
    written = render(evil, "latex")
    codes = [
        re.sub(r"\\text(backslash|asciitilde|asciicircum)\{\}|\\[&%#_{}$]|\{[\[*]\}", "", t)
        for t in (plain, written)
    ]
    for code in codes:
        assert "input" not in re.findall(r"\\(\w+)", code)
    assert len({tuple(re.findall(r"\\\w+|[{}&%#_$~^]", code)) for code in codes}) == 1
    assert not re.search(r"\\\\\s*[\[*]", written)
    assert written.count("\n") == plain.count("\n")


@pytest.mark.parametrize("sigma", ["optimal", "shared"])
def test_latex_says_what_its_numbers_are(both: pd.DataFrame, sigma: str) -> None:
    (caption,) = re.findall(r"\\caption\{(.*)\}", render(table1(both, sigma=sigma)[0], "latex"))
    for words in (
        "digits",
        "nats per image",
        rf"\texttt{{{sigma}}}",
        "test and train",
        "test and train",
    ):
        assert words in caption
    assert ("not a density" in caption) == (sigma == "optimal")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_spreadsheet_finds_no_formula_in_csv(both: pd.DataFrame, start: str) -> None:
    evil = f"{start}cmd|' /C calc'!A0"
    table, _ = table1(both, sigma="shared")
    table = table.assign(model=evil, setup=evil, test=-table["test"].abs(), mixed=[evil, -1.5] * 3)
    text = render(table.assign(**{evil: 1.0}), "csv")
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    numbers = [
        cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    ]
    assert all(float(cell) < 0 for cell in numbers)
    evil = evil.replace("\r", "\n")
    assert f"'{evil}" in header
    assert [float(row[header.index("test")]) for row in rows] == table["test"].tolist()
    assert [row[header.index("mixed")] for row in rows] == [f"'{evil}", "-1.5"] * 3


@pytest.mark.parametrize("kind", FORMATS)
def test_models_from_elsewhere_are_in_the_table_under_their_names(
    with_models: pd.DataFrame, kind: str
) -> None:
    table, _ = table1(with_models)
    models = table[table["setup"] == "elsewhere"].set_index("model")
    assert set(models.index) == {"mine", "friend's VAE", "optimal"}
    assert math.isnan(models.loc["friend's VAE", "beta"])
    rows = with_models[
        (with_models["model"] == "friend's VAE") & (with_models["sigma"] == "optimal")
    ]
    assert models.loc["friend's VAE", "test"] == rows["elbo"].iloc[0]
    text = render(table, kind)
    assert "friend's VAE" in text
    assert kind == "csv" or "nan" not in text
