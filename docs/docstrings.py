"""Turns into Markdown what docstrings hold besides it: doctests, cross-references, ``<`` and ``*`` in formulas."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:attr|class|func|meth|mod):`~?([^`]+)`")
_CODE = re.compile(r"(`+[^`]+`+)")


class Docstrings(Extension):
    """Rewrites each docstring before its sections are parsed."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None and not obj.is_alias:
            obj.docstring.value = _rewritten(_ROLE.sub(r"`\1`", obj.docstring.value))


def _rewritten(text: str) -> str:
    """Fence each doctest, up to the next empty line, and escape signs outside code."""
    lines: list[str] = []
    in_doctest = False
    for line in text.splitlines():
        if line.startswith(">>>") and not in_doctest:
            lines += ["", "```pycon"]
            in_doctest = True
        elif in_doctest and not line.strip():
            lines.append("```")
            in_doctest = False
        is_code = in_doctest or line.startswith("        ")
        lines.append(line if is_code else _escaped(line))
    return "\n".join([*lines, "```"] if in_doctest else lines)


def _escaped(line: str) -> str:
    parts = _CODE.split(line)  # code has the odd places
    parts[::2] = [part.replace("<", "&lt;").replace("*", r"\*") for part in parts[::2]]
    return "".join(parts)
