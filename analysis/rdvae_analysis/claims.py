"""Reported likelihoods: which of them can be compared, which cannot, and why."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rdkit_vae.scoring.interpretations import INTERPRETATIONS
from rdkit_vae.text import few
from rdvae_analysis.claim_table import SUBJECT, UNSTATED, chosen_claims, read_claims
from rdvae_analysis.implied import Verdict, verdict

_NAMED = 3  # models whose betas are shown
_FITTED_ON_TRAIN = [name for name, entry in INTERPRETATIONS.items() if entry.fit]

__all__ = ["Finding", "Report", "chosen_claims", "lint", "read_claims"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Why claims do not compare, or what to know about those that do.

    Attributes:
        rule: its name.
        claims: how many claims it is about.
        message: in words.
        hinders: True: the claims do not compare. False: they do, with this in mind.
    """

    rule: str
    claims: int
    message: str
    hinders: bool = True


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of `lint`.

    Attributes:
        groups: claims that compare with each other, by what they have in common.
        findings: why the other claims, or these groups with one another, do not compare.
    """

    groups: Mapping[str, pd.DataFrame]
    findings: tuple[Finding, ...]


def lint(claims: pd.DataFrame) -> Report:
    """Sorts claims into groups that compare, and says why others do not.

    Args:
        claims: as `read_claims` returns them.
    """
    weighted, verdicts = _weighted(claims), _verdicts(claims)
    refuted = (verdicts == Verdict.OTHER_BETA) & claims["implied_scatter"].notna()
    is_sound = claims["density"] & ~weighted & ~refuted
    sound = claims[is_sound & (claims["interpretation"] != UNSTATED)]
    varying = [name for name in SUBJECT if claims[name].nunique() > 1]
    groups = {
        ", ".join([*(f"{n} {v}" for n, v in zip(varying, key[:-1], strict=True)), str(key[-1])]): g
        for key, g in sound.groupby([*varying, "interpretation"], sort=False)
    }
    stated = claims["interpretation"] != UNSTATED
    findings = (
        *_different_subjects(claims),
        *_no_bounds(claims, weighted, stated),
        *_implied_weights(claims, verdicts, refuted),
        *_densities(claims[claims["density"] & stated]),
    )
    return Report(groups=groups, findings=findings)


def _weighted(claims: pd.DataFrame) -> "pd.Series[bool]":
    """Claims that are the beta-weighted loss with its sign changed, and not the ELBO."""
    elbo = -(claims["distortion"] + claims["rate"])
    loss = -(claims["distortion"] + claims["beta"] * claims["rate"])
    close = pd.Series(np.isclose(claims["value"], loss, rtol=1e-4), index=claims.index)
    return close & ~np.isclose(elbo, loss, rtol=1e-3)


def _verdicts(claims: pd.DataFrame) -> "pd.Series[str]":
    """What the weights say about the beta of each claim, where it was read back from them."""
    measured = claims[claims["implied_beta"].notna() | claims["implied_scatter"].notna()]
    columns = ("beta", "implied_beta", "implied_beta_se", "implied_scatter")
    verdicts = [
        verdict(beta=beta, implied=implied, error=error, scatter=scatter)
        for beta, implied, error, scatter in zip(*(measured[c] for c in columns), strict=True)
    ]
    return pd.Series(verdicts, measured.index, dtype=object).reindex(claims.index)


def _about(
    rule: str, claims: pd.DataFrame, text: str, *, hinders: bool = True
) -> Iterator[Finding]:
    """A finding on some claims that names their models; nothing if there are no claims."""
    if len(claims):
        message = f"{few(claims['model'].unique(), 1)}: {text}"
        yield Finding(rule=rule, claims=len(claims), message=message, hinders=hinders)


def _different_subjects(claims: pd.DataFrame) -> Iterator[Finding]:
    """Claims on different data, or in different units."""
    for name in SUBJECT:
        values = claims[name].unique()
        if len(values) < 2:
            continue
        # Models with claims on both train and test can be compared on each of them.
        on_each = name == "split" and (claims.groupby("model")[name].nunique() == len(values)).all()
        how = "compare within each" if on_each else "never compare"
        message = f"claims are of different {name} ({few(values)}): {how}"
        rule = f"different-{name}"
        yield Finding(rule=rule, claims=len(claims), message=message, hinders=not on_each)


def _no_bounds(
    claims: pd.DataFrame, weighted: "pd.Series[bool]", stated: "pd.Series[bool]"
) -> Iterator[Finding]:
    """Claims that bound no likelihood, or do not say enough to tell."""
    yield from _about(
        "weighted-loss",
        claims[weighted],
        "the claim is -(distortion + beta rate), the training loss; an ELBO never weights the rate",
    )
    yield from _about(
        "no-variance",
        claims[~stated],
        "states neither a decoder variance nor a likelihood of pixels (likelihood: discretized), "
        "so the claim could mean anything",
    )
    no_density = claims[~claims["density"] & stated]
    yield from _about(
        "not-a-density",
        no_density,
        f"the variance of the interpretation {few(no_density['interpretation'].unique())} depends "
        "on x: it is not a density, so the claim does not bound a likelihood, and "
        "cannot be compared with one of a density",
    )


def _implied_weights(
    claims: pd.DataFrame, verdicts: "pd.Series[str]", refuted: "pd.Series[bool]"
) -> Iterator[Finding]:
    """What the weight of the KL that was read back from the weights says about the claims."""
    scattered = verdicts == Verdict.LATENTS_DISAGREE
    unconfirmed = (verdicts == Verdict.OTHER_BETA) & ~refuted
    note = "; whether several latents agree on that is not known, so this is only a hint"
    for chosen, hinders, end in ((refuted, True, ""), (unconfirmed, False, note)):
        if chosen.any():
            message = _betas(claims[chosen]) + end
            count = int(chosen.sum())
            yield Finding(rule="other-weight", claims=count, message=message, hinders=hinders)
    yield from _about(
        "not-converged",
        claims[scattered],
        "the latents agree on no single beta, so the training had not converged, or a different "
        "loss was used",
        hinders=False,
    )


def _betas(claims: pd.DataFrame) -> str:
    """The claimed beta of each model, and the one that its weights imply."""
    models = claims.drop_duplicates(["model", "beta", "implied_beta"])
    texts = [
        f"{model}: claims beta = {beta:g}, but its weights imply {implied:.3g}"
        + ("" if np.isnan(error) else f" +- {error:.1g}")
        for model, beta, implied, error in zip(
            models["model"],
            models["beta"],
            models["implied_beta"],
            models["implied_beta_se"],
            strict=True,
        )
    ]
    more = f"; and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return "; ".join(texts[:_NAMED]) + more


def _densities(claims: pd.DataFrame) -> Iterator[Finding]:
    """Findings on claims of densities, by their interpretation."""
    sigma = claims["interpretation"]
    following = claims[(sigma == "beta-half") & claims["beta"].notna()]
    if following["beta"].nunique() > 1:
        text = "the variance is beta C, so a ranking by beta also ranks variances"
        yield from _about("variance-follows-beta", following, text, hinders=False)
    on_train = sigma.isin(_FITTED_ON_TRAIN) & (claims["split"] == "train")
    text = "the variance was fitted on the images it scores"
    optimistic = claims[on_train | (sigma == "shared-oracle")]
    yield from _about("fitted-on-itself", optimistic, text, hinders=False)
    if sigma.nunique() > 1:
        yield Finding(
            rule="different-interpretations",
            claims=len(claims),
            message=f"densities with different variances ({few(sigma.unique(), 6)}) compare only "
            "as whole models: part of any difference is due to the interpretation"
            + _difference_within_models(claims),
        )


def _difference_within_models(claims: pd.DataFrame) -> str:
    """By how much interpretations of the same weights differ, if any weights have several."""
    weights = claims.groupby(["model", "beta", "seed", "epoch", *SUBJECT], dropna=False)
    spread = weights["value"].max() - weights["value"].min()
    spread = spread[weights["interpretation"].nunique() > 1]
    if spread.empty:
        return ""
    return (
        f"; the same weights differ by {spread.median():.4g} {claims['unit'].iloc[0]} in the "
        f"median, {spread.max():.4g} at most"
    )
