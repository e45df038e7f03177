"""Any recordings, listed in a table."""

from __future__ import annotations

from typing import Literal

from tse_refine.data.corpora.base import SPLITS, Clip, FileCorpus
from tse_refine.errors import InputError
from tse_refine.files.atomic import expand_home
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
        self.table = expand_home(table)
        self.role = role
        super().__init__(str(self.table.parent))

    def clips(self) -> list[Clip]:
        """Return the recordings of the role in the table's order.

        Raises:
            InputError: the table is missing or incomplete, has a value that is not allowed, the same recording twice
                or no row of the role.
        """
        rows = read_csv(self.table, _COLUMNS, _REMEDY, filled=_COLUMNS[:-1], final_newline=False)
        for row in rows:
            self._check(row, "role", _ROLES)
        rows = [row for row in rows if row["role"] == self.role]
        if not rows:
            raise InputError(f"{self.table}: no row has the role {self.role}. Add the {self.role}s to the table.")
        label_of: dict[str, str] = {}
        for row in rows:
            self._check(row, "split", SPLITS)
            if set("|;,").intersection(row["label"]):
                raise InputError(
                    f"{self.table}: {row['path']} has the label {row['label']!r}, which looks like several labels. A "
                    "recording has one, without '|', ';' and ','; rename it or leave the recording out."
                )
            path = self.file_recording(row["path"])
            if path in label_of:
                raise InputError(
                    f"{self.table}: {row['path']} has two {self.role} rows, labelled {label_of[path]!r} and "
                    f"{row['label']!r}. A recording has one row and one label; remove a row, or the recording if it "
                    "contains both sounds."
                )
            label_of[path] = row["label"]
        return [
            Clip(row["path"], row["label"], row["split"], row["source"] or self.file_recording(row["path"]))
            for row in rows
        ]

    def _check(self, row: dict[str, str], column: str, allowed: tuple[str, ...]) -> None:
        if row[column] not in allowed:
            raise InputError(
                f"{self.table}: {row['path']} has the {column} {row[column]!r}; {', '.join(allowed[:-1])} or "
                f"{allowed[-1]} is expected."
            )
