"""Documents that others wrote, in JSON or YAML: read in bounded size and depth, every value checked when it is used."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tse_refine.errors import printable

MOST_BYTES = 256 << 20  # of a document; the largest that this package writes, the table of a clip bank, has less
MOST_YAML_BYTES = 1 << 18  # PyYAML takes up to a second for 32 kB
_DEEPEST = 100  # mappings and lists within one another
_MOST_VALUES = 200_000  # of a YAML document with its aliases written out
_MOST_DIGITS = 100
_LONGEST_NAME = 200
_MOST_NAMES = 10_000
_REQUIRED: Any = object()


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """Return the text of a file.

    Args:
        path: file in UTF-8.
        most_bytes: largest size that is read.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is larger, or not text in UTF-8.
    """
    with open(path, "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"it has more than {most_bytes} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not text in UTF-8: {error.reason} at byte {error.start}") from None


def parse_json(text: str) -> Any:
    """Return the content of a JSON document.

    Raises:
        ValueError: it is not JSON, or nests too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its values nest too deeply") from None


def parse_yaml(text: str) -> Any:
    """Return the content of a YAML document.

    Raises:
        ValueError: it is not YAML in plain types, is too large, nests too deeply, or contains itself.
    """
    if len(text) > MOST_YAML_BYTES:
        raise ValueError(f"it has more than {MOST_YAML_BYTES} characters")
    if _nests_deeply(text):  # on which PyYAML takes seconds
        raise ValueError("its values nest too deeply")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _measure(node, {}, set())
        return None if node is None else loader.construct_document(node)
    except RecursionError:
        raise ValueError("its values nest too deeply") from None
    except Exception as error:  # on some wrong scalars, such as `!!int x`, PyYAML raises any exception
        raise ValueError(one_line(error)) from error


def _nests_deeply(text: str) -> bool:
    depth = 0
    for sign in re.finditer(r"[\[\]{}]", text):
        depth = depth + 1 if sign[0] in "[{" else max(0, depth - 1)
        if depth > _DEEPEST:
            return True
    return re.search(rf"^ *(- +){{{_DEEPEST}}}", text, re.MULTILINE) is not None


def _measure(node: yaml.Node | None, known: dict[yaml.Node, tuple[int, int]], open_nodes: set[yaml.Node]) -> None:
    """Find how many values a node has with its aliases written out, billions in a few lines, and how deep it is."""
    if node in open_nodes:
        raise ValueError("a part of it contains itself")
    if node is None or node in known:
        return
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        parts = node.value
    elif node.tag == "tag:yaml.org,2002:int" and len(node.value) > _MOST_DIGITS:
        raise ValueError("a number in it is huge")
    elif re.search("[\ud800-\udfff]", node.value):
        raise ValueError("a text in it has half a character, which cannot be written")
    around = open_nodes | {node}
    for part in parts:
        _measure(part, known, around)
    count = 1 + sum(known[part][0] for part in parts)
    depth = 1 + max((known[part][1] for part in parts), default=0)
    if count > _MOST_VALUES or depth > _DEEPEST:
        raise ValueError(f"it has more than {_MOST_VALUES} values, or {_DEEPEST} within one another")
    known[node] = (count, depth)


class Fields:
    """The named values of a mapping, each checked when it is read.

    Args:
        values: mapping with text as keys.
        owner: what the mapping is, for messages.

    Raises:
        ValueError: it is something else; so do all methods where a value is missing or not as described.

    >>> Fields({"sr": 44100}).whole("sr", 1, 10**6)
    44100
    >>> Fields({"sr": float("nan")}).whole("sr", 1, 10**6)
    Traceback (most recent call last):
    ValueError: sr is nan; a whole number from 1 to 1000000 is expected
    """

    def __init__(self, values: Any, owner: str = "it") -> None:
        if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
            raise ValueError(f"{owner} is {shown(values)}; named values are expected")
        self.values = values

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def get(self, name: str, default: Any = _REQUIRED) -> Any:
        """Return a value of any kind."""
        if name in self.values:
            return self.values[name]
        if default is _REQUIRED:
            raise ValueError(f"{name} is missing")
        return default

    def number(self, name: str, low: float, high: float, default: Any = _REQUIRED) -> float:
        """Return a number from ``low`` to ``high``."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"{name} is {shown(value)}; a number from {low:g} to {high:g} is expected")
        return float(value)

    def whole(self, name: str, low: int, high: int, default: Any = _REQUIRED) -> int:
        """Return a whole number from ``low`` to ``high``."""
        value = self.get(name, default)
        whole = not isinstance(value, bool) and isinstance(value, int | float) and low <= value <= high
        if not whole or value != int(value):
            raise ValueError(f"{name} is {shown(value)}; a whole number from {low} to {high} is expected")
        return int(value)

    def flag(self, name: str, default: Any = _REQUIRED) -> bool:
        """Return true or false."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {shown(value)}; true or false is expected")
        return value

    def text(self, name: str, longest: int = _LONGEST_NAME, default: Any = _REQUIRED) -> str:
        """Return a line of text that can be printed, not empty."""
        return checked_name(self.get(name, default), name, longest)

    def items(self, name: str, most: int, default: Any = _REQUIRED) -> Sequence[Any]:
        """Return a list of at most so many values."""
        value = self.get(name, default)
        if not isinstance(value, list | tuple) or len(value) > most:
            raise ValueError(f"{name} is {shown(value)}; a list of at most {most} values is expected")
        return value

    def fields(self, name: str) -> Fields:
        """Return a mapping."""
        return Fields(self.get(name), name)


def checked_name(value: Any, what: str, longest: int = _LONGEST_NAME) -> str:
    r"""Return a name: a line of text without anything that terminals would act on.

    Raises:
        ValueError: it is not text, empty, too long, or has characters that cannot be printed.

    >>> checked_name("\x1b[2J", "class")
    Traceback (most recent call last):
    ValueError: class is '\x1b[2J'; 1 to 200 characters that can be printed are expected
    """
    if not isinstance(value, str) or not value.strip() or len(value) > longest or not value.isprintable():
        raise ValueError(f"{what} is {shown(value)}; 1 to {longest} characters that can be printed are expected")
    return value


def checked_names(values: Any, what: str = "class") -> tuple[str, ...]:
    """Return distinct names.

    Args:
        values: list of names.
        what: what they name, for messages.

    Raises:
        ValueError: it is not a list of 1 to 10,000 names, one is not a name, or one occurs twice.
    """
    if not isinstance(values, list | tuple) or not 1 <= len(values) <= _MOST_NAMES:
        raise ValueError(f"the names of each {what} are {shown(values)}; a list of 1 to {_MOST_NAMES} is expected")
    names = tuple(checked_name(value, f"{what} {number}") for number, value in enumerate(values))
    if len(set(names)) < len(names):
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise ValueError(f"{what} {twice!r} occurs twice")
    return names


def shown(value: Any) -> str:
    """Return a value for a message: numbers and text short, of everything else the kind.

    >>> shown("dog"), shown([1, 2]), shown(None), shown(10**30)
    ("'dog'", 'list of 2', 'None', '1e+30')
    """
    if isinstance(value, int) and abs(value) >= 10**15:
        return "a huge number" if abs(value) > 10**300 else f"{float(value):g}"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else f"{value[:60]}...")
    size = f" of {len(value)}" if isinstance(value, list | tuple | Mapping) else ""
    return f"{type(value).__name__}{size}"


def one_line(error: Exception) -> str:
    """Return the text of an error of another library in one line of bounded length."""
    text = " ".join(printable(str(error)[:1000]).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."
