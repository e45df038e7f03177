"""The page itself, in Gradio: what there is to drop, tick, move and press, and what each of these does."""

# No `from __future__ import annotations` here: Gradio reads the annotations of handlers at run time.
import html
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tse_refine.extraction.listen.listener import Listener, View
from tse_refine.extraction.listen.visit import CARDS

if TYPE_CHECKING:
    import gradio

TITLE = "Target sound extraction with query refinement"


@dataclass(frozen=True)
class _Parts:
    """What visitors use (the first five), and what answers them."""

    sound: "gradio.Audio"
    mix: "gradio.Button"
    query: "gradio.CheckboxGroup"
    threshold: "gradio.Slider"
    extract: "gradio.Button"
    message: "gradio.HTML"
    table: "gradio.HTML"
    cards: "list[gradio.HTML]"
    scale: "gradio.HTML"


def build_page(listener: Listener, name: str, no_mixtures: str = "") -> "gradio.Blocks":
    """Return the page.

    Args:
        listener: does what is asked.
        name: of the checkpoint, to be shown.
        no_mixtures: why there are no test mixtures, where there are none.
    """
    import gradio as gr

    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.HTML(_heading(listener, name), apply_default_css=False)
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                sound = gr.Audio(
                    sources=["upload", "microphone"],
                    type="filepath",
                    label=f"Your sound, {listener.limits}",
                    editable=False,
                    buttons=[],  # one of which would share the sound with others
                    elem_id="sound",
                )
                mix = gr.Button("Take a test mixture", visible=listener.mixtures is not None)
                reason = f'<p class="listen-why">{html.escape(no_mixtures)}</p>'
                gr.HTML(reason, visible=bool(no_mixtures), apply_default_css=False)
                names = list(listener.extractor.class_names)
                query = gr.CheckboxGroup(names, label="Query: what to extract", elem_id="query")
                threshold = _threshold(listener.extractor.recommended_threshold)
                extract = gr.Button("Extract", variant="primary")
            with gr.Column(min_width=320):
                message = gr.HTML(visible=False, elem_id="message", apply_default_css=False)
                table = gr.HTML(listener.nothing_yet(), elem_id="table", apply_default_css=False)
        with gr.Row(elem_id="cards"):
            cards = [gr.HTML(visible=False, elem_classes="listen-cell", apply_default_css=False) for _ in CARDS]
        scale = gr.HTML(visible=False, apply_default_css=False)
        _connect(page, listener, _Parts(sound, mix, query, threshold, extract, message, table, cards, scale))
    return page


def _threshold(recommended: float | None) -> "gradio.Slider":
    import gradio as gr

    return gr.Slider(
        0.0,
        1.0,
        value=recommended or 0.0,
        step=0.01,
        label="Threshold",
        info=f"Classes below it leave the query. Recommended: {recommended or 0.0:g}",
        visible=recommended is not None,  # without a classifier there is nothing to compare with it
        elem_id="threshold",
    )


def _connect(page: "gradio.Blocks", listener: Listener, parts: _Parts) -> None:
    """Say what happens when."""
    import gradio as gr

    shown = [parts.message, parts.table, *parts.cards, parts.scale]
    asked = [parts.query, parts.threshold]
    # the network runs for one visitor at a time; of the events that came meanwhile from a slider, the last one counts
    works = {"concurrency_id": "network", "concurrency_limit": 1, "api_visibility": "private"}
    quick = {"show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}

    def take(path: str | None, query: list[str], threshold: float, request: gr.Request) -> list[Any]:
        view = None if path is None else listener.take(_visitor(request), Path(path), query, threshold)
        return [None, *_updates(view)]  # the sound is shown as all others are; here there is room for another

    def draw(query: list[str], threshold: float, request: gr.Request) -> list[Any]:
        return _updates(listener.draw(_visitor(request), query, threshold))

    def look(query: list[str], threshold: float, request: gr.Request) -> str:
        return listener.look(_visitor(request), query, threshold)

    def extract(query: list[str], threshold: float, request: gr.Request) -> list[Any]:
        return _updates(listener.extract(_visitor(request), query, threshold))

    def extract_again(query: list[str], threshold: float, request: gr.Request) -> list[Any]:
        return _updates(listener.extract_again(_visitor(request), query, threshold))

    def leave(request: gr.Request) -> None:
        listener.leave(_visitor(request))

    sound = parts.sound
    gr.on(
        [sound.upload, sound.stop_recording],
        take,
        [sound, *asked],
        [sound, *shown],
        show_progress_on=parts.table,
        **works,
    )
    parts.mix.click(draw, asked, shown, show_progress_on=parts.table, **works)
    gr.on([parts.query.change, parts.threshold.change], look, asked, parts.table, queue=False, **quick)
    parts.extract.click(extract, asked, shown, show_progress_on=parts.cards, **works)
    parts.threshold.release(extract_again, asked, shown, **{**works, **quick})
    page.unload(leave)


def head() -> str:
    """Return what the page looks like and how its players behave, for its head.

    Gradio has a place for styles of their own, but rewrites what is put there.
    """
    here = Path(__file__).parent
    style, script = ((here / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return f"<style>{style}</style><script>{script}</script>"


def theme() -> "gradio.themes.Base":
    """Return colours, and the fonts that the visitor's system has: no font is fetched."""
    import gradio as gr

    return gr.themes.Default(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(  # darker than the theme's, which is too faint to be read by everybody (WCAG asks for a contrast of 4.5)
        body_text_color_subdued="*neutral_600",
        block_info_text_color="*neutral_600",
        block_label_text_color="*neutral_600",
        block_title_text_color="*neutral_700",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        slider_color="*primary_600",
    )


def _heading(listener: Listener, name: str) -> str:
    extractor = listener.extractor
    facts = [name, f"{len(extractor.class_names)} classes", f"{extractor.sample_rate / 1000:g} kHz"]
    return (
        f'<header class="listen-head"><h1>{html.escape(TITLE)}</h1><p>Ask for sounds by name. Classes that are '
        "probably not there leave the query before the network extracts what is left.</p>"
        f'<p class="listen-facts">{html.escape(" · ".join(facts))}</p></header>'
    )


def _visitor(request: "gradio.Request") -> str:
    return str(request.session_hash)


def _updates(view: View | None) -> list[Any]:
    """Return what Gradio makes of a view: message, table, cards, scale."""
    import gradio as gr

    parts = [None] * (3 + len(CARDS)) if view is None else [view.message, view.table, *view.cards, view.scale]
    return [gr.skip() if part is None else gr.update(value=part, visible=bool(part)) for part in parts]
