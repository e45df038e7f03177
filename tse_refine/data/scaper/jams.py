"""Scaper's JAMS files, which describe one mixture by its clips, positions and levels (scaper 1.6 and older)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from tse_refine.data.recipes import PeakRule
from tse_refine.errors import InputError
from tse_refine.files.atomic import normalized_name
from tse_refine.files.documents import Fields, checked_name, parse_json, read_text, shown
from tse_refine.files.tables import content_of, read_csv

SCENE_FILE, TARGETS_FILE = "mixture.jams", "gt_events.csv"
_OWN = "tse_refine"  # key of what is not Scaper's, in the annotation's sandbox
_MOST_EVENTS = 1000
_SAMPLE_RATES = (1_000, 1_000_000)  # Hz
_LENGTHS, _TIMES = (0.01, 3600.0), (0.0, 1e6)  # seconds, of mixtures, and of positions in them and in recordings
_LEVELS_DB = (-200.0, 200.0)
_REMEDY = "is not a mixture as Scaper describes it. Use the files as published, or as written by Scaper 1.6."


@dataclass(frozen=True)
class SceneEvent:
    """One event, or the background.

    Attributes:
        label: its class; of a background the name of its folder.
        source_file: path of the clip on the machine that drew the scene.
        source_time: start of the excerpt in the clip, seconds.
        time: onset in the mixture, seconds.
        duration: seconds.
        snr_db: level above the scene's ``ref_db``; 0 for the background.
    """

    label: str
    source_file: str
    source_time: float
    time: float
    duration: float
    snr_db: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", normalized_name(self.label))


@dataclass(frozen=True)
class Scene:
    """One mixture as described by a JAMS file.

    Attributes:
        duration: seconds.
        sample_rate: rate at which it was drawn, Hz; positions are whole samples of it.
        ref_db: loudness of the background, LUFS.
        background: the background.
        events: the foregrounds, in the order in which evaluation queries them; none in a mixture of background alone.
        fade_seconds: lengths of the events' fade in and fade out.
        peak_rule: see :class:`tse_refine.data.recipes.Recipe`.
        interferers: sounds outside the classes. To Scaper, which knows no third role, they are foregrounds; a list of
            their labels distinguishes them.
    """

    duration: float
    sample_rate: int
    ref_db: float
    background: SceneEvent
    events: tuple[SceneEvent, ...]
    fade_seconds: tuple[float, float]
    peak_rule: PeakRule
    interferers: tuple[SceneEvent, ...] = ()


def read_scene(folder: Path) -> Scene:
    """Read ``mixture.jams`` and, if present, the order of its events' queries from ``gt_events.csv``.

    Files of older Scapers lack ``fix_clipping``; their mixtures are limited to a peak of 1, as by the loader of the
    data set that was published with such files (Waveformer).

    Args:
        folder: folder of the two files.

    Raises:
        InputError: a file cannot be read, or describes a mixture that cannot be rendered here: without a background or
            with several, a class that occurs twice, changed pitch or time, reverberation, more than one channel.
    """
    path = folder / SCENE_FILE
    try:
        with content_of(path, f"It {_REMEDY}"):
            document = Fields(parse_json(read_text(path)), "the file")
            annotations = [Fields(part, "an annotation") for part in document.items("annotations", _MOST_EVENTS)]
            found = [part for part in annotations if part.get("namespace", None) == "scaper"]
            if not found:
                raise ValueError("no annotation has the namespace scaper")
            sandbox = found[0].fields("sandbox")
            settings = sandbox.fields("scaper")
            outside = _interferer_labels(sandbox)
            rows = [Fields(row, "an event") for row in found[0].items("data", _MOST_EVENTS)]
            values = [row.fields("value") for row in rows]
            roles = [value.text("role") for value in values]
            events = [_event(value) for value in values]
            if "background" not in roles:
                raise ValueError("no event has the role background")
            sounds = [event for event, role in zip(events, roles, strict=True) if role == "foreground"]
            scene = Scene(
                duration=settings.number(
                    "original_duration" if "original_duration" in settings else "duration", *_LENGTHS
                ),
                sample_rate=settings.whole("sr", *_SAMPLE_RATES),
                ref_db=settings.number("ref_db", *_LEVELS_DB),
                background=events[roles.index("background")],
                events=tuple(event for event in sounds if event.label not in outside),
                fade_seconds=(settings.number("fade_in_len", *_TIMES), settings.number("fade_out_len", *_TIMES)),
                peak_rule=_peak_rule(settings),
                interferers=tuple(event for event in sounds if event.label in outside),
            )
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    channels = settings.get("n_channels", 1)
    reasons = [
        (roles.count("background") != 1, "it has several backgrounds"),
        (any(value.get("pitch_shift", None) is not None for value in values), "an event's pitch is shifted"),
        (any(value.get("time_stretch", None) is not None for value in values), "an event's time is stretched"),
        (settings.get("reverb", None) is not None, "reverberation is added"),
        (channels != 1, f"it has {shown(channels)} channels"),
        (len({event.label for event in scene.events}) < len(scene.events), "a class occurs twice"),
    ]
    for applies, reason in reasons:
        if applies:
            raise InputError(f"{path}: {reason}, which cannot be rendered here. Leave that mixture out.")
    targets = folder / TARGETS_FILE
    return replace(scene, events=_in_order(scene, targets)) if targets.exists() else scene


def _event(value: Fields) -> SceneEvent:
    return SceneEvent(
        label=value.text("label"),
        source_file=value.text("source_file", 4096),
        source_time=value.number("source_time", *_TIMES),
        time=value.number("event_time", *_TIMES),
        duration=value.number("event_duration", *_TIMES),
        snr_db=value.number("snr", *_LEVELS_DB),
    )


def _peak_rule(settings: Fields) -> PeakRule:
    if settings.flag("peak_normalization", False):
        return "normalize"
    return "limit" if settings.flag("fix_clipping", True) else "none"


def _interferer_labels(sandbox: Fields) -> set[str]:
    own = sandbox.fields(_OWN) if _OWN in sandbox else Fields({})
    return {normalized_name(checked_name(label, "interferers")) for label in own.items("interferers", _MOST_EVENTS, [])}


def _in_order(scene: Scene, path: Path) -> tuple[SceneEvent, ...]:
    by_label = {event.label: event for event in scene.events}
    remedy = "A tab-separated table with a column `label` is expected."
    labels = [
        normalized_name(row["label"]) for row in read_csv(path, ("label",), remedy, delimiter="\t", final_newline=False)
    ]
    if sorted(labels) != sorted(by_label):
        raise InputError(
            f"{path}: lists {', '.join(labels) or 'nothing'}, but the events of {SCENE_FILE} beside it are "
            f"{', '.join(by_label) or 'nothing'}; both files must describe the same mixture."
        )
    return tuple(by_label[label] for label in labels)


def scene_document(scene: Scene, labels: Sequence[Sequence[str]], paths: Sequence[str]) -> dict[str, Any]:
    """Return a scene as the content of a JAMS file for Scaper and other loaders.

    Args:
        scene: the mixture.
        labels: all labels of foregrounds, interferers among them, and of backgrounds.
        paths: folders of foregrounds and of backgrounds, with one folder per label.
    """
    sounds = (*scene.events, *scene.interferers)
    rows = [(scene.background, "background"), *((event, "foreground") for event in sounds)]
    settings = {
        "duration": scene.duration,
        "original_duration": scene.duration,
        "sr": scene.sample_rate,
        "ref_db": scene.ref_db,
        "fade_in_len": scene.fade_seconds[0],
        "fade_out_len": scene.fade_seconds[1],
        "fg_path": paths[0],
        "bg_path": paths[1],
        "fg_labels": labels[0],
        "bg_labels": labels[1],
        "n_events": len(sounds),
        "polyphony_max": _polyphony(sounds),
        "fix_clipping": scene.peak_rule == "limit",
        "peak_normalization": scene.peak_rule == "normalize",
        "n_channels": 1,
        "reverb": None,
        "protected_labels": [],
        "fg_spec": [],
        "bg_spec": [],
        **dict.fromkeys(("allow_repeated_label", "allow_repeated_source", "quick_pitch_time"), False),
    }
    own = {_OWN: {"interferers": sorted({event.label for event in scene.interferers})}} if scene.interferers else {}
    empty = ("version", "corpus", "annotation_tools", "annotation_rules", "validation", "data_source")
    annotation = {
        "annotation_metadata": {"curator": {"name": "", "email": ""}, "annotator": {}, **dict.fromkeys(empty, "")},
        "namespace": "scaper",
        "time": 0.0,
        "duration": scene.duration,
        "sandbox": {"scaper": settings, **own},
        "data": [_observation(event, role) for event, role in rows],
    }
    about = {"duration": scene.duration, "identifiers": {}, "jams_version": "0.3.4"}
    about |= dict.fromkeys(("release", "title", "artist"), "")
    return {"annotations": [annotation], "file_metadata": about, "sandbox": {}}


def _observation(event: SceneEvent, role: str) -> dict[str, Any]:
    value = {
        "label": event.label,
        "source_file": event.source_file,
        "source_time": event.source_time,
        "event_time": event.time,
        "event_duration": event.duration,
        "snr": event.snr_db,
        "role": role,
        "pitch_shift": None,
        "time_stretch": None,
    }
    return {"time": event.time, "duration": event.duration, "confidence": 1.0, "value": value}


def _polyphony(events: tuple[SceneEvent, ...]) -> int:
    """Return the largest number of simultaneous events."""
    edges = sorted([(event.time, 1) for event in events] + [(event.time + event.duration, -1) for event in events])
    return max(accumulate(change for _, change in edges), default=0)
