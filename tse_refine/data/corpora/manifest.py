"""Any recordings, listed in a table."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tse_refine.data.corpora.base import SPLITS, Clip, FileCorpus
from tse_refine.errors import InputError
from tse_refine.files.atomic import expand_home
from tse_refine.files.tables import read_columns

_COLUMNS = ("path", "label", "role", "split", "source")
_ROLES = ("foreground", "background", "interferer")
_REMEDY = f"Manifest table: give a CSV file with the columns {','.join(_COLUMNS)}."


class Manifest(FileCorpus):
    """The recordings of one role from a CSV table ``path,label,role,split,source``.

    One table serves all roles: give it to ``data.foregrounds``, to ``data.backgrounds`` and, where it lists any, to
    ``data.interferers``. Its columns:

    - ``path``: the recording, relative to the folder of the table, or absolute;
    - ``label``: its class, or the category of another sound, without ``|``, ``;`` and ``,``;
    - ``role``: ``foreground``, ``background`` or ``interferer``;
    - ``split``: ``train``, ``val`` or ``test``;
    - ``source``: name of the recording that a clip was cut from, whose clips must be in one split; empty where a clip
      is a recording of its own. Recordings from Freesound are ``freesound:<number>``.

    Args:
        table: path of the table, UTF-8.
        role: role whose rows are used; the others are ignored.
    """

    def __init__(self, table: str, role: Literal["foreground", "background", "interferer"]) -> None:
        self.table = expand_home(table)
        self.role = role
        super().__init__(str(self.table.parent))

    def clips(self) -> list[Clip]:
        """Return the recordings of the role in the table's order.

        Raises:
            InputError: the table is missing or incomplete, has a value that is not allowed, the same recording twice
                or no row of the role.
        """
        texts = dict.fromkeys(_COLUMNS, str)
        table = read_columns(self.table, texts, {}, _REMEDY, filled=_COLUMNS[:-1], final_newline=False)
        self._check(table, "role", _ROLES)
        of_role = table["role"] == self.role
        if not of_role.any():
            raise InputError(f"{self.table}: no row has the role {self.role}. Add the {self.role}s to the table.")
        table = {column: table[column][of_role] for column in _COLUMNS}
        self._check(table, "split", SPLITS)
        several = {label for label in set(table["label"]) if set("|;,").intersection(label)}
        files = self.file_recordings(table["path"])
        label_of: dict[str, str] = {}
        for path, label, file in zip(table["path"], table["label"], files, strict=True):
            if label in several:
                raise InputError(
                    f"{self.table}: {path} has the label {label!r}, which looks like several labels. A recording has "
                    "one, without '|', ';' and ','; rename it or leave the recording out."
                )
            if file in label_of:
                raise InputError(
                    f"{self.table}: {path} has two {self.role} rows, labelled {label_of[file]!r} and {label!r}. A "
                    "recording has one row and one label; remove a row, or the recording if it contains both sounds."
                )
            label_of[file] = label
        rows = zip(*(table[column] for column in ("path", "label", "split", "source")), files, strict=True)
        return [Clip(path, label, split, source or file) for path, label, split, source, file in rows]

    def _check(self, table: dict[str, np.ndarray], column: str, allowed: tuple[str, ...]) -> None:
        for value in sorted(set(table[column]).difference(allowed)):
            path = table["path"][table[column] == value][0]
            raise InputError(
                f"{self.table}: {path} has the {column} {value!r}; {', '.join(allowed[:-1])} or {allowed[-1]} is "
                "expected."
            )
