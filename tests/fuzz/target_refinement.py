"""Names of refinements, keys of metrics and queries, as files and people write them."""

from __future__ import annotations

from tse_refine.extraction.query import parse_query
from tse_refine.refinement import parse_key, parse_refinement


def seeds() -> list[bytes]:
    """Return texts with their kind in front."""
    rules = [b"name:soft:0.2-0.6", b"name:0.3", b"name:gate", b"name:1e-05", b"name:oracle"]
    return [*rules, b"key:delta_0p3", b"key:soft_0p2_0p6", b"query:dog, siren", b"query:car, truck"]


def check(data: bytes) -> None:
    kind, _, text = data.decode("utf-8", "replace").partition(":")
    if kind == "name":
        parse_refinement(text, "threshold")
    elif kind == "key":
        parse_key(text)
    else:
        parse_query(text, ("dog", "siren", "car, truck"))
