"""The tables that corpora come with: CSV files with a header."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from pathlib import Path

from tse_refine.errors import InputError, MissingFileError


def read_table(
    path: Path,
    columns: Sequence[str],
    remedy: str,
    key: str | None = None,
    delimiter: str = ",",
    may_be_empty: Collection[str] = (),
) -> list[dict[str, str]]:
    """Read a table with a header line and refuse one that is not whole.

    Args:
        path: the table, UTF-8 with or without a byte order mark.
        columns: columns that must be there, with a value in every row; there may be others.
        remedy: sentence that says what to do about a table that is missing or of another kind.
        key: one of the columns, if no two rows may have the same value in it.
        delimiter: what separates the columns.
        may_be_empty: those of the columns whose values may be empty.

    Returns:
        One dictionary a row, in the table's order.

    Raises:
        MissingFileError: there is no such file.
        InputError: the table cannot be read, lacks a column, has a row that is too short or too long or without a
            value, or two rows with the same key.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter=delimiter)
            found = reader.fieldnames or ()
            numbered = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise MissingFileError(f"{path}: there is no such file. {remedy}", path) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). {remedy}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is not a table in UTF-8 ({error}). Save it as UTF-8 text. {remedy}") from None
    missing = [column for column in columns if column not in found]
    if missing:
        raise InputError(
            f"{path}: the columns {', '.join(missing)} are missing; found {', '.join(found) or 'an empty file'}. "
            f"{remedy}"
        )
    line_of: dict[str, int] = {}
    for line, row in numbered:
        _check_row(f"{path}, line {line}", row, [column for column in columns if column not in may_be_empty])
        if key and line_of.setdefault(row[key], line) != line:
            raise InputError(
                f"{path}, line {line}: {key} {row[key]!r} is in line {line_of[row[key]]} too. Each may be there once: "
                "remove one of the lines."
            )
    return [row for _, row in numbered]


def _check_row(where: str, row: dict[str | None, str | None], filled: Sequence[str]) -> None:
    if None in row:  # where DictReader puts what it has no column for
        raise InputError(f"{where}: has more values than the header has columns. Quote a value that holds a separator.")
    broken = [column for column, value in row.items() if value is None]
    if broken:
        raise InputError(f"{where}: {broken[0]} is missing; the line breaks off early. Complete or remove it.")
    empty = [column for column in filled if not row[column]]
    if empty:
        raise InputError(f"{where}: {empty[0]} is empty. Give a value or remove the line.")
