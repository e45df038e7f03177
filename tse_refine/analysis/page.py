"""One HTML page that needs no other file: tables, figures and sounds."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import soundfile

_PEAK = 10 ** (-1 / 20)  # -1 dB of full scale: room for what a player's filters add

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
p, figure { max-width: 56rem } h1, h2 { line-height: 1.25 } h2 { margin-top: 3rem }
table { border-collapse: collapse; font-size: 0.8rem; display: block; overflow-x: auto }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left }
figure { margin: 2rem 0 } img { max-width: 100%; height: auto } figcaption, .note { color: #555 }
.players { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem }
.players audio { width: 100% }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """Return the page.

    Args:
        title: its heading, as text.
        parts: HTML, from the functions below.
    """
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
{chr(10).join(parts)}
</body></html>
"""


def heading(text: str) -> str:
    """Return the heading of a section."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"


def table(markdown: str) -> str:
    """Return a Markdown table and the lines below it."""
    lines = markdown.strip().splitlines()
    cells = [
        [html.escape(cell.strip().replace(r"\|", "|")) for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]
        for line in lines
        if line.startswith("|")
    ]
    head, body = cells[0], cells[2:]
    rows = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    rows += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    notes = "".join(f'<p class="note">{html.escape(line)}</p>' for line in lines if line and not line.startswith("|"))
    return f"<table>{''.join(rows)}</table>{notes}"


def picture(png: bytes, caption: str) -> str:
    """Return a figure, given as the content of a PNG file, with its caption."""
    text = html.escape(caption)
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<figure><img alt="{text}" src="{source}"><figcaption>{text}</figcaption></figure>'


def players(signals: dict[str, np.ndarray], rate: int) -> str:
    """Return a player for each signal; one common gain, for the loudest of them, keeps what is louder than what.

    Args:
        signals: by what they are called, each ``[samples]``.
        rate: Hz.
    """
    loudest = max(float(np.abs(signal).max(initial=0.0)) for signal in signals.values())
    gain = _PEAK / loudest if loudest > 0.0 else 1.0
    shown = []
    for name, signal in signals.items():
        sound = BytesIO()
        soundfile.write(sound, signal * gain, rate, subtype="PCM_16", format="WAV")
        source = f"data:audio/wav;base64,{base64.b64encode(sound.getvalue()).decode()}"
        shown.append(f'<div>{html.escape(name)}<br><audio controls src="{source}"></audio></div>')
    return f'<div class="players">{"".join(shown)}</div>'
