"""The columns of all tables that rdvae writes, with units and meanings."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

SCHEMA = 5


class Status(StrEnum):
    """The status of a trial. Only the first three occur in rows."""

    OK = "ok"
    DIVERGED = "diverged"
    CRASHED = "crashed"
    STOPPED = "stopped"  # by an interrupt; running the sweep again continues it
    LEFT = "left"  # not ended yet
    DAMAGED = "damaged"  # its results cannot be read

    @property
    def failed(self) -> bool:
        """Whether the trial ended without its last checkpoint."""
        return self in (Status.DIVERGED, Status.CRASHED)


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table. Its unit and meaning are stored in the files too.

    Attributes:
        since: the first schema that has the column; it is null in older files.
    """

    type: str
    unit: str
    meaning: str
    since: int

    @property
    def is_number(self) -> bool:
        """Whether it holds numbers."""
        return self.type in ("double", "int64")


def _column(type_: str, meaning: str, unit: str = "", *, since: int = 1) -> Column:
    return Column(type=type_, unit=unit, meaning=meaning, since=since)


_NATS, _PIXEL2 = "nats / image", "squared pixel"
COLUMNS: Mapping[str, Column] = {
    "run_id": _column("string", "name of the trial; ends in a hash of its full configuration"),
    "curve": _column("string", "names all trials that are alike but for beta and seed"),
    "setup": _column(
        "string", "names all trials alike but for objective, beta, variance and seed", since=2
    ),
    "dataset": _column("string", "name of the dataset"),
    "model": _column("string", "name of a model from elsewhere; empty: trained by rdvae", since=4),
    "adapter": _column("string", "adapter that read a model from elsewhere", since=4),
    "architecture": _column("string", "name of the network"),
    "options": _column("string", "options of the network, as name=value", since=4),
    "latents": _column("int64", "dimensions of z"),
    "objective": _column("string", "training objective"),
    "beta": _column("double", "weight of the rate in training, null if unknown; never in elbo"),
    "train_sigma2": _column("double", "constant decoder variance of training, if any", _PIXEL2),
    "seed": _column("int64", "of weights, data order, noise and draws"),
    "protocol": _column("string", "how training and evaluation were run"),
    "epoch": _column("int64", "epochs done", "epochs"),
    "epochs": _column("int64", "epochs of the whole training; 0 if unknown", "epochs"),
    "step": _column("int64", "optimiser steps done", "steps"),
    "split": _column("string", "train or test"),
    "sigma": _column("string", "interpretation of the decoder variance in scoring"),
    "sigma2": _column(
        "double", "decoder variance (mean over images); scale of a Student t", _PIXEL2
    ),
    "nu": _column("double", "degrees of freedom of a Student t; null: it is not one", since=5),
    "sigma2_floor": _column(
        "double", "least value of a fitted variance; null: not fitted", _PIXEL2
    ),
    "s_min": _column("double", "least scale of a mixture; null: no mixture", "pixel", since=2),
    "s_max": _column("double", "largest scale of a mixture", "pixel", since=2),
    "floored": _column(
        "double", "share of (image, draw) pairs raised to that floor (student: of the train split)"
    ),
    "is_density": _column("bool", "p(x|z) is normalised: the ELBO bounds a log-likelihood"),
    "caveat": _column("string", "what to know before comparing; empty: nothing", since=2),
    "rate": _column("double", "E KL(q(z|x) || N(0, I)), closed form", _NATS),
    "distortion": _column("double", "E[sse/(2 sigma2) + (D/2) log(2 pi sigma2)]", _NATS),
    "elbo": _column("double", "-(rate + distortion)", _NATS),
    "rate_se": _column("double", "standard error of rate over images", _NATS),
    "distortion_se": _column("double", "standard error of distortion over images", _NATS),
    "elbo_se": _column("double", "standard error of elbo over images", _NATS),
    "mse": _column("double", "E[sse]/D", "squared pixel / value"),
    "psnr": _column("double", "-10 log10(mse)", "dB"),
    "bits_per_dim": _column("double", "-elbo / (D ln 2), density of x in [0, 1]^D", "bits / value"),
    "mutual_information": _column(
        "double", "I_q(x; z) of these images, at most log n_images", _NATS, since=2
    ),
    "mutual_information_se": _column("double", "its standard error over images", _NATS, since=2),
    "marginal_kl": _column(
        "double", "KL(q(z) || p(z)) = rate - mutual_information", _NATS, since=2
    ),
    "active_units": _column(
        "int64", "units whose posterior mean varies by more than 0.01 over images", since=2
    ),
    "implied_tau": _column(
        "double",
        "beta x sigma2 as read back from the weights; null: none, or not measured",
        _PIXEL2,
        since=4,
    ),
    "implied_beta": _column(
        "double", "beta as read back, with the variance of training; null: unknown", since=4
    ),
    "implied_beta_se": _column("double", "its standard error over images", since=4),
    "implied_scatter": _column(
        "double", "disagreement of the latents about it, beyond their errors, as a share", since=4
    ),
    "n_images": _column("int64", "images evaluated"),
    "n_draws": _column("int64", "posterior draws per image"),
    "dims": _column("int64", "D, values in an image"),
    "checkpoint_sha256": _column("string", "hash of the checkpoint file that was scored"),
    "status": _column("string", "ok, diverged or crashed; numbers are null unless ok"),
    "reason": _column("string", "why a trial failed; empty unless it did", since=3),
    "code_version": _column("string", "version of rdvae that made the row, and hash of its source"),
    "created_at": _column("string", "when the row was made, UTC, ISO 8601"),
}

# Columns whose numbers must be positive; rows that violate this are not used.
POSITIVE = frozenset(
    {
        *("latents", "beta", "train_sigma2", "sigma2", "nu", "sigma2_floor", "s_min", "s_max"),
        *("mse", "n_images", "n_draws", "dims"),
    }
)
NOT_NEGATIVE = frozenset(
    {
        *(
            "seed",
            "epoch",
            "epochs",
            "step",
            "floored",
            "rate",
            "rate_se",
            "distortion_se",
            "elbo_se",
        ),
        *("mutual_information_se", "active_units"),
    }
)
# Columns that an evaluation gives; null if the status is not ok.
MEASURED = frozenset(
    {
        *("sigma2", "nu", "sigma2_floor", "s_min", "s_max", "floored", "is_density", "caveat"),
        "rate",
        *("distortion", "elbo", "rate_se", "distortion_se", "elbo_se", "mse", "psnr"),
        *("bits_per_dim", "mutual_information", "mutual_information_se", "marginal_kl"),
        *("active_units", "implied_tau", "implied_beta", "implied_beta_se", "implied_scatter"),
        *("n_images", "n_draws", "dims", "checkpoint_sha256"),
    }
)
# Other columns that may be null, since not every model has a value.
NULLABLE = frozenset(
    {
        *("setup", "train_sigma2", "step", "sigma2", "nu", "sigma2_floor", "s_min", "s_max"),
        *("floored", "caveat", "rate_se", "distortion_se", "elbo_se", "mutual_information"),
        *("mutual_information_se", "marginal_kl", "active_units", "checkpoint_sha256", "reason"),
        *("code_version", "created_at", "model", "adapter", "options", "implied_tau"),
        *("implied_beta", "implied_beta_se", "implied_scatter"),
    }
)

_SHARED = (
    *("run_id", "curve", "setup", "dataset", "architecture", "latents", "objective", "beta"),
    *("train_sigma2", "seed", "protocol", "epoch", "epochs", "step", "split", "sigma", "sigma2"),
    *("nu", "s_min", "s_max", "is_density", "caveat", "n_images", "n_draws", "dims"),
    *("checkpoint_sha256", "code_version", "created_at"),
)

# Columns of files of bounds: a row per interpretation, likelihood and K.
BOUNDS: Mapping[str, Column] = {
    **{name: COLUMNS[name] for name in _SHARED},
    "likelihood": _column(
        "string",
        "continuous: density of x in [0, 1]^D; discretized: mass of the bins of the pixels; "
        "dequantized: density under uniform noise over the bins, per bin",
    ),
    "bound": _column("string", "elbo or iwae"),
    "k": _column("int64", "draws that IWAE takes; null: elbo"),
    "value": _column("double", "lower bound of E log p(x)", _NATS),
    "value_se": _column("double", "standard error of value over images", _NATS),
    "bits_per_dim": _column("double", "-value / (D ln 2)", "bits / value"),
    "levels": _column("int64", "grey levels of a pixel"),
}

# What tells models apart in the tables of generation and priors.
_MODEL = (
    *("run_id", "curve", "setup", "dataset", "model", "adapter", "architecture", "options"),
    *("latents", "objective", "beta", "train_sigma2", "seed", "protocol", "epoch", "epochs"),
    "step",
)
_PRIOR = _column("string", "prior: a rung of scoring.priors.PRIORS; empty: not of a prior")
_NOTE = _column("string", "what to know about this row; empty: nothing")

# Columns of files of generation: a row per source of pictures, prior, features and reference.
GENERATION: Mapping[str, Column] = {
    **{name: COLUMNS[name] for name in _MODEL},
    "source": _column(
        "string",
        "what is compared with the reference: prior (decoded samples of a prior), reconstruction "
        "(of the images of the reference), or images (of the other split: what a perfect model "
        "could reach)",
    ),
    "prior": _PRIOR,
    "features": _column("string", "what the distances are measured in"),
    "features_sha256": _column("string", "hash of the network that makes the features"),
    "feature_dims": _column("int64", "values of a feature vector"),
    "split": _column("string", "split of the reference: train or test"),
    "pixels": _column(
        "string",
        "clipped: to [0, 1]; stretched: then each picture to all of [0, 1], as the paper does",
    ),
    "sample_seed": _column("int64", "seed of the samples, and of fitting their prior"),
    "n_samples": _column("int64", "pictures that are compared"),
    "n_reference": _column("int64", "images of the reference"),
    "frechet": _column("double", "Frechet distance of the features", "squared feature"),
    "frechet_infinite": _column(
        "double", "the same, extrapolated to infinitely many samples", "squared feature"
    ),
    "kid": _column("double", "kernel distance, squared, unbiased: near 0 it can be negative"),
    "kid_se": _column("double", "standard error of kid over pictures (jackknife)"),
    "precision": _column("double", "share of samples near a reference image"),
    "recall": _column("double", "share of reference images near a sample"),
    "density": _column("double", "how many reference images a sample is near, relative to k"),
    "coverage": _column("double", "share of reference images with a sample nearby"),
    "psnr": _column("double", "-10 log10 of the mean squared error; reconstructions only", "dB"),
    "ssim": _column("double", "mean structural similarity; reconstructions only"),
    "note": _NOTE,
    **{name: COLUMNS[name] for name in ("checkpoint_sha256", "code_version", "created_at")},
}
GENERATION_KEY = (
    *("run_id", "epoch", "source", "prior", "features", "features_sha256", "split", "pixels"),
    *("sample_seed", "n_samples"),
)

# Columns of files of priors: a row per prior that was fitted to the posteriors of a model.
PRIOR_RATES: Mapping[str, Column] = {
    **{name: COLUMNS[name] for name in _MODEL},
    "prior": _PRIOR,
    "split": _column("string", "split of the posteriors that are scored; never fitted on"),
    "rate": _column("double", "cross-entropy rate E_q[log q(z|x) - log r(z)]", _NATS),
    "rate_se": _column("double", "standard error of rate over images", _NATS),
    "is_bound": _column("bool", "log r(z) is only bounded, so the rate is at most this"),
    "bits_per_dim": _column("double", "rate / (D ln 2)", "bits / value"),
    "bits_per_latent": _column("double", "rate / (L ln 2)", "bits / latent"),
    "rate_fitted": _column("double", "rate of the posteriors that the prior was fitted to", _NATS),
    "rate_held_out": _column(
        "double", "mean rate of the train posteriors left out in k-fold fits; null: no folds", _NATS
    ),
    "folds": _column("int64", "k of rate_held_out; 0: none"),
    "components": _column("int64", "components of a mixture; 1: not a mixture"),
    "fit_seed": _column("int64", "seed of the fit and of the draws"),
    "n_fitted": _column("int64", "train posteriors that the prior was fitted to"),
    **{name: COLUMNS[name] for name in ("n_images", "n_draws", "dims")},
    "note": _NOTE,
    **{name: COLUMNS[name] for name in ("checkpoint_sha256", "code_version", "created_at")},
}
PRIOR_RATES_KEY = ("run_id", "epoch", "prior", "split", "fit_seed", "folds")
