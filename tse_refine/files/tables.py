"""Tables: printed as text, Markdown, LaTeX and HTML; written to CSV and read back strictly."""

from __future__ import annotations

import csv
import html
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tse_refine.errors import InputError, MissingFileError
from tse_refine.files.atomic import replacing

_LATEX_ESCAPES = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "%_&#${}"},
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "–": "--",
        "−": "$-$",
        "δ": r"$\delta$",
        "λ": r"$\lambda$",
    }
)

# What spreadsheets take for a formula, also after spaces and in fonts of full width; with any apostrophes before it, so
# that text which begins with one is read back as it was
_FORMULA = re.compile(r"'*(?:\s*[=+\-@＝＋－＠]|[\t\r\n])")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?(?:e[+-]?\d+)?|inf)", re.ASCII | re.IGNORECASE)
_DTYPES = {int: np.int64, float: np.float64, str: object}
_ROWS_AT_ONCE = 2_000  # of a long table: few enough for the caches of a processor


@dataclass(frozen=True)
class Table:
    """A table of text cells, printed in several formats.

    Attributes:
        head: names of the columns.
        rows: cells, one per column.
        note: explanation below the table.
        num_left: number of columns, from the first, that are flush left; the others are flush right.
        rules: numbers of the rows that have a rule above them, from 0 (Markdown has no rules).
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    num_left: int = 1
    rules: Collection[int] = ()

    def text(self) -> str:
        """Return the table in aligned columns.

        >>> print(Table(("class", "n"), [("dog", "10"), ("all", "10")], rules=(1,)).text())
        class   n
        dog    10
        ---------
        all    10
        """
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if column < self.num_left else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in (self.head, *self.rows)
        ]
        note = ["", self.note] if self.note else []
        return "\n".join([lines[0], *_with_rules(lines[1:], "-" * len(lines[0]), self.rules), *note])

    def markdown(self) -> str:
        r"""Return the table in Markdown.

        >>> print(Table(("class", "n"), [("dog|cat", "10")], "n: mixtures").markdown(), end="")
        | class | n |
        | --- | ---: |
        | dog\|cat | 10 |
        <BLANKLINE>
        n: mixtures
        """
        head, *rows = ([cell.replace("|", r"\|") for cell in row] for row in (self.head, *self.rows))
        alignment = ["---" if column < self.num_left else "---:" for column in range(len(head))]
        lines = ["| " + " | ".join(row) + " |" for row in (head, alignment, *rows)]
        return "\n".join([*lines, *(["", self.note] if self.note else [])]) + "\n"

    def latex(self) -> str:
        r"""Return the table as a LaTeX ``tabular`` (``\usepackage{booktabs}``), with intervals set small.

        >>> print(Table(("δ", "SNRi"), [("0.1", "9.8 [9.1, 10.4]")]).latex(), end="")
        \begin{tabular}{lr}
        \toprule
        $\delta$ & SNRi \\
        \midrule
        0.1 & 9.8 {\scriptsize[9.1, 10.4]} \\
        \bottomrule
        \end{tabular}
        """
        head, *rows = (" & ".join(map(_latex, row)) + r" \\" for row in (self.head, *self.rows))
        columns = "l" * self.num_left + "r" * (len(self.head) - self.num_left)
        body = _with_rules(rows, r"\midrule", {0, *self.rules})
        lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, *body, r"\bottomrule", r"\end{tabular}"]
        return "\n".join([*lines, *([f"% {self.note}"] if self.note else [])]) + "\n"

    def html(self) -> str:
        """Return the table in HTML; columns that are flush left have the class ``left``, the note ``note``.

        >>> print(Table(("class", "n"), [("R&B", "10")], "n: mixtures").html())
        <table><thead><tr><th class="left">class</th><th>n</th></tr></thead>
        <tbody><tr><td class="left">R&amp;B</td><td>10</td></tr></tbody></table>
        <p class="note">n: mixtures</p>
        """
        head = self._html_row("th", self.head)
        rows = [self._html_row("td", row) for row in self.rows]
        body = "\n".join(_with_rules(rows, "</tbody><tbody>", {*self.rules} - {0}))
        note = f'\n<p class="note">{html.escape(self.note)}</p>' if self.note else ""
        return f"<table><thead>{head}</thead>\n<tbody>{body}</tbody></table>{note}"

    def _html_row(self, tag: str, row: Sequence[str]) -> str:
        kinds = [' class="left"' if column < self.num_left else "" for column in range(len(row))]
        cells = [f"<{tag}{kind}>{html.escape(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True)]
        return f"<tr>{''.join(cells)}</tr>"


def _with_rules(lines: Sequence[str], rule: str, numbers: Collection[int]) -> Iterator[str]:
    for number, line in enumerate(lines):
        if number in numbers:
            yield rule
        yield line


def _latex(cell: str) -> str:
    return re.sub(r"^(\S+) (\[.+\])$", r"\1 {\\scriptsize\2}", cell.translate(_LATEX_ESCAPES))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], delimiter: str = ",") -> None:
    """Write a CSV file whole or not at all; floats have five decimals, NaN is an empty cell.

    Text that spreadsheets would compute, such as a class named ``=1+1``, gets an apostrophe before it, with which they
    show it; :func:`read_csv` and :func:`read_columns` return it without.
    """
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(map(_cell, columns))
        writer.writerows([_cell(row[column]) for column in columns] for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, Real) and not isinstance(value, Integral):  # also NumPy's
        return f"{value:.5f}" if value == value else ""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value) else value


def _text(cell: str) -> str:
    """Return the text of a cell, without the apostrophe that :func:`_cell` put before it."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def read_csv(
    path: Path,
    columns: Sequence[str],
    remedy: str = "Run the command that wrote it again.",
    *,
    delimiter: str = ",",
    filled: Sequence[str] = (),
    key: str | None = None,
    final_newline: bool = True,
) -> list[dict[str, str]]:
    """Read a CSV file with a header line and reject one that is not complete.

    Args:
        path: table in UTF-8, with or without a byte order mark.
        columns: columns that must be present; there may be others.
        remedy: sentence for messages, what to do about a table that is missing or cannot be used.
        delimiter: separator of the columns.
        filled: columns that must have a value in every row.
        key: column whose values must differ from row to row.
        final_newline: reject a last line without an end, whose last number may have been cut off while it was written;
            tables made by others may lack it.

    Returns:
        One dictionary per row, in the table's order.

    Raises:
        MissingFileError: the file does not exist.
        InputError: the file is not text, lacks a column, or has a row that is incomplete, too long, without a value or
            with the same key as another.
    """
    rows: list[dict[str, str]] = []
    line_of: dict[str, int] = {}
    lines = _complete_rows(path, columns, remedy, delimiter, filled, final_newline)
    _, head = next(lines)
    for line, cells in lines:
        row = dict(zip(head, map(_text, cells), strict=True))
        if key and line_of.setdefault(row[key], line) != line:
            raise InputError(
                f"{path}, line {line}: {key} {row[key]!r} is in line {line_of[row[key]]} too; remove one of the two "
                f"lines. {remedy}"
            )
        rows.append(row)
    return rows


def read_columns(
    path: Path,
    columns: Mapping[str, type],
    optional: Mapping[str, type],
    remedy: str = "Run the command that wrote it again.",
    *,
    filled: Sequence[str] = (),
    final_newline: bool = True,
) -> dict[str, np.ndarray]:
    """Read columns of a CSV file as arrays; for tables that are too long for a dictionary per row.

    Args:
        path: table in UTF-8.
        columns: columns that must be present, with the type of their cells: ``int``, ``str``, or ``float`` with NaN for
            an empty cell.
        optional: columns that are read where they are present, likewise.
        remedy: sentence for messages, what to do about a table that is missing or cannot be used.
        filled: columns that must have a value in every row.
        final_newline: see :func:`read_csv`.

    Returns:
        By column, ``[rows]``: int64, float64, or text as objects.

    Raises:
        MissingFileError: the file does not exist.
        InputError: the file is not text, lacks a column, or has a row that is incomplete, too long, without a value or
            with a cell of another type.
    """
    rows = _complete_rows(path, list(columns), remedy, filled=filled, final_newline=final_newline)
    _, head = next(rows)
    types = {name: kind for name, kind in {**optional, **columns}.items() if name in head}
    parts: dict[str, list[np.ndarray]] = {name: [np.empty(0, _DTYPES[kind])] for name, kind in types.items()}
    shared_texts = _Values(str)
    while chunk := [cells for _, cells in itertools.islice(rows, _ROWS_AT_ONCE)]:
        for name, cells in zip(head, zip(*chunk, strict=True), strict=True):
            if name not in types:
                continue
            values = shared_texts if types[name] is str else _Values(types[name])
            try:
                parts[name].append(np.fromiter(map(values.__getitem__, cells), _DTYPES[types[name]], len(cells)))
            except (ValueError, OverflowError) as error:
                raise InputError(f"{path}: {name}: {error}. {remedy}") from error
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


@contextmanager
def content_of(path: Path, remedy: str) -> Iterator[None]:
    """Raise each ValueError of the block as an InputError that names a file, whose content the block interprets.

    Args:
        path: file to name.
        remedy: sentence for the message, what to do about the file.
    """
    try:
        yield
    except ValueError as error:
        raise InputError(f"{path}: {str(error).rstrip('.')}. {remedy}") from error


class _Values(dict[str, Any]):
    """Converted cells, each distinct text once: results repeat the values of cells with the same refined query."""

    def __init__(self, kind: type) -> None:
        super().__init__({"": float("nan")} if kind is float else {})
        self.kind = kind

    def __missing__(self, cell: str) -> Any:
        """Convert a cell."""
        value = self[cell] = self.kind(_text(cell))
        return value


def _complete_rows(
    path: Path,
    columns: Sequence[str],
    remedy: str,
    delimiter: str = ",",
    filled: Sequence[str] = (),
    final_newline: bool = True,
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line of a CSV file, the header first; see :func:`read_csv`."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(_lines(file, final_newline), delimiter=delimiter, strict=True)
            head = [_text(cell) for cell in next(reader, [])]
            if reader.line_num > 1:
                raise csv.Error("its header has a line break; is a quotation mark missing?")
            if twice := [column for column in columns if head.count(column) > 1]:
                raise InputError(f"{path}: the column {twice[0]} is there twice; remove one. {remedy}")
            if missing := [column for column in columns if column not in head]:
                present = ", ".join(head) or "an empty file"
                raise InputError(f"{path}: the columns {', '.join(missing)} are missing; found {present}. {remedy}")
            yield reader.line_num, head
            line = reader.line_num
            for cells in filter(None, reader):
                if reader.line_num > line + 1 and any("\n" in cell or "\r" in cell for cell in cells):
                    raise csv.Error(f"line {line + 1}: a cell has a line break; is a quotation mark missing?")
                line = reader.line_num
                doubtful = len(cells) != len(head) or (filled and "" in cells)  # a quick look, at millions of rows
                if doubtful and (problem := _problem(head, cells, filled)):
                    raise InputError(f"{path}, line {reader.line_num}: {problem} {remedy}")
                yield reader.line_num, cells
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist. {remedy}", path) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). {remedy}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a table in UTF-8 ({error}); save it as UTF-8 text. {remedy}") from None
    except csv.Error as error:
        raise InputError(f"{path}: {error}. {remedy}") from None


def _lines(file: TextIO, final_newline: bool) -> Iterator[str]:
    line = "\n"
    for line in file:
        if "\0" in line:
            raise csv.Error("it contains a NUL byte, which is not text")
        yield line
    if final_newline and not line.endswith(("\n", "\r")):
        raise csv.Error("its last line does not end: the file was cut off")


def _problem(head: Sequence[str], cells: Sequence[str], filled: Sequence[str]) -> str:
    """Return what is wrong with a row; empty for a complete one."""
    if len(cells) > len(head):
        return f"has {len(cells)} cells, the header {len(head)}; quote a cell that contains the separator."
    if len(cells) < len(head):
        return f"{head[len(cells)]} is missing; the line breaks off early. Complete or remove it."
    for column, cell in zip(head, cells, strict=True):
        if not cell and column in filled:
            return f"{column} is empty; give a value or remove the line."
    return ""
