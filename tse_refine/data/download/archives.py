"""The published files of a corpus, with their checksums."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Attributes:
        url: address; its last path segment, without a query, is the name of the file on disk.
        md5: published checksum of the content.
    """

    url: str
    md5: str

    @property
    def name(self) -> str:
        """Name of the file on disk.

        >>> RemoteFile("https://host/records/1/files/a.zip?download=1", "0" * 32).name
        'a.zip'
        """
        return self.url.split("?")[0].rsplit("/", 1)[1]


@dataclass(frozen=True)
class Archive:
    """One zip archive.

    Attributes:
        files: the archive, or its volumes in order: ``.z01``, ``.z02``, ..., and the ``.zip`` last.
        fills: beginnings of the paths, below the corpus's root, that it unpacks to; by default any path. Several
            archives may fill one folder.
    """

    files: tuple[RemoteFile, ...]
    fills: tuple[str, ...] = ("",)

    @property
    def name(self) -> str:
        """Name of the archive: that of its last volume."""
        return self.files[-1].name

    @property
    def checksums(self) -> str:
        """One line per file: its checksum and name."""
        return "".join(f"{file.md5}  {file.name}\n" for file in self.files)
