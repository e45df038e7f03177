"""Damages to valid files: to their values, where the format is known, and to their bytes.

Every function takes its choices from a random generator, so that Hypothesis can shrink them.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import re
from itertools import pairwise
from random import Random
from typing import Any

import yaml

NAN, INFINITE = float("nan"), float("inf")
WORDS = (
    *("", " ", "x", "nan", "inf", "-1", "1e999", "1_0", "²", "0x10", "none", "null", "soft:0.2-0.6", "gate", "top:2"),
    *("..", "../../x", "/dev/null", "a|b", "a,b", "\x1b[2J", "\u202e", "a\nb", "\0", "\r", '"', "ü", "x" * 5000),
)
NUMBERS = (0, 1, -1, 2, 7, 1000, -0.0, 0.5, 1.5, -3.7, 1e-320, 1e300, NAN, INFINITE, -INFINITE, 2**31, 2**63, -(2**63))
# written into text as they are; JSON and YAML alike
_RAW = {
    "@huge@": "9" * 5000,
    "@deep@": "[" * 3000 + "]" * 3000,
    "@open@": "[" * 100_000,
    "@float@": "1e999",
    "@word@": "NaN",
}
_TOKENS = (
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\n", b"\r\n", b'"', b",", b"\t", b":", b"{", b"}", b"[", b"]", b"- "),
    *(b"<<: *a\n", b"!!int x", b"!!binary x", b"!!python/object:os.system x", b"!!timestamp x", b"2020-99-99"),
    *(b"NaN", b"1e999", b"-1", b"9" * 5000, b"[" * 2000, b"{" * 2000, b"\x1b[2J", b"\\ud800", b"\xed\xa0\x80"),
    *(b"None", b"null", b"&a ", b"*a"),
)
# a few lines that stand for millions of values: lists of aliases of lists, mappings merged into mappings
_NAMES = "abcdefghijkl"
_BOMB = [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise(_NAMES)]
_MERGES = [f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}" for a, b in pairwise(_NAMES)]
_LINES = (["a: &a [1]", *_BOMB], ["a: &a {x: 1}", *_MERGES], ["a: &a [*a]"], ["? [1]", ": 2"], ["1: 2"])


def odd_value(rng: Random) -> Any:
    """Return a value that few readers expect."""
    kind = rng.randrange(8)
    if kind < 3:
        return rng.choice(NUMBERS)
    if kind < 5:
        return rng.choice(WORDS)
    if kind == 5:
        return rng.choice((None, True, False, [], {}, [[]], [1, 2, 3], ["a", "a"], {"a": 1}, {"": None}, 10**30))
    if kind == 6:
        value: Any = rng.choice(NUMBERS)
        for _ in range(rng.choice((1, 2, 90, 150))):
            value = [value] if rng.random() < 0.5 else {"x": value}
        return value
    return rng.choice((*_RAW, "\ud800"))


def damaged_value(document: Any, rng: Random, odd: Any = odd_value) -> Any:
    """Return a copy of nested mappings and lists in which one to three values are others, missing or nested.

    Args:
        document: the document, nested to any depth.
        rng: random generator.
        odd: function that makes an unexpected value.
    """
    root = {"": copy.deepcopy(document)}
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(root))
        parent, key = rng.choice(places)
        action = rng.randrange(8)
        if action < 4:
            parent[key] = odd(rng)
        elif action == 4 and parent is not root:
            del parent[key]
        elif action == 5:
            other, other_key = rng.choice(places)
            parent[key] = copy.deepcopy(other[other_key])
        elif action == 6 and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif action == 6 and parent is not root:
            parent[rng.choice(("x", "", "class_path", key + "x"))] = parent.pop(key)
        else:
            parent[key] = rng.choice(([parent[key]], {"x": parent[key]}, str(parent[key])))
    return root[""]


def _places(value: Any, depth: int = 0) -> Any:
    if isinstance(value, dict | list) and depth < 20:
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key], depth + 1)


def damaged_json(data: bytes, rng: Random) -> bytes:
    """Damage values of a JSON document, or state one key twice."""
    text = json.dumps(damaged_value(json.loads(data), rng))
    if rng.random() < 0.1 and (keys := list(re.finditer(r'"[^"\\]+": ', text))):
        place = rng.choice(keys)
        text = f"{text[: place.start()]}{place[0]}{json.dumps(odd_value(rng))}, {text[place.start() :]}"
    return _with_raw(text)


def damaged_yaml(data: bytes, rng: Random) -> bytes:
    """Damage values of a YAML document, or its lines."""
    if rng.random() < 0.2:
        lines = data.decode().splitlines()
        place = rng.randrange(len(lines))
        lines[place:place] = rng.choice(([lines[place]], *_LINES))
        return "\n".join(lines).encode() + b"\n"
    return _with_raw(yaml.safe_dump(damaged_value(yaml.safe_load(data), rng), allow_unicode=True))


def _with_raw(text: str) -> bytes:
    for word, raw in _RAW.items():
        text = re.sub(rf"""(["']?){word}\1""", raw, text)
    return text.encode("utf-8", "surrogatepass")


def damaged_csv(data: bytes, rng: Random, delimiter: str = ",") -> bytes:
    """Damage cells, rows or columns of a table."""
    rows = list(csv.reader(io.StringIO(data.decode(), newline=""), delimiter=delimiter))
    for _ in range(rng.choice((1, 1, 2, 3))):
        r = rng.randrange(len(rows))
        row = rows[r]
        c = rng.randrange(len(row)) if row else 0
        action = rng.randrange(10)
        if action < 5 and row:
            row[c] = rng.choice((*WORDS, *map(str, NUMBERS), "9" * 5000, ",".join(["a"] * 3000)))
        elif action == 5:
            rows.insert(r, list(row))
        elif action == 6 and len(rows) > 1:
            del rows[r]
        elif action == 7 and row:
            for other in rows:
                del other[c : c + 1]
        elif action == 8 and row:
            for other in rows:
                other.insert(c, other[min(c, len(other) - 1)] if other else "")
        elif row:
            row[:] = row[:-1] if rng.random() < 0.5 else [*row, "more"]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=rng.choice(("\n", "\r\n"))).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def damaged_bytes(data: bytes, rng: Random) -> bytes:
    """Flip, cut, insert, repeat and move bytes."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        place = rng.randrange(len(content) + 1)
        end = min(len(content), place + rng.choice((1, 1, 2, 4, 16, 64, 1000)))
        action = rng.randrange(7)
        if action == 0 and place < len(content):
            content[place] ^= 1 << rng.randrange(8)
        elif action == 1 and place < len(content):
            content[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif action == 2:
            del content[place:end]
        elif action == 3:
            content[place:place] = rng.choice(_TOKENS)
        elif action == 4:
            content[place:place] = content[place:end]
        elif action == 5:
            other = rng.randrange(len(content) + 1)
            content[place:end] = content[other : other + end - place]
        elif rng.random() < 0.3:
            del content[place:]
    return bytes(content)
