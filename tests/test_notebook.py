"""The quickstart notebook runs, and prints what is stored in it."""

import re
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "analysis" / "notebooks" / "quickstart.ipynb"


def _told(notebook: Any) -> list[str]:
    """What each cell prints and shows as text; a picture counts as being there."""
    return ["".join(map(_text, c.outputs)) for c in notebook.cells if c.cell_type == "code"]


def _text(output: Any) -> str:
    data = output.get("data", {})  # what is printed may come in any number of parts
    return output.get("text") or ("picture" if "image/png" in data else data["text/plain"])  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("default")  # Jupyter's own, of its sockets and its event loop
def test_the_quickstart_runs_and_prints_what_it_shows() -> None:
    stored = nbformat.read(NOTEBOOK, as_version=4)
    fresh = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(ROOT)}}
    nbclient.NotebookClient(fresh, timeout=120, resources=resources).execute()
    assert _told(fresh) == _told(stored)
    assert sum(told == "picture" for told in _told(stored)) == 3


def test_the_quickstart_is_small_and_names_no_machine() -> None:
    text = NOTEBOOK.read_text("utf-8")
    assert len(text) < 400_000
    assert not re.search(r"/(home|Users|tmp|root|work)/", text)
