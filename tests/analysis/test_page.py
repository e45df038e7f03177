import base64
import io
import re

import numpy as np
import pytest
import soundfile

from tse_refine.analysis import page


def sounds(html: str) -> list[np.ndarray]:
    found = re.findall(r"data:audio/wav;base64,([^\"]+)", html)
    return [soundfile.read(io.BytesIO(base64.b64decode(one)))[0] for one in found]


def test_players_share_one_gain_and_hold_all_samples():
    rng = np.random.default_rng(0)
    loud, soft = 3.0 * rng.uniform(-1, 1, 1000).astype(np.float32), np.full(1000, 0.003, np.float32)
    loud[10] = 3.0
    played = sounds(page.players({"loud": loud, "soft": soft}, 8000))
    assert np.abs(played[0]).max() == pytest.approx(10 ** (-1 / 20), abs=1e-3)  # does not clip
    assert played[1][0] / played[0][10] == pytest.approx(0.001, rel=0.05)  # near-silence stays near-silent
    assert len(played[0]) == len(played[1]) == 1000


def test_silence_can_be_played():
    (silence,) = sounds(page.players({"nothing": np.zeros(10, np.float32)}, 8000))
    assert not silence.any()


def test_names_cannot_leave_their_place():
    hostile = "<script>alert(1)</script>"
    parts = [page.table(f"| a | b |\n| --- | --- |\n| {hostile} | 1 |"), page.paragraph(hostile)]
    parts += [page.heading(hostile), page.players({hostile: np.zeros(1, np.float32)}, 8000)]
    html = page.page(hostile, parts)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 6


def test_a_bar_in_a_cell_is_no_border():
    html = page.table("| a\\|b | c |\n| --- | --- |\n| 1 | x\\|y |")
    assert "<th>a|b</th><th>c</th>" in html
    assert "<td>1</td><td>x|y</td>" in html
