"""The commands and versions that a page and its sweeps were made with."""

import shlex
from importlib import metadata
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from rdkit_vae.errors import BadData
from rdkit_vae.store.paths import code_version
from rdkit_vae.store.results import read_results
from rdkit_vae.store.tables import about_of
from rdkit_vae.system.files import read_json


def provenance(root: Path) -> dict[str, Any]:
    """The command and the versions that a sweep was made with, as recorded in its folder."""
    try:
        about = read_json(root / "sweep.json")
        command, data = about.get("command") or [], about.get("data") or {}
        models = about.get("models") or {}  # from elsewhere: names by run
        if not (isinstance(command, list) and isinstance(data, dict) and isinstance(models, dict)):
            raise BadData(f"{root / 'sweep.json'}: damaged")
    except BadData as error:
        return {"folder": str(root), "error": str(error)}
    environment: dict[str, Any] = {}
    for path in sorted((root / "results").glob("*.parquet"))[:1]:
        try:
            about_results = about_of(read_results(path))
            merged = about_results.get("runs", {})  # the same for all runs of a sweep
            environment = next(iter(merged.values()), about_results).get("environment", {})
        except BadData:
            continue
    return {
        "folder": str(root),
        "command": shlex.join(["rdvae", *map(str, command)]) if command else "",
        "models": [str(name) for name in models.values()],
        "data": data,
        "code_version": about.get("code_version", "unknown"),
        "created_at": about.get("created_at", "unknown"),
        "environment": environment,
    }


def made(rows: pd.DataFrame) -> dict[str, Any]:
    """The versions that made the results, and those that made the page."""
    return {
        "rdvae": code_version(),
        "altair": alt.__version__,
        "vl_convert": metadata.version("vl-convert-python"),
        "codes": sorted(rows["code_version"].dropna().unique()),
        "first": rows["created_at"].min(),
        "last": rows["created_at"].max(),
    }
