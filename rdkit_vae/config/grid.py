"""Makes trials and grids of trials, with defaults for each dataset."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from decimal import Decimal
from typing import Any

from rdkit_vae.config.parsing import parse_checkpoints
from rdkit_vae.config.trial import DEFAULT_SIGMA2, PROTOCOLS, Option, Trial, check
from rdkit_vae.datasets import source_of
from rdkit_vae.errors import BadInput
from rdkit_vae.models import check_options, import_architecture
from rdkit_vae.objectives.losses import import_objective, objective_name, objective_of
from rdkit_vae.text import one_of

MOST_TRIALS = 100_000
PAPER_EPOCHS, PAPER_BATCH = 50, 512


def make_trial(dataset: str = "digits", *, checkpoints: str = "log", **settings: Any) -> Trial:
    """Makes a trial; settings that are not given get the default of the dataset and protocol.

    Args:
        dataset: a name that `rdvae datasets` lists.
        checkpoints: `log`, `last`, or a number k as text for every k epochs.
        **settings: any other attribute of `Trial`; None stands for the default.

    Raises:
        BadInput: as `Trial`.
    """
    source = source_of(dataset)
    given = {key: value for key, value in settings.items() if value is not None}
    protocol = PROTOCOLS[one_of(given.get("protocol", "clean"), PROTOCOLS, "protocol")]
    as_paper = protocol is PROTOCOLS["paper"]
    objective = objective_name(given.setdefault("objective", "optimal"))
    import_objective(objective)
    import_architecture(given.setdefault("architecture", "conv"))
    check_options(given["architecture"], dict(given.get("options", {})))
    defaults: dict[str, Any] = {
        "latents": source.latents,
        "beta": 1.0,
        "epochs": PAPER_EPOCHS if as_paper else source.epochs,
        "batch_size": PAPER_BATCH if as_paper else source.batch_size,
        "draws": protocol.draws,
        "train_images": protocol.train_images,
        "train_sigma2": DEFAULT_SIGMA2 if objective_of(objective).has_sigma2 else None,
    }
    chosen = defaults | given
    unknown = chosen.keys() - {field.name for field in fields(Trial)}
    if unknown:
        raise BadInput(f"unknown setting {', '.join(sorted(unknown))}")
    epochs = chosen["epochs"]
    check("epochs", epochs, isinstance(epochs, int) and epochs >= 1, "a whole number, at least 1")
    return Trial(dataset=dataset, checkpoints=parse_checkpoints(checkpoints, epochs), **chosen)


def grid(
    *,
    betas: Sequence[float],
    objectives: Sequence[str],
    seeds: Sequence[int],
    train_sigma2: float | None = None,
    options: Mapping[str, Sequence[Option]] | None = None,
    **settings: Any,
) -> list[Trial]:
    """Makes every combination of beta, objective and seed; all of one seed come before the next.

    Args:
        betas, objectives, seeds: the axes.
        train_sigma2: constant variance, for the objectives that take one.
        options: options of the network, each with the values to try in every combination.
        **settings: as for `make_trial`.

    Raises:
        BadInput: as for `make_trial`; too many trials; or no objective takes `train_sigma2`.
    """
    names, values = [*(options or {})], [*(options or {}).values()]
    _check_count(math.prod(map(len, [betas, objectives, seeds, *values])))
    for objective in objectives:
        import_objective(objective)
    takes = [name for name in objectives if objective_of(name).has_sigma2]
    if train_sigma2 is not None and not takes:
        raise BadInput(
            f"train_sigma2 is not used by {', '.join(objectives)}; only objectives with a constant "
            "variance take it"
        )
    return [
        make_trial(
            objective=objective,
            beta=beta,
            seed=seed,
            train_sigma2=train_sigma2 if objective in takes else None,
            options=dict(zip(names, chosen, strict=True)),
            **settings,
        )
        for seed in seeds
        for chosen in itertools.product(*values)
        for beta in betas
        for objective in objectives
    ]


def pairs(
    *,
    betas: Sequence[float],
    seeds: Sequence[int],
    train_sigma2: float | None = None,
    options: Mapping[str, Sequence[Option]] | None = None,
    **settings: Any,
) -> list[Trial]:
    """Makes trials with equal beta x C: (beta, C), (beta/10, 10 C) and (10 beta, C/10).

    The three use the objective `constant` and reach the same weights (Beta-Sigma VAE, Eq. 5 and
    Fig. 2A), but claim different likelihoods.

    Args:
        betas, seeds: the axes.
        train_sigma2: C.
        options: options of the network, one value each.
        **settings: as for `make_trial`, without an objective.

    Raises:
        BadInput: as for `make_trial`; or too many trials.
    """
    _check_count(3 * len(betas) * len(seeds))
    swept = [name for name, values in (options or {}).items() if len(values) > 1]
    if swept:
        raise BadInput(f"--pairs takes a single value of option {swept[0]}")
    c = DEFAULT_SIGMA2 if train_sigma2 is None else train_sigma2
    return [
        make_trial(
            objective="constant",
            beta=_shifted(beta, decades),
            train_sigma2=_shifted(c, -decades),
            seed=seed,
            options={name: value for name, (value,) in (options or {}).items()},
            **settings,
        )
        for seed in seeds
        for beta in betas
        for decades in (0, -1, 1)
    ]


def _shifted(value: float, decades: int) -> float:
    # In decimals, so that 0.1 x 0.1 is exactly the 0.01 that a user would type.
    return float(Decimal(repr(value)).scaleb(decades))


def _check_count(count: int) -> None:
    if count > MOST_TRIALS:
        raise BadInput(f"a sweep can have at most {MOST_TRIALS:,} trials, not {count:,}")
