"""The published files of a corpus, with their checksums."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Attributes:
        url: address; its last path segment, without a query, is the name of the file on disk.
        md5: published checksum of the content; None where a server makes the file anew, as it does with archives of a
            repository, whose bytes may change while what is in them does not.
        size: published size, about, in bytes; for a server that does not send it.
    """

    url: str
    md5: str | None
    size: int | None = None

    @property
    def name(self) -> str:
        """Name of the file on disk.

        >>> RemoteFile("https://host/records/1/files/a.zip?download=1", "0" * 32).name
        'a.zip'
        """
        return self.url.split("?")[0].rsplit("/", 1)[1]


@dataclass(frozen=True)
class Contents:
    """What is published of an archive's contents, to verify one that has no checksum itself.

    Attributes:
        comment: comment of the zip file; in archives of a repository, the id of their commit.
        md5: path and checksum of some of its files.
        num_files: folder, with a final slash, and number of files in it.
    """

    comment: str
    md5: tuple[tuple[str, str], ...] = ()
    num_files: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Archive:
    """One archive, zip or ``.tar.gz``.

    Attributes:
        files: the archive, or the volumes of a zip archive in order: ``.z01``, ``.z02``, ..., and the ``.zip`` last.
        fills: beginnings of the paths, below the corpus's root, that it unpacks to; by default any path. Several
            archives may fill one folder.
        folder: folder in it, with a final slash, whose files alone are unpacked, to the corpus's root.
        contents: what is verified where the files have no checksum.
    """

    files: tuple[RemoteFile, ...]
    fills: tuple[str, ...] = ("",)
    folder: str = ""
    contents: Contents | None = None

    @property
    def name(self) -> str:
        """Name of the archive: that of its last volume."""
        return self.files[-1].name

    @property
    def checksums(self) -> str:
        """One line per file: its checksum, or the comment that stands for it, and its name."""
        comment = self.contents.comment if self.contents else ""
        return "".join(f"{file.md5 or comment}  {file.name}\n" for file in self.files)
