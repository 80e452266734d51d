"""Folders of models from elsewhere: laid out like a sweep, without checkpoints."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdkit_vae.config.foreign import described
from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.store.paths import Sweep, code_version, find_sweeps, utc_now
from rdkit_vae.store.results import write_results
from rdkit_vae.store.schema import SCHEMA
from rdkit_vae.system.files import read_json, write_json
from rdkit_vae.system.locks import locked

if TYPE_CHECKING:
    from rdkit_vae.store.evaluations import Evaluation, Row

_MODELS = "models"  # the entry of sweep.json that only such folders have


def write_model(folder: Path, evaluation: "Evaluation") -> "list[Row]":
    """Adds an evaluated model to a folder, which is made if it is not there.

    Writing the same evaluation again changes nothing but the files' dates.

    Returns:
        Its rows of results.

    Raises:
        BadInput: the folder holds a sweep, or another model of this name.
        BadData: it cannot be read or written.
    """
    from rdkit_vae.store.evaluations import write_evaluation  # which needs NumPy

    sweep, rows = Sweep(folder), evaluation.rows()
    subject = evaluation.trial
    models_in(sweep, subject.run_id, _name(evaluation))  # before a lock file is made there
    with locked(folder):
        models = models_in(sweep, subject.run_id, _name(evaluation))
        write_evaluation(sweep.statistics(subject.run_id, evaluation.epoch), evaluation)
        write_results(sweep.results(subject.run_id), rows, described(subject))
        models[subject.run_id] = _name(evaluation)
        about = {"schema": SCHEMA, "code_version": code_version(), "created_at": utc_now()}
        write_json(sweep.description, about | {_MODELS: models, "run_ids": list(models)})
    return rows


def models_below(path: Path) -> list[Path]:
    """The stored statistics of the models in a folder of models from elsewhere; else the path.

    Raises:
        BadData: the folder's `sweep.json` cannot be read.
    """
    sweep = Sweep(path)
    if not sweep.description.is_file() or _MODELS not in read_json(sweep.description):
        return [path]
    return [
        file
        for run_id in sweep.run_ids()
        for file in sorted(sweep.statistics(run_id, 0).parent.glob("epoch=*.parquet"))
    ]


def folders_of_models(path: Path) -> list[Path]:
    """The folders of models from elsewhere at or below a path; unreadable ones are not listed.

    Raises:
        BadData: the path does not exist.
    """
    return [root for root in find_sweeps(path) if holds_models(root)]


def holds_models(root: Path) -> bool:
    """Whether a sweep folder holds models from elsewhere, as far as it can be read."""
    try:
        return isinstance(read_json(Sweep(root).description).get(_MODELS), dict)
    except BadData:
        return False


def _name(evaluation: "Evaluation") -> str:
    return str(getattr(evaluation.trial, "name", evaluation.trial.run_id))


def models_in(sweep: Sweep, run_id: str = "", name: str = "") -> dict[str, Any]:
    """The names of the models in a folder, by run.

    Args:
        sweep: the folder.
        run_id, name: of a model to add.

    Raises:
        BadInput: the folder holds a sweep, or another model of that name.
        BadData: its `sweep.json` cannot be read.
    """
    if not sweep.description.exists():
        return {}
    models = read_json(sweep.description).get(_MODELS)
    if not isinstance(models, dict):
        raise BadInput(
            f"{sweep.root} holds a sweep; use a separate --out for models from elsewhere"
        )
    same = [other for other, taken in models.items() if taken == name and other != run_id]
    if same:
        raise BadInput(
            f"{sweep.root} already holds another model named {name} ({same[0]}): use another name, "
            "or remove the folder"
        )
    return models
