import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rdkit_vae.errors import BadData
from rdvae_analysis.claims import Report, lint, read_claims


def _lint(tmp_path: Path, **columns: list[object]) -> Report:
    pd.DataFrame(columns).to_csv(tmp_path / "t.csv", index=False)
    return lint(read_claims(tmp_path / "t.csv")[0])


def _rules(report: Report) -> set[str]:
    return {finding.rule for finding in report.findings}


def test_claims_of_one_stated_variance_compare(tmp_path: Path) -> None:
    report = _lint(tmp_path, model=["a", "b"], beta=[1, 2], ELBO=[3, 4], variance=[0.1, 0.1])
    assert report.findings == ()
    (group,) = report.groups.values()
    assert sorted(group["model"]) == ["a", "b"]


def test_a_claim_without_a_variance_compares_with_nothing(tmp_path: Path) -> None:
    report = _lint(tmp_path, model=["a", "b"], beta=[1, 2], elbo=[3, 4], variance=[0.1, None])
    assert _rules(report) == {"no-variance"}
    assert [list(group["model"]) for group in report.groups.values()] == [["a"]]


def test_a_variance_of_half_beta_is_recognised(tmp_path: Path) -> None:
    report = _lint(
        tmp_path, model=list("abc"), beta=[0.1, 1, 10], elbo=[1, 2, 3], sigma2=[0.05, 0.5, 5]
    )
    assert _rules(report) == {"variance-follows-beta"}
    assert not report.findings[0].hinders  # they are densities all the same
    assert list(report.groups) == ["beta-half"]
    mixed = _lint(
        tmp_path, model=list("abc"), beta=[0.1, 1, 10], elbo=[1, 2, 3], sigma2=[0.05, 0.5, 0.5]
    )
    assert "different-interpretations" in _rules(mixed)


def test_a_model_of_unknown_beta_follows_no_beta(tmp_path: Path) -> None:
    """It neither hides that the others' variances follow beta, nor is it counted among them."""
    report = _lint(
        tmp_path,
        model=list("abcx"),
        beta=[0.1, 1, 10, None],
        elbo=[1, 2, 3, 4],
        sigma2=[0.05, 0.5, 5, 0.05],
    )
    (following,) = (f for f in report.findings if f.rule == "variance-follows-beta")
    assert following.claims == 3
    assert {name: list(group["model"]) for name, group in report.groups.items()} == {
        "beta-half": ["a", "b", "c"],
        "constant:0.05": ["x"],
    }
    stated = _lint(
        tmp_path, model=list("ax"), beta=[0.1, None], elbo=[1, 2], sigma=["beta-half"] * 2
    )
    assert stated.findings == ()


def test_nothing_is_compared_with_an_unknown_beta(tmp_path: Path) -> None:
    report = _lint(
        tmp_path,
        model=list("ab"),
        beta=[None, None],
        rate=[10, 10],
        distortion=[20, 20],
        elbo=[-30, -20],
        sigma=["shared"] * 2,
        implied_beta=[3.0, 7.0],
        implied_beta_se=[0.01, 0.01],
        implied_scatter=[0.01, None],
    )
    assert report.findings == ()
    assert len(report.groups) == 1


def _implied(tmp_path: Path, beta: float, implied: object, se: object, scatter: object) -> Report:
    """Two models under `shared`: one as given, and one that is as it claims."""
    return _lint(
        tmp_path,
        model=["mine", "other"],
        beta=[beta, 1],
        elbo=[-20, -30],
        sigma=["shared"] * 2,
        implied_beta=[implied, 1.01],
        implied_beta_se=[se, 0.02],
        implied_scatter=[scatter, 0.0],
    )


def test_weights_that_say_another_beta_refute_the_claim(tmp_path: Path) -> None:
    report = _implied(tmp_path, 4, 1.04, 0.02, 0.01)
    (finding,) = report.findings
    assert (finding.rule, finding.claims, finding.hinders) == ("other-weight", 1, True)
    assert finding.message == "mine: claims beta = 4, but its weights imply 1.04 +- 0.02"
    (group,) = report.groups.values()
    assert list(group["model"]) == ["other"]
    without_error = _implied(tmp_path, 4, 1.04, None, 0.01)
    assert without_error.findings[0].message.endswith("imply 1.04")


@pytest.mark.parametrize(
    ("beta", "implied", "se"),
    [(4, 4.39, 0.01), (4, 3.61, 0.01), (4, 4.39, None), (4, 5.9, 0.65), (4, None, None)],
)
def test_an_implied_beta_within_its_errors_is_no_finding(
    tmp_path: Path, beta: float, implied: object, se: object
) -> None:
    assert _implied(tmp_path, beta, implied, se, 0.02).findings == ()
    assert _implied(tmp_path, beta, implied, se, None).findings == ()


def test_latents_that_disagree_refute_nothing(tmp_path: Path) -> None:
    report = _implied(tmp_path, 4, 1.04, 0.02, 0.2)
    (finding,) = report.findings
    assert (finding.rule, finding.hinders) == ("not-converged", False)
    (group,) = report.groups.values()
    assert len(group) == 2
    # That they disagree is worth knowing even if their mean is the beta of the claim.
    assert _rules(_implied(tmp_path, 4, 4.0, 0.02, 0.2)) == {"not-converged"}


def test_one_latent_alone_is_only_a_hint(tmp_path: Path) -> None:
    (finding,) = _implied(tmp_path, 4, 1.04, 0.02, None).findings
    assert (finding.rule, finding.hinders) == ("other-weight", False)
    assert "its weights imply 1.04 +- 0.02" in finding.message
    assert "only a hint" in finding.message


def test_many_refuted_models_are_counted_once_each(tmp_path: Path) -> None:
    report = _lint(
        tmp_path,
        model=[f"m{i // 2}" for i in range(10)],
        beta=[4] * 10,
        elbo=[-1] * 10,
        sigma=["shared", "half"] * 5,
        implied_beta=[1] * 10,
        implied_beta_se=[0.1] * 10,
        implied_scatter=[0] * 10,
    )
    (finding,) = (f for f in report.findings if f.rule == "other-weight")
    assert finding.claims == 10
    assert finding.message.count("claims beta") == 3
    assert finding.message.endswith("; and 2 more")


def test_a_model_without_a_name_is_named_by_its_run(tmp_path: Path) -> None:
    path = _csv(
        tmp_path, model=["mine", "", None, " "], run_id=["r1", "r2", "r3", "r4"], elbo=[1] * 4
    )
    assert list(read_claims(path)[0]["model"]) == ["mine", "r2", "r3", "r4"]
    unnamed = _csv(tmp_path, model=["mine", None], elbo=[1, 2])
    assert list(read_claims(unnamed)[0]["model"]) == ["mine", "not stated"]
    frame = pd.DataFrame({"model": ["", ""], "run_id": ["r1", "r2"], "elbo": [1.0, 2.0]})
    frame.to_parquet(tmp_path / "x.parquet")
    assert list(read_claims(tmp_path / "x.parquet")[0]["model"]) == ["r1", "r2"]


def test_the_optimal_variance_is_no_density(tmp_path: Path) -> None:
    report = _lint(
        tmp_path, model=list("ab"), elbo=[900, 300], sigma=["optimal", "shared"], beta=[1, 1]
    )
    assert _rules(report) == {"not-a-density"}
    assert [list(group["model"]) for group in report.groups.values()] == [["b"]]


def test_a_weighted_loss_is_caught(tmp_path: Path) -> None:
    rate, distortion = [10, 10, 10], [20, 20, 20]
    claims = {"model": list("abc"), "beta": [4, 4, 1], "rate": rate, "distortion": distortion}
    report = _lint(tmp_path, **claims, elbo=[-60, -30, -30], sigma=["half"] * 3)
    assert _rules(report) == {"weighted-loss"}
    assert report.findings[0].claims == 1
    (group,) = report.groups.values()
    assert list(group["model"]) == ["b", "c"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("dataset", ["mnist", "celeba"]),
        ("split", ["train", "test"]),
        ("dims", [64, 784]),
        ("bound", ["elbo", "iwae"]),
        ("likelihood", ["continuous", "discretized"]),
    ],
)
def test_claims_on_different_things_never_compare(
    tmp_path: Path, name: str, values: list[object]
) -> None:
    report = _lint(tmp_path, model=["a", "b"], elbo=[1, 2], sigma=["half"] * 2, **{name: values})
    assert _rules(report) == {f"different-{name}"}
    assert len(report.groups) == 2


def test_the_same_weights_under_two_interpretations_give_the_size(tmp_path: Path) -> None:
    report = _lint(
        tmp_path, model=list("aabb"), elbo=[1, 8, 2, 5], sigma=["half", "shared"] * 2, beta=[1] * 4
    )
    (finding,) = report.findings
    assert finding.rule == "different-interpretations"
    assert "differ by 5 nats in the median, 7 at most" in finding.message


def test_own_variances_are_different_interpretations(tmp_path: Path) -> None:
    own = {"model": list("abc"), "elbo": [-114, -73, -323], "sigma": ["own"] * 3}
    report = _lint(tmp_path, **own, sigma2=[5, 0.5, 0.05], beta=[0.01, 0.1, 1])
    assert _rules(report) == {"different-interpretations"}
    assert all(len(group) == 1 for group in report.groups.values())


def test_student_ts_of_different_nu_do_not_compare(tmp_path: Path) -> None:
    own = {"model": list("abc"), "elbo": [-14, -13, -23], "sigma": ["own"] * 3}
    report = _lint(tmp_path, **own, sigma2=[0.02] * 3, nu=[3, 3000, None])
    assert _rules(report) == {"different-interpretations"}
    assert all(len(group) == 1 for group in report.groups.values())
    unnamed = {"model": list("ab"), "elbo": [-14, -13], "sigma2": [0.05, 0.05], "nu": [30, None]}
    claims, _ = read_claims(_csv(tmp_path, **unnamed))
    assert list(claims["interpretation"]) == ["student t 0.05, nu 30", "constant:0.05"]


def test_only_interpretations_of_the_same_weights_are_called_that(tmp_path: Path) -> None:
    claims = {"model": ["a", "a", "b"], "beta": [0.1, 1, 1], "elbo": [-90, -50, -60]}
    report = _lint(tmp_path, **claims, sigma=["shared", "shared", "half"])
    (finding,) = report.findings
    assert finding.rule == "different-interpretations"
    assert "same weights" not in finding.message


def test_a_variance_fitted_on_its_own_images_is_named(tmp_path: Path) -> None:
    claims = {"model": list("ab"), "elbo": [1, 2], "split": ["train"] * 2}
    assert _rules(_lint(tmp_path, **claims, sigma=["shared"] * 2)) == {"fitted-on-itself"}
    assert _rules(_lint(tmp_path, **claims, sigma=["half"] * 2)) == set()


def test_a_numeric_sigma_is_a_standard_deviation(tmp_path: Path) -> None:
    claims, _ = read_claims(_csv(tmp_path, model=list("ab"), elbo=[-90, -80], sigma=[0.1, 0.2]))
    assert list(claims["interpretation"]) == ["constant:0.01", "constant:0.04"]


def test_words_in_a_column_of_variances_are_interpretations(tmp_path: Path) -> None:
    claims, _ = read_claims(
        _csv(
            tmp_path,
            model=list("abc"),
            elbo=[1, 2, 3],
            Variance=["optimal variance", "shared", 0.5],
        )
    )
    assert list(claims["interpretation"]) == ["optimal", "shared", "half"]
    assert list(claims["density"]) == [False, True, True]


def test_the_mass_of_pixels_needs_no_variance(tmp_path: Path) -> None:
    bits = {"model": ["Glow", "NVAE"], "bpd": [3.35, 2.91], "dataset": ["CIFAR-10", "cifar-10"]}
    assert _rules(_lint(tmp_path, **bits)) == {"no-variance"}
    report = _lint(tmp_path, **bits, likelihood=["discretized"] * 2)
    assert report.findings == ()
    assert len(report.groups) == 1


def test_numbers_are_read_as_people_type_them(tmp_path: Path) -> None:
    claims, _ = read_claims(
        _csv(tmp_path, model=list("ab"), elbo=["-1,250", "3"], sigma=["0.7071"] * 2)
    )
    assert list(claims["value"]) == [-1250.0, 3.0]
    assert set(claims["interpretation"]) == {"half"}


def test_text_says_what_is_a_density(tmp_path: Path) -> None:
    columns = {"model": list("ab"), "elbo": [1, 2], "sigma": ["optimal", "half"]}
    claims, _ = read_claims(_csv(tmp_path, **columns, is_density=["no", "yes"]))
    assert list(claims["density"]) == [False, True]
    lying, _ = read_claims(_csv(tmp_path, **columns, is_density=["yes", "yes"]))
    assert list(lying["density"]) == [False, True]
    with pytest.raises(BadData, match="is_density"):
        read_claims(_csv(tmp_path, **columns, is_density=["perhaps", "yes"]))


@pytest.mark.parametrize("name", ["nll", "bpd", "elbo"])
def test_text_where_a_number_belongs_is_no_claim(tmp_path: Path, name: str) -> None:
    path = _csv(tmp_path, model=list("ab"), variance=[1, 1], **{name: ["3.1*", 2]})
    claims, notes = read_claims(path)
    assert list(claims["model"]) == ["b"]
    assert "left out 1 rows" in notes[0]


def test_bits_and_negative_likelihoods_are_claims_too(tmp_path: Path) -> None:
    bits = read_claims(_csv(tmp_path, model=["a"], bpd=[3.5]))[0]
    assert (bits["value"][0], bits["unit"][0]) == (-3.5, "bits per dimension")
    nll = read_claims(_csv(tmp_path, model=["a"], nll=[90]))[0]
    assert (nll["value"][0], nll["unit"][0]) == (-90, "nats")


def _csv(tmp_path: Path, **columns: list[object]) -> Path:
    path = tmp_path / "x.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_rows_without_a_claim_are_counted(tmp_path: Path) -> None:
    path = _csv(tmp_path, model=list("abc"), elbo=[1, None, 2], status=["ok", "ok", "diverged"])
    claims, notes = read_claims(path)
    assert list(claims["model"]) == ["a"]
    assert "left out 2 rows" in notes[0]


@pytest.mark.parametrize(
    "columns",
    [
        {"model": ["a"]},
        {"elbo": [1]},
        {"model": ["a"], "elbo": [None]},
        {"model": [], "elbo": [], "sigma2": []},
    ],
)
def test_no_claims_is_an_error(tmp_path: Path, columns: dict[str, list[object]]) -> None:
    with pytest.raises(BadData, match=r"x\.csv"):
        read_claims(_csv(tmp_path, **columns))


def test_what_is_no_table_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("x")
    (tmp_path / "t.parquet").write_text("x")
    for name in ("t.txt", "t.parquet", "missing.csv"):
        with pytest.raises(BadData, match=name):
            read_claims(tmp_path / name)


def test_a_table_is_read_whatever_else_it_has(tmp_path: Path) -> None:
    frame = pd.DataFrame({"model": ["a", "b"], "elbo": [1.0, 2.0], "sigma": ["half", "shared"]})
    frame["model"] = frame["model"].astype("category")
    frame["when"] = pd.Timestamp("2024-01-01", tz="UTC")
    frame.to_parquet(tmp_path / "t.parquet")
    claims, notes = read_claims(tmp_path / "t.parquet")
    assert (list(claims["model"]), list(claims["value"]), notes) == (["a", "b"], [1.0, 2.0], [])


def test_a_table_that_unpacks_to_gigabytes_or_never_ends_is_refused(tmp_path: Path) -> None:
    zeros = pa.array(np.zeros(2**23))
    table = pa.table({"elbo": zeros, **{f"x{i}": zeros for i in range(16)}})
    pq.write_table(table, tmp_path / "t.parquet", compression="zstd", use_dictionary=False)
    assert (tmp_path / "t.parquet").stat().st_size < 2**20
    with pytest.raises(BadData, match="it claims 8,388,608 rows"):
        read_claims(tmp_path / "t.parquet")
    for name in ("fifo.csv", "fifo.parquet"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(BadData, match="not a regular file"):
            read_claims(tmp_path / name)


def test_models_on_both_splits_compare_within_each(tmp_path: Path) -> None:
    """Splits hinder the comparison only if one model has train and another has test."""
    claims = {"elbo": [1, 2, 3, 4], "variance": [0.1] * 4, "split": ["train", "test"] * 2}
    both = _lint(tmp_path, model=list("aabb"), **claims)
    assert _rules(both) == {"different-split"}
    assert not both.findings[0].hinders
    assert sorted(len(group) for group in both.groups.values()) == [2, 2]
    separate = _lint(tmp_path, model=list("abab"), **claims)
    assert separate.findings[0].hinders
