"""rdvae: rate-distortion of Gaussian VAEs, each checkpoint scored under every decoder variance.

The packages, each of which uses only those before it:

    system                          atomic files, locks, processes, devices
    datasets, models, objectives    one file a dataset or network; the training losses
    config                          the configuration of a training, and grids of them
    scoring                         interpretations of the variance, scores, bounds: pure NumPy
    training                        from a configuration and images to weights
    store                           every file that is written or read, and what runs/ holds
    adapters                        models from elsewhere: one file a kind of them
    evaluation                      the passes over images that measure a model
    generation                      how good its samples are; priors fitted to its posteriors
    sweeps                          many trainings into one folder; verification and repair
    cli                             one file a command

Names load when they are used, so importing the package imports neither NumPy nor torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdkit_vae.adapters import load_model as load_model
    from rdkit_vae.config.grid import make_trial as make_trial
    from rdkit_vae.config.trial import Trial as Trial
    from rdkit_vae.datasets import load_dataset as load_dataset
    from rdkit_vae.datasets.images import Images as Images
    from rdkit_vae.errors import RdvaeError as RdvaeError
    from rdkit_vae.evaluation.checkpoints import rescore as rescore
    from rdkit_vae.evaluation.evaluate import evaluate as evaluate
    from rdkit_vae.evaluation.foreign import add_model as add_model
    from rdkit_vae.evaluation.implied import implied_weight as implied_weight
    from rdkit_vae.generation.checkpoints import score_generation as score_generation
    from rdkit_vae.generation.checkpoints import score_priors as score_priors
    from rdkit_vae.models.adapted import adapt as adapt
    from rdkit_vae.objectives.conventions import decode_loss as decode_loss
    from rdkit_vae.scoring.scores import score as score
    from rdkit_vae.scoring.statistics import Statistics as Statistics
    from rdkit_vae.store.checkpoints import load_checkpoint as load_checkpoint
    from rdkit_vae.sweeps.run import sweep as sweep
    from rdkit_vae.training.steps import train as train
    from rdvae_analysis.generation import load_generation as load_generation
    from rdvae_analysis.generation import load_priors as load_priors
    from rdvae_analysis.load import load_results as load_results

__version__ = "0.1.0"

_HOMES = {
    "Images": "rdkit_vae.datasets.images",
    "RdvaeError": "rdkit_vae.errors",
    "Statistics": "rdkit_vae.scoring.statistics",
    "Trial": "rdkit_vae.config.trial",
    "adapt": "rdkit_vae.models.adapted",
    "add_model": "rdkit_vae.evaluation.foreign",
    "decode_loss": "rdkit_vae.objectives.conventions",
    "evaluate": "rdkit_vae.evaluation.evaluate",
    "implied_weight": "rdkit_vae.evaluation.implied",
    "load_checkpoint": "rdkit_vae.store.checkpoints",
    "load_dataset": "rdkit_vae.datasets",
    "load_generation": "rdvae_analysis.generation",
    "load_model": "rdkit_vae.adapters",
    "load_priors": "rdvae_analysis.generation",
    "load_results": "rdvae_analysis.load",
    "make_trial": "rdkit_vae.config.grid",
    "rescore": "rdkit_vae.evaluation.checkpoints",
    "score": "rdkit_vae.scoring.scores",
    "score_generation": "rdkit_vae.generation.checkpoints",
    "score_priors": "rdkit_vae.generation.checkpoints",
    "sweep": "rdkit_vae.sweeps.run",
    "train": "rdkit_vae.training.steps",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rdkit_vae' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
