"""Scaper's JAMS files."""

from __future__ import annotations

import json
import math
from dataclasses import astuple

from tests.fuzz.mutating import damaged_json as mutate  # noqa: F401
from tests.fuzz.targets import scratch
from tse_refine.data.scaper.jams import Scene, SceneEvent, read_scene, scene_document


def seeds() -> list[bytes]:
    background = SceneEvent("street", "/bg/street/a.wav", 1.5, 0.0, 6.0, 0.0)
    events = (
        SceneEvent("dog", "/fg/dog/1.wav", 0.0, 0.5, 3.0, 15.5),
        SceneEvent("bell", "b.wav", 0.25, 1.0, 4.0, 20.0),
    )
    interferer = SceneEvent("tram", "t.wav", 0.0, 1.0, 2.0, 18.0)
    scene = Scene(6.0, 44_100, -50.0, background, events, (0.01, 0.02), "limit", (interferer,))
    document = scene_document(scene, (["bell", "dog"], ["street"]), ("/fg", "/bg"))
    return [json.dumps(document).encode()]


def check(data: bytes) -> None:
    path = scratch("jams") / "mixture.jams"
    path.write_bytes(data)
    scene = read_scene(path.parent)
    for event in (scene.background, *scene.events, *scene.interferers):
        assert all(math.isfinite(value) for value in astuple(event)[2:]), event
    assert all(map(math.isfinite, (scene.duration, scene.sample_rate, scene.ref_db, *scene.fade_seconds)))
    assert scene.duration > 0 < scene.sample_rate
    assert all(fade >= 0 for fade in scene.fade_seconds)
