"""Files of generation and of priors: rows about one checkpoint. Never imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdkit_vae.errors import BadData
from rdkit_vae.store.results import encoded_rows, schema_of, with_plain_names
from rdkit_vae.store.schema import (
    GENERATION,
    GENERATION_KEY,
    PRIOR_RATES,
    PRIOR_RATES_KEY,
    Column,
)
from rdkit_vae.store.tables import read_table
from rdkit_vae.system.files import write_atomic

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of these files.

    Attributes:
        folder: of a sweep, where they are.
        magic: the kind that their metadata names.
        columns: of their rows.
        key: the columns that tell the rows of a file apart.
    """

    folder: str
    magic: bytes
    columns: Mapping[str, Column]
    key: tuple[str, ...]

    def key_of(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """What tells a row from others of its file."""
        return tuple(row[name] for name in self.key)


GENERATION_FILES = Kind(
    folder="generation", magic=b"rdvae-generation", columns=GENERATION, key=GENERATION_KEY
)
PRIOR_FILES = Kind(folder="priors", magic=b"rdvae-priors", columns=PRIOR_RATES, key=PRIOR_RATES_KEY)
KINDS = (GENERATION_FILES, PRIOR_FILES)


def features_in_words(row: Mapping[str, Any]) -> str:
    """`classifier 3f2a9c1b`: what a distance is never written without."""
    return f"{row['features']} {str(row['features_sha256'])[:8]}".rstrip()


def read_rows(path: Path, kind: Kind) -> Any:
    """Reads the rows of a file as an Arrow table with exactly the columns of its kind.

    Raises:
        BadData: the file is missing, damaged, not from rdvae, of another kind or of a newer schema.
    """
    table = read_table(path, kind.magic)
    expected = schema_of(kind.columns)
    missing = [name for name in kind.columns if name not in table.column_names]
    if missing:
        raise BadData(f"{path}: damaged (no column {', '.join(missing)})")
    table = table.select(list(kind.columns))
    other = [f.name for f, w in zip(table.schema, expected, strict=True) if f.type != w.type]
    if other:
        raise BadData(f"{path}: damaged (wrong type of column {', '.join(other)})")
    return with_plain_names(table, path)


def stored_rows(path: Path, kind: Kind, checkpoint_sha256: str) -> list[Row]:
    """The rows that a file holds about exactly this checkpoint; none if there is no such file.

    Raises:
        BadData: the file is damaged.
    """
    if not path.exists():
        return []
    rows: list[Row] = read_rows(path, kind).to_pylist()
    return [row for row in rows if row["checkpoint_sha256"] == checkpoint_sha256]


def add_rows(path: Path, kind: Kind, rows: Sequence[Row]) -> None:
    """Adds rows about one checkpoint to its file, which is made if it is not there.

    They replace rows with the same key, and all rows about another version of the checkpoint.

    Raises:
        BadData: the file is damaged, or cannot be written.
    """
    keys = {kind.key_of(row) for row in rows}
    before = stored_rows(path, kind, rows[0]["checkpoint_sha256"])
    kept = [row for row in before if kind.key_of(row) not in keys]
    # Units and meanings are not stored: they would be most of so small a file.
    encoded = encoded_rows([*kept, *rows], kind.columns, kind.magic, {}, store_schema=False)
    write_atomic(path, encoded)


def rows_frame(rows: Sequence[Row], kind: Kind) -> Any:
    """The rows as a DataFrame, with all columns and their types."""
    import pyarrow as pa

    arrays = [pa.array([row.get(f.name) for row in rows], f.type) for f in schema_of(kind.columns)]
    return pa.Table.from_arrays(arrays, schema=schema_of(kind.columns)).to_pandas()
