"""Any recordings, listed in a table."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tse_refine.data.corpora.base import SPLITS, Clip, FileCorpus
from tse_refine.errors import InputError
from tse_refine.files.tables import read_csv

_COLUMNS = ("path", "label", "role", "split", "source")
_ROLES = ("foreground", "background")
_REMEDY = f"Manifest table: give a CSV file with the columns {','.join(_COLUMNS)}."


class Manifest(FileCorpus):
    """The recordings of one role from a CSV table ``path,label,role,split,source``.

    One table serves both roles: give it to ``data.foregrounds`` and to ``data.backgrounds``. Its columns:

    - ``path``: the recording, relative to the folder of the table, or absolute;
    - ``label``: its class, or the category of a background, without ``|``, ``;`` and ``,``;
    - ``role``: ``foreground`` or ``background``;
    - ``split``: ``train``, ``val`` or ``test``;
    - ``source``: name of the recording that a clip was cut from, whose clips must be in one split; empty where a clip
      is a recording of its own. Recordings from Freesound are ``freesound:<number>``.

    Args:
        table: path of the table, UTF-8.
        role: role whose rows are used; the others are ignored.
    """

    def __init__(self, table: str, role: Literal["foreground", "background"]) -> None:
        self.table = Path(table).expanduser()
        self.role = role
        super().__init__(str(self.table.parent))

    def clips(self) -> list[Clip]:
        """Return the recordings of the role in the table's order.

        Raises:
            InputError: the table is missing or incomplete, has a value that is not allowed, the same recording twice
                or no row of the role.
        """
        rows = read_csv(self.table, _COLUMNS, _REMEDY, filled=_COLUMNS[:-1], final_newline=False)
        self._check(rows, "role", _ROLES)
        rows = [row for row in rows if row["role"] == self.role]
        if not rows:
            raise InputError(f"{self.table}: no row has the role {self.role}. Add the {self.role}s to the table.")
        self._check(rows, "split", SPLITS)
        several = {label for label in {row["label"] for row in rows} if set("|;,").intersection(label)}
        files = self.file_recordings(row["path"] for row in rows)
        label_of: dict[str, str] = {}
        for row, file in zip(rows, files, strict=True):
            if row["label"] in several:
                raise InputError(
                    f"{self.table}: {row['path']} has the label {row['label']!r}, which looks like several labels. A "
                    "recording has one, without '|', ';' and ','; rename it or leave the recording out."
                )
            if file in label_of:
                raise InputError(
                    f"{self.table}: {row['path']} has two {self.role} rows, labelled {label_of[file]!r} and "
                    f"{row['label']!r}. A recording has one row and one label; remove a row, or the recording if it "
                    "contains both sounds."
                )
            label_of[file] = row["label"]
        return [
            Clip(row["path"], row["label"], row["split"], row["source"] or file)
            for row, file in zip(rows, files, strict=True)
        ]

    def _check(self, rows: list[dict[str, str]], column: str, allowed: tuple[str, ...]) -> None:
        for row in rows:
            if row[column] not in allowed:
                raise InputError(
                    f"{self.table}: {row['path']} has the {column} {row[column]!r}; {', '.join(allowed[:-1])} or "
                    f"{allowed[-1]} is expected."
                )
