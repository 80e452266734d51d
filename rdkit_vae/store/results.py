"""Files of results and bounds, written atomically and checked when read. Never imports torch."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rdkit_vae.config.trial import Trial
from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.store.schema import BOUNDS, COLUMNS, Column
from rdkit_vae.store.tables import about_of, encoded, file_metadata, read_table
from rdkit_vae.system.files import Write, write_atomic
from rdkit_vae.text import is_plain_name, shown

RESULTS_KIND, BOUNDS_KIND = b"rdvae-results", b"rdvae-bounds"
_FEW_ROWS = 200


def write_results(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    *,
    write: Write = write_atomic,
) -> None:
    """Writes the results of one trial, with `about` (JSON) as metadata."""
    write(path, encoded_rows(rows, COLUMNS, RESULTS_KIND, about))


def encode_table(table: Any, about: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a results file with the rows of a table that `read_results` returned."""
    schema = schema_of(COLUMNS).with_metadata(file_metadata(RESULTS_KIND, about))
    return encoded(table.cast(schema))


def encode_results(frame: Any, about: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a results file with the rows of a DataFrame of all columns."""
    import pyarrow as pa

    schema = schema_of(COLUMNS).with_metadata(file_metadata(RESULTS_KIND, about))
    return encoded(pa.Table.from_pandas(frame, schema, preserve_index=False).cast(schema))


def write_bounds(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    *,
    write: Write = write_atomic,
) -> None:
    """Writes bounds, with the columns `BOUNDS`."""
    write(path, encoded_rows(rows, BOUNDS, BOUNDS_KIND, about))


def results_frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Returns rows of results as a DataFrame, with all columns and their types."""
    return _table_of(rows, schema_of(COLUMNS)).to_pandas()


def encoded_rows(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Column],
    kind: bytes,
    about: Mapping[str, Any],
    **options: Any,
) -> bytes:
    """Returns the bytes of a small file of rows; options as for `tables.encoded`."""
    schema = schema_of(columns).with_metadata(file_metadata(kind, about))
    # Optimised for reading thousands of files with a few hundred rows each.
    texts = [name for name, column in columns.items() if column.type == "string"]
    return encoded(
        _table_of(rows, schema),
        compression="snappy",
        use_dictionary=texts,
        write_statistics=False,
        **options,
    )


def _table_of(rows: Sequence[Mapping[str, Any]], schema: Any) -> Any:
    import pyarrow as pa

    arrays = [pa.array([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def schema_of(columns: Mapping[str, Column]) -> Any:
    import pyarrow as pa

    return pa.schema(
        pa.field(name, column.type, metadata={"unit": column.unit, "meaning": column.meaning})
        for name, column in columns.items()
    )


@functools.cache
def _results_schema(columns: tuple[str, ...]) -> Any:
    return schema_of({name: COLUMNS[name] for name in columns})


def read_results(path: Path, columns: Sequence[str] = tuple(COLUMNS)) -> Any:
    """Reads a results file as an Arrow table; columns newer than the file are null.

    Args:
        path: the file.
        columns: columns to read; fewer are faster.

    Raises:
        BadData: the file is damaged, not from rdvae, or of a newer schema.
    """
    import pyarrow as pa

    expected = _results_schema(tuple(columns))
    table = read_table(path, RESULTS_KIND, columns)
    if table.schema.equals(expected):
        return with_plain_names(table, path)
    table = read_table(path, RESULTS_KIND)
    schema = int(table.schema.metadata[b"schema"])
    present = set(table.column_names)
    for name, column in COLUMNS.items():
        if column.since > schema and name not in present:
            values = pa.nulls(len(table), column.type)
            if name == "setup":  # needed for comparisons, and the trial in the metadata has it
                values = pa.array([_setup_of(table, path)] * len(table), column.type)
            table = table.append_column(name, values)
            present.add(name)
    missing = [name for name in COLUMNS if name not in present]
    if missing:
        raise BadData(f"{path}: damaged (no column {', '.join(missing)})")
    table = table.select(list(columns))
    # Page checksums do not cover the footer, where a flipped bit can change a type.
    other = [f.name for f, w in zip(table.schema, expected, strict=True) if f.type != w.type]
    if other:
        raise BadData(f"{path}: damaged (wrong type of column {', '.join(other)})")
    return with_plain_names(table, path)


def with_plain_names(table: Any, path: Path) -> Any:
    """Returns the table if all its run names are valid file names.

    Raises:
        BadData: a name is invalid, and could point outside the sweep.
    """
    if "run_id" in table.column_names:
        column = table["run_id"]
        few = len(column) < _FEW_ROWS  # then `unique` is slower than a Python set
        for run_id in {*(column if few else column.unique()).to_pylist()}:
            if not is_plain_name(run_id):
                raise BadData(f"{path}: damaged ({shown(str(run_id))} is not a valid run name)")
    return table


def _setup_of(table: Any, path: Path) -> str | None:
    """Returns the setup of the trial in the metadata of an old file; None if there is no trial."""
    trial = about_of(table).get("trial")
    try:
        return None if trial is None else Trial.from_dict(trial).setup
    except (BadInput, AttributeError) as error:
        raise BadData(f"{path}: damaged ({error})") from error
