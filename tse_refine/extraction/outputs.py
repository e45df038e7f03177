"""Where extractions go, settled before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tse_refine.errors import InputError, did_you_mean
from tse_refine.extraction.recordings import find_recordings, place_of
from tse_refine.extraction.sound_formats import FORMATS, SUFFIXES
from tse_refine.files.atomic import check_output, file_names, printable

RESIDUAL = "residual"


@dataclass(frozen=True)
class Outputs:
    """What is written of one recording.

    Attributes:
        recording: the file that is read.
        form: name of the format that is written.
        extraction: what was asked for; None where each class goes into a file of its own.
        each: those files by class.
        residual: everything else; None where it is not wanted.
    """

    recording: Path
    form: str
    extraction: Path | None
    each: Mapping[str, Path]
    residual: Path | None

    def paths(self) -> list[Path]:
        """Return all files."""
        return [path for path in (self.extraction, *self.each.values(), self.residual) if path is not None]


def plan_outputs(
    inputs: Sequence[Path],
    output: Path,
    query: Sequence[str],
    form: str | None = None,
    each: bool = False,
    residual: bool = False,
    overwrite: bool = False,
) -> list[Outputs]:
    """Name the files that are written of each recording.

    One recording goes to the file ``output``, or into the folder ``output`` under its own name; several, and those of
    a folder, go into the folder. From ``NAME.EXT`` follow ``NAME.residual.EXT`` and ``NAME.CLASS.EXT``.

    Args:
        inputs: recordings and folders of them.
        output: file or folder.
        query: the classes asked for.
        form: name of a format; by default what the name of the output says, in a folder that of the recording.
        each: a file for each class.
        residual: a file with everything else.
        overwrite: replace what is there.

    Raises:
        InputError: there is no such recording or format; or a file would be written twice, is there already, is one of
            the recordings, or is in a folder that cannot be written.
    """
    if form is not None and form not in FORMATS:
        raise InputError(f"--format is {form!r}; {did_you_mean(form, list(FORMATS))}")
    found = find_recordings(inputs, besides=output)
    is_one = len(found) == 1 and not any(path.is_dir() for path in inputs)
    if is_one and not output.is_dir() and (output.suffix or output.exists()):
        bases = [_chosen_file(output, form)]
    else:
        _check_folder(output, inputs)
        bases = [output / _in_folder(name, form) for _, name in found]
    parts = dict(zip(query, file_names([RESIDUAL, *query])[1:], strict=True)) if each else {}
    plans = [
        Outputs(
            path,
            form or SUFFIXES[base.suffix.lower()],
            None if each else base,
            {name: _beside(base, part) for name, part in parts.items()},
            _beside(base, RESIDUAL) if residual else None,
        )
        for (path, _), base in zip(found, bases, strict=True)
    ]
    _check_paths(plans, overwrite)
    return plans


def _chosen_file(output: Path, form: str | None) -> Path:
    named = SUFFIXES.get(output.suffix.lower())
    if named is None:
        raise InputError(
            f"--output: {printable(output)} does not end as a format does; expected is {', '.join(SUFFIXES)} or a "
            "folder."
        )
    if form not in (None, named) and (form, named) != ("rf64", "wav"):  # RF64 is WAV beyond 4 GB
        raise InputError(f"--output: {printable(output)} is not what --format {form} is called; give one of the two.")
    return output


def _check_folder(output: Path, inputs: Sequence[Path]) -> None:
    several = "several recordings" if len(inputs) > 1 else "a folder of recordings"
    if output.exists() and not output.is_dir():
        raise InputError(f"--output: {printable(output)} is a file, but {several} go into a folder; name one.")
    if not output.exists() and output.suffix.lower() in SUFFIXES:
        raise InputError(f"--output: {printable(output)} names a file, but {several} go into a folder; name one.")


def _in_folder(name: Path, form: str | None) -> Path:
    """Return the name of a recording's extraction: its own, with the suffix of the format."""
    known = name.suffix.lower() in SUFFIXES
    if known and form in (None, SUFFIXES[name.suffix.lower()]):
        return name
    return name.with_name(f"{name.stem if known else name.name}.{form or 'wav'}")


def _beside(base: Path, part: str) -> Path:
    return base.with_name(f"{base.stem}.{part}{base.suffix}")


def _check_paths(plans: Sequence[Outputs], overwrite: bool) -> None:
    written_by: dict[Path, Path] = {}
    read = {_identity(plan.recording): plan.recording for plan in plans}
    for plan in plans:
        for path in plan.paths():
            place = place_of(path)
            if place in written_by:
                raise InputError(
                    f"--output: {printable(path)} would be written twice, for {printable(written_by[place])} and for "
                    f"{printable(plan.recording)}; extract them into different folders."
                )
            written_by[place] = plan.recording
            if path.exists() and _identity(path) in read:
                raise InputError(
                    f"--output: {printable(path)} is the recording {printable(read[_identity(path)])} itself; name "
                    "another file or folder."
                )
            check_output(path, "file", overwrite)


def _identity(path: Path) -> tuple[int, int]:
    """Return what two names of one file have in common, also through links."""
    status = path.stat()
    return status.st_dev, status.st_ino
