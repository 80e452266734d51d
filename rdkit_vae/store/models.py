"""Folders of models from elsewhere: laid out like a sweep, without checkpoints."""

from pathlib import Path
from typing import TYPE_CHECKING

from rdkit_vae.config.foreign import ForeignModel, described
from rdkit_vae.errors import BadInput
from rdkit_vae.store.paths import Sweep, code_version, utc_now
from rdkit_vae.store.results import write_results
from rdkit_vae.store.schema import SCHEMA
from rdkit_vae.system.files import read_json, write_json
from rdkit_vae.system.locks import locked

if TYPE_CHECKING:
    from rdkit_vae.store.evaluations import Evaluation, Row

MODELS = "models"  # the entry of sweep.json that only such folders have


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

    subject = evaluation.trial
    assert isinstance(subject, ForeignModel)  # trials have folders of their own
    sweep, rows = Sweep(folder), evaluation.rows()
    check_room(folder, subject)  # before a lock file is made there
    with locked(folder):
        check_room(folder, subject)
        write_evaluation(sweep.statistics(subject.run_id, evaluation.epoch), evaluation)
        write_results(sweep.results(subject.run_id), rows, described(subject))
        models = (models_in(folder) or {}) | {subject.run_id: subject.name}
        about = {"schema": SCHEMA, "code_version": code_version(), "created_at": utc_now()}
        write_json(sweep.description, about | {MODELS: models, "run_ids": list(models)})
    return rows


def check_room(folder: Path, model: ForeignModel) -> None:
    """Checks that a model can be added to a folder, which need not exist.

    Raises:
        BadInput: the folder holds a sweep, or another model of that name.
        BadData: its `sweep.json` cannot be read.
    """
    models = models_in(folder)
    if models is None:
        raise BadInput(f"{folder} holds a sweep; use a separate --out for models from elsewhere")
    for run_id, name in models.items():
        if name == model.name and run_id != model.run_id:
            raise BadInput(
                f"{folder} already holds another model named {name} ({run_id}): use another name, "
                "or remove the folder"
            )


def models_below(path: Path) -> list[Path]:
    """The stored statistics of the models in a folder of models from elsewhere; else the path.

    Raises:
        BadData: the folder's `sweep.json` cannot be read.
    """
    sweep = Sweep(path)
    if not sweep.description.is_file() or models_in(path) is None:
        return [path]
    return [
        file
        for run_id in sweep.run_ids()
        for file in sorted(sweep.statistics(run_id, 0).parent.glob("epoch=*.parquet"))
    ]


def models_in(folder: Path) -> dict[str, str] | None:
    """The names of the models from elsewhere in a folder, by run; None if it holds a sweep.

    A folder without `sweep.json` holds neither, and has room for models.

    Raises:
        BadData: its `sweep.json` cannot be read.
    """
    description = Sweep(folder).description
    if not description.exists():
        return {}
    models = read_json(description).get(MODELS)
    if not isinstance(models, dict):
        return None
    return {run_id: str(name) for run_id, name in models.items()}
