"""The page: collects the contents from a folder of sweeps and fills the template."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import vl_convert
from markupsafe import Markup

from rdkit_vae.errors import BadData
from rdkit_vae.store.paths import find_sweeps
from rdkit_vae.store.schema import Status
from rdkit_vae.text import counted
from rdvae_analysis import paper
from rdvae_analysis.load import scan
from rdvae_analysis.names import ELSEWHERE, dataset_name, model_name, models_in_order
from rdvae_analysis.paper_table import about_paper, quantities, table1
from rdvae_analysis.pictures import alike, load_pictures
from rdvae_analysis.points import comparable, final_rows
from rdvae_analysis.report import measured
from rdvae_analysis.report.charts import specification
from rdvae_analysis.report.provenance import made, provenance
from rdvae_analysis.report.strips import Strips, strips
from rdvae_analysis.report.words import answers, others_drawn, remarks, trained

_PICTURES = 1_400_000  # bytes for all pictures, so that the page stays below 3 MB
_FACTS = ("beta", "rate", "mse", "psnr", "mutual_information", "active_units")


def report(folder: Path, *, split: str = "test") -> tuple[str, list[str]]:
    """One HTML page about the sweeps below a folder, which needs no network.

    Args:
        folder: of sweeps.
        split: the split that is drawn and compared, `test` or `train`.

    Returns:
        The page, and notes on what was left out, which the page contains too.

    Raises:
        BadData: no finished run below the folder.
    """
    frame, notes = scan(folder)
    rows, left_out = final_rows(frame)
    rows, not_comparable = comparable(rows)
    notes += left_out + not_comparable
    if rows[rows["split"] == split].empty:
        reasons = "; ".join(["no finished run on the split", *notes])
        raise BadData(f"{folder}: nothing to report ({split}): {reasons}")
    pictures, unread = _pictures_of(folder, rows)
    noted = {note.partition(": ")[0] for note in notes}
    notes += [note for note in unread if note.partition(": ")[0] not in noted]
    generation, priors, not_read = measured.read(folder)
    notes += not_read
    sections = []
    rows = rows[rows["setup"].isin(rows.loc[rows["split"] == split, "setup"])]
    setups = list(rows.groupby(["dataset", "setup"], sort=False))
    ids = _row_ids(setups)
    elsewhere = rows[(rows["setup"] == ELSEWHERE) & (rows["split"] == split)]
    for place, ((dataset, setup), part) in enumerate(setups):
        shown = pictures[pictures["run_id"].isin(part["run_id"])] if len(pictures) else pictures
        budget, name = _PICTURES // len(setups), f"s{place}"
        others = elsewhere[(elsewhere["dataset"] == dataset) & (setup != ELSEWHERE)]
        drawn = pd.concat([part[part["split"] == split], others])
        section = _section(part, split, shown, budget, name, ids, notes)
        section["remarks"] += others_drawn(drawn)
        section["measured"], left_out = measured.tables(part, generation, priors)
        notes += [note for note in left_out if note not in notes]
        sections.append(section | {"chart": specification(drawn, ids)})
    failed = frame[frame["status"] != Status.OK].drop_duplicates("run_id")
    page = _template().render(
        title=", ".join(dict.fromkeys(dataset_name(name) for name in rows["dataset"])),
        split=split,
        sections=sections,
        failed=failed[["run_id", "status", "epoch", "epochs"]].to_dict("records"),
        notes=notes,
        sweeps=[provenance(root) for root in find_sweeps(folder)] if folder.is_dir() else [],
        made=made(rows),
        script=_script(sections),
    )
    return page, notes


def _pictures_of(folder: Path, rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The pictures of the checkpoints that the results come from."""
    pictures, notes = load_pictures(folder)
    if pictures.empty:
        return pictures, notes
    scored = rows.drop_duplicates("run_id").set_index("run_id")["checkpoint_sha256"]
    here = pictures[
        pictures["run_id"].isin(scored.index) & (pictures["epoch"] == pictures["epochs"])
    ]
    stale = here["checkpoint_sha256"].to_numpy() != scored[here["run_id"]].to_numpy()
    if stale.any():
        count = counted(int(stale.sum()), "model")
        notes.append(
            f"left out pictures of {count}: they show other checkpoints; run rdvae sample again"
        )
    return here[~stale], notes


def _section(
    rows: pd.DataFrame,
    split: str,
    pictures: pd.DataFrame,
    budget: int,
    name: str,
    ids: Mapping[str, str],
    notes: list[str],
) -> dict[str, Any]:
    """The values of the template for one setup but its chart; appends to `notes`."""
    here = rows[rows["split"] == split]
    first = here.iloc[0]
    kept = pictures
    if len(pictures):
        kept, left_out = alike(pictures, every_seed=True)
        notes += left_out
    packed = strips(kept, budget)
    sigmas = list(dict.fromkeys(here["sigma"]))
    return {
        "name": name,
        "title": f"{dataset_name(first['dataset'])}, {_network(first)}",
        "elsewhere": first["setup"] == ELSEWHERE,
        "trained": trained(here),
        "answers": answers(here),
        "remarks": remarks(rows, split),
        "table": _table1(rows),
        "sigmas": sigmas,
        "models": _models(here, ids, packed),
        "pictures": packed,
        "shown": None if kept.empty else kept.iloc[0][["split", "picture_seed"]].to_dict(),
    }


def _row_ids(setups: Sequence[tuple[Any, pd.DataFrame]]) -> dict[str, str]:
    """By run, the id of its row in the table of its section, in which runs count from 0."""
    return {
        run: f"s{place}-{number}"
        for place, (_, part) in enumerate(setups)
        for number, run in enumerate(dict.fromkeys(part["run_id"]))
    }


def _network(first: "pd.Series[Any]") -> str:
    if first["setup"] == ELSEWHERE:
        return "models from elsewhere"
    return f"{first['architecture']}, {first['latents']} latents, {first['epochs']} epochs"


def _models(rows: pd.DataFrame, ids: Mapping[str, str], packed: Strips) -> list[dict[str, Any]]:
    """A row per model: its settings, its ELBO by interpretation, its pictures."""
    elbos = rows.pivot(index="run_id", columns="sigma", values="elbo")
    firsts = rows.drop_duplicates("run_id")
    names = list(map(model_name, firsts["objective"], firsts["train_sigma2"]))
    rank = models_in_order(firsts["objective"], firsts["train_sigma2"]).index
    firsts = firsts.assign(model=names, rank=list(map(rank, names)))
    return [
        {
            "id": ids[row["run_id"]],
            "elbo": elbos.loc[row["run_id"]].dropna().to_dict(),
            "strips": packed.by_run.get(row["run_id"], {}),
            **{name: None if pd.isna(row[name]) else row[name] for name in _FACTS},
            **{name: row[name] for name in ("model", "run_id", "seed", "epoch")},
            "sha256": row["checkpoint_sha256"],
        }
        for row in firsts.sort_values(["rank", "beta", "seed"]).to_dict("records")
    ]


def _table1(rows: pd.DataFrame) -> dict[str, Any] | None:
    if paper.SIGMA not in set(rows["sigma"]):
        return None
    table, _ = table1(rows, sigma=paper.SIGMA)
    names = quantities(table)
    return {
        "quantities": list(names),
        "paper": [name for name in names if f"{name}_paper" in table],
        "minus_loss": [name for name in names if f"{name}_minus_loss" in table],
        "about_paper": about_paper(table),
        "rows": table.to_dict("records"),
    }


def _script(sections: list[dict[str, Any]]) -> Markup:
    """The scripts of the page: the libraries, the specifications of the charts, its own code."""
    charts = {section["name"]: section["chart"] for section in sections}
    own = resources.files("rdvae_analysis.report").joinpath("page.js").read_text("utf-8")
    encoded = json.dumps(charts).replace("<", "\\u003c")  # so that no name ends the script
    libraries = vl_convert.javascript_bundle(None)  # type: ignore[arg-type]
    return Markup("\n".join([libraries, f"const CHARTS = {encoded};", own]))


def _number(value: float | None, digits: int = 1) -> str:
    if value is None or pd.isna(value):
        return ""
    return f"{round(value, digits) + 0.0:,.{digits}f}"  # + 0.0: no minus before a zero


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rdvae_analysis.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    return environment.get_template("page.html")
