"""Names of the extracted files, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tse_refine.errors import InputError, did_you_mean, printable
from tse_refine.extraction.recordings import find_recordings, location
from tse_refine.extraction.writer import FORMATS, SUFFIXES
from tse_refine.files.atomic import check_output, file_names

RESIDUAL = "residual"


@dataclass(frozen=True)
class Outputs:
    """The files to write for one recording.

    Attributes:
        recording: sound file to read.
        file_format: name of the format to write.
        extraction: file of the estimate; None where each class has a file of its own.
        each: files by class.
        residual: file of everything else; None where it is not wanted.
    """

    recording: Path
    file_format: str
    extraction: Path | None
    each: Mapping[str, Path]
    residual: Path | None

    def paths(self) -> list[Path]:
        """Return all files to write."""
        return [path for path in (self.extraction, *self.each.values(), self.residual) if path is not None]


def plan_outputs(
    inputs: Sequence[Path],
    output: Path,
    query: Sequence[str],
    file_format: str | None = None,
    each: bool = False,
    residual: bool = False,
    overwrite: bool = False,
    skip_existing: bool = False,
    shard: tuple[int, int] = (1, 1),
) -> list[Outputs]:
    """Name the files to write for each recording.

    One recording goes to the file ``output``, or into the folder ``output`` under its own name; several recordings, and
    those of a folder, go into the folder. Names are derived from ``NAME.EXT``: ``NAME.residual.EXT``,
    ``NAME.CLASS.EXT``.

    Args:
        inputs: recordings and folders of recordings.
        output: file or folder.
        query: queried classes.
        file_format: name of a format; by default that of the output's suffix, in a folder that of the recording.
        each: write one file per class.
        residual: write a file with everything else.
        overwrite: replace existing files.
        skip_existing: leave out recordings whose files exist.
        shard: number of this part and of all parts, from (1, 1): only recordings of this part, every so manieth, are
            planned.

    Raises:
        InputError: a recording or the format does not exist; or a file would be written twice, exists, is one of the
            recordings, or is in a folder that cannot be written.
    """
    if file_format is not None and file_format not in FORMATS:
        raise InputError(f"--format is {file_format!r}; {did_you_mean(file_format, list(FORMATS))}")
    recordings = find_recordings(inputs, excluded=output)
    is_single = len(recordings) == 1 and not any(path.is_dir() for path in inputs)
    if is_single and not output.is_dir() and (output.suffix or output.exists()):
        _check_suffix(output, file_format)
        bases = [output]
    else:
        _check_folder(output, inputs)
        bases = [output / _name_in_folder(name, file_format) for _, name in recordings]
    parts = dict(zip(query, file_names([RESIDUAL, *query])[1:], strict=True)) if each else {}
    plans = [
        Outputs(
            path,
            file_format or SUFFIXES[base.suffix.lower()],
            None if each else base,
            {name: _part_path(base, part) for name, part in parts.items()},
            _part_path(base, RESIDUAL) if residual else None,
        )
        for (path, _), base in zip(recordings, bases, strict=True)
    ]
    _check_paths(plans)
    number, of_all = shard
    plans = plans[number - 1 :: of_all]
    for path in (path for plan in plans for path in plan.paths()):
        check_output(path, "file", overwrite or skip_existing)
    return [plan for plan in plans if not (skip_existing and all(path.exists() for path in plan.paths()))]


def _check_suffix(output: Path, file_format: str | None) -> None:
    named = SUFFIXES.get(output.suffix.lower())
    if named is None:
        raise InputError(
            f"--output: {printable(output)} does not have the suffix of a format; expected is {', '.join(SUFFIXES)} or "
            "a folder."
        )
    if file_format not in (None, named) and (file_format, named) != ("rf64", "wav"):  # RF64 is WAV beyond 4 GB
        raise InputError(
            f"--output: {printable(output)} does not have the suffix of --format {file_format}; use one of the two."
        )


def _check_folder(output: Path, inputs: Sequence[Path]) -> None:
    several = "several recordings" if len(inputs) > 1 else "a folder of recordings"
    if output.exists() and not output.is_dir():
        raise InputError(f"--output: {printable(output)} is a file, but {several} go into a folder; name one.")
    if not output.exists() and output.suffix.lower() in SUFFIXES:
        raise InputError(f"--output: {printable(output)} names a file, but {several} go into a folder; name one.")


def _name_in_folder(name: Path, file_format: str | None) -> Path:
    """Return the name of a recording's estimate: its own, with the suffix of the format."""
    named = SUFFIXES.get(name.suffix.lower())
    if named is not None and file_format in (None, named):
        return name
    return name.with_name(f"{name.name if named is None else name.stem}.{file_format or 'wav'}")


def _part_path(base: Path, part: str) -> Path:
    return base.with_name(f"{base.stem}.{part}{base.suffix}")


def _check_paths(plans: Sequence[Outputs]) -> None:
    """Reject files that would be written twice, or would replace a recording."""
    recordings = {_identity(plan.recording): plan.recording for plan in plans}
    recording_of: dict[Path, Path] = {}  # by file to write
    for plan in plans:
        for path in plan.paths():
            if other := recording_of.get(location(path)):
                raise InputError(
                    f"--output: {printable(path)} would be written twice, for {printable(other)} and for "
                    f"{printable(plan.recording)}; extract them into different folders."
                )
            recording_of[location(path)] = plan.recording
            if path.exists() and _identity(path) in recordings:
                raise InputError(
                    f"--output: {printable(path)} is the recording {printable(recordings[_identity(path)])} itself; "
                    "name another file or folder."
                )


def _identity(path: Path) -> tuple[int, int]:
    """Return what all names of a file have in common, also through links."""
    status = path.stat()
    return status.st_dev, status.st_ino
