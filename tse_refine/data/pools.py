"""Which clips the mixtures of a split are drawn from, and that interferers are not also sounds to extract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tse_refine.data.corpora.base import BACKGROUNDS, FOREGROUNDS, IMPULSE_RESPONSES, INTERFERERS, Clip, Corpus
from tse_refine.data.queries import plain_name
from tse_refine.errors import InputError, listed
from tse_refine.files.digests import MISSING

ClipsByOption = Mapping[str, Sequence[Clip]]


class Pools(NamedTuple):
    """The clips of one split.

    Attributes:
        foregrounds: clips of each class, by class index.
        backgrounds: backgrounds.
        interferers: sounds outside the classes; None where there is no such corpus.
        rooms: impulse responses of each room; None where there is no such corpus.
    """

    foregrounds: list[list[Clip]]
    backgrounds: list[Clip]
    interferers: list[Clip] | None
    rooms: list[list[Clip]] | None


def pools_of_split(split: str, clips: ClipsByOption, class_names: Sequence[str], most_interferers: int) -> Pools:
    """Return the clips of a split.

    Args:
        split: ``train``, ``val`` or ``test``.
        clips: clips of each option, such as ``data.foregrounds``.
        class_names: names of the classes by index.
        most_interferers: interferers in the fullest mixture.

    Raises:
        InputError: a class has no clip in the split, there is no background or no impulse response, or there are too
            few interferers.
    """
    of_split = {option: [clip for clip in members if clip.split == split] for option, members in clips.items()}
    foregrounds: dict[str, list[Clip]] = {name: [] for name in class_names}
    for clip in of_split[FOREGROUNDS]:
        foregrounds[clip.label].append(clip)
    lacking = [name for name, members in foregrounds.items() if not members]
    if lacking:
        raise InputError(
            f"{FOREGROUNDS}: the {split} split has no clip of {', '.join(lacking)}. Every class needs clips in "
            "every split: give the split more folds or recordings, or leave the class out."
        )
    if not of_split[BACKGROUNDS]:
        raise InputError(f"{BACKGROUNDS}: the {split} split has no background. Give it more folds or recordings.")
    interferers = of_split.get(INTERFERERS)
    if interferers is not None and len(interferers) < most_interferers:
        raise InputError(
            f"{INTERFERERS}: the {split} split has {len(interferers)} recordings, but a mixture has up to "
            f"{most_interferers}, each another one (data.mixture.num_interferers). Give it more folds or recordings."
        )
    rooms: dict[str, list[Clip]] = {}
    for clip in of_split.get(IMPULSE_RESPONSES, []):
        rooms.setdefault(clip.label, []).append(clip)
    if IMPULSE_RESPONSES in clips and not rooms:
        raise InputError(f"{IMPULSE_RESPONSES}: the {split} split has no recording. Give it more folds or recordings.")
    responses = list(rooms.values()) if IMPULSE_RESPONSES in clips else None
    return Pools(list(foregrounds.values()), of_split[BACKGROUNDS], interferers, responses)


def check_outside_classes(clips: ClipsByOption, aliases: Mapping[str, Sequence[str]]) -> None:
    """Reject interferers that a query for a class names, or that are cut from a recording of the foregrounds.

    Args:
        clips: clips of each option, ``data.interferers`` among them.
        aliases: other words for classes, by class.

    Raises:
        InputError: names the classes or the recordings.
    """
    names = [clip.label for clip in clips[FOREGROUNDS]] + [word for words in aliases.values() for word in words]
    classes = set(map(plain_name, names))
    shared = sorted({clip.label for clip in clips[INTERFERERS] if plain_name(clip.label) in classes})
    if shared:
        raise InputError(
            f"{INTERFERERS}: {listed(shared)} {'are classes' if shared[1:] else 'is a class'} of {FOREGROUNDS} too, or "
            f"{'words' if shared[1:] else 'a word'} for one (data.aliases). Interferers are sounds outside the "
            "classes, which no query names: leave the label out of one of the two."
        )
    extracted = {clip.recording: clip.name for clip in clips[FOREGROUNDS]}
    _reject_same([(clip.name, extracted.get(clip.recording)) for clip in clips[INTERFERERS]])


def check_other_contents(clips: ClipsByOption, corpora: Mapping[str, Corpus], cache_dir: Path) -> None:
    """Reject interferers whose recording is, under another name, one of the foregrounds.

    Args:
        clips: clips of each option, ``data.interferers`` among them.
        corpora: corpora of the options.
        cache_dir: folder where digests are remembered.

    Raises:
        InputError: names the recordings.
    """
    digests, others = (corpora[option].digests(clips[option], cache_dir) for option in (FOREGROUNDS, INTERFERERS))
    extracted = {digest: clip.name for digest, clip in zip(digests, clips[FOREGROUNDS], strict=True)}
    extracted.pop(MISSING, None)  # reported when the bank is opened
    _reject_same([(clip.name, extracted.get(digest)) for digest, clip in zip(others, clips[INTERFERERS], strict=True)])


def _reject_same(pairs: Sequence[tuple[str, str | None]]) -> None:
    """Reject interferers, by name, that are a foreground, by name."""
    same = [f"{name} ({foreground})" for name, foreground in pairs if foreground is not None]
    if same:
        raise InputError(
            f"{INTERFERERS}: recordings of {FOREGROUNDS} (whose names there are in brackets) are interferers too: "
            f"{listed(same, most=10)}. What is to be extracted cannot be an interferer: leave them out of either."
        )
