"""The page in Gradio: its controls, and what each of them does."""

# No `from __future__ import annotations` here: Gradio reads the annotations of handlers at run time.
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.listen.cards import NO_CLASSIFIER, TITLES, View, message, render, show, table
from tse_refine.extraction.listen.session import Sessions
from tse_refine.extraction.listen.sounds import Limits, Mixtures, Sound, read_upload
from tse_refine.refinement import Refinement, SoftThreshold, Threshold

if TYPE_CHECKING:
    import gradio

TITLE = "Target sound extraction with query refinement"
NO_SOUND = "Drop or record a sound, or load a test mixture, to see its class probabilities."
NO_MIXTURES = "There are no test mixtures; the server printed the reason when it started."
NO_MIXTURE = "The test mixtures cannot be loaded; the server printed the reason."
# the network runs for one visitor at a time; of a slider's events meanwhile, only the last one counts
_NETWORK: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1, "api_visibility": "private"}
_QUICK: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}


class Actions:
    """What the controls do, without Gradio.

    The actions' arguments are the visitor, the class names that are ticked, and the two ends of the threshold in
    [0, 1]: it is soft where the second is above the first, and may be left out. They return the changed parts of the
    page.

    Args:
        extractor: checkpoint's extractor.
        mixtures: test mixtures; None where there are none.
        limits: largest uploads.
        folder: served folder of WAV files.
    """

    def __init__(self, extractor: Extractor, mixtures: Mixtures | None, limits: Limits, folder: Path) -> None:
        self.extractor = extractor
        self.mixtures = mixtures
        self.limits = limits
        self.sessions = Sessions(extractor, folder)

    def upload(self, visitor: str, path: str | None, query: Sequence[str], *threshold: float) -> View:
        """Load an uploaded file, which is removed once it has been read; None clears the control, not the page."""
        if path is None:
            return View()
        file = Path(path)

        def read() -> Sound:
            try:
                return read_upload(file, self.limits)
            finally:
                file.unlink(missing_ok=True)
                with suppress(OSError):  # an upload is alone in its folder
                    file.parent.rmdir()

        return self._open(visitor, read, query, *threshold)

    def draw(self, visitor: str, query: Sequence[str], *threshold: float) -> View:
        """Load a random test mixture."""
        assert self.mixtures is not None, "without test mixtures there is no button for them"
        mixtures = self.mixtures

        def read() -> Sound:
            try:
                return mixtures.draw()
            except InputError as error:  # it names files of this machine
                print(f"tse-refine: {error}", file=sys.stderr)
                raise InputError(NO_MIXTURE) from error

        return self._open(visitor, read, query, *threshold)

    def update_table(self, visitor: str, query: Sequence[str], *threshold: float) -> View:
        """Show the class probabilities with another query or threshold; the network does not run."""
        session = self.sessions.get(visitor)
        return View(table=self.empty_table() if session is None else table(session, query, refinement(*threshold)))

    def extract(self, visitor: str, query: Sequence[str], *threshold: float) -> View:
        """Extract with the raw and the refined query."""
        session = self.sessions.get(visitor)
        try:
            if session is None:
                raise InputError("There is no sound yet: drop or record one, or load a test mixture.")
            session.extract(query, refinement(*threshold))
            return show(session, query, refinement(*threshold))
        except InputError as error:
            return View(message(str(error), "refusal"))

    def extract_again(self, visitor: str, query: Sequence[str], *threshold: float) -> View:
        """Extract with another threshold if this query was extracted last; otherwise nothing changes."""
        session = self.sessions.get(visitor)
        if session is None or session.result is None or session.result.query != tuple(query):
            return View()
        return self.extract(visitor, query, *threshold)

    def close(self, visitor: str) -> None:
        """Close the visitor's session and remove its files."""
        self.sessions.close(visitor)

    def empty_table(self) -> str:
        """Return what is shown instead of class probabilities before there is a sound."""
        return message(NO_SOUND if self.extractor.has_classifier else NO_CLASSIFIER)

    def _open(self, visitor: str, read: Callable[[], Sound], query: Sequence[str], *threshold: float) -> View:
        try:
            return show(self.sessions.open(visitor, read), query, refinement(*threshold))
        except InputError as error:
            return View(message(str(error), "refusal"))


def refinement(low: float, high: float = 0.0) -> Refinement:
    """Return the refinement of the page's two sliders: a soft threshold where the second is above the first."""
    return SoftThreshold(low, high) if high > low else Threshold(low)


def build_page(actions: Actions, checkpoint: Path) -> "gradio.Blocks":
    """Return the page.

    Args:
        actions: what the controls do.
        checkpoint: checkpoint file, of which visitors get the name and that of its run.
    """
    import gradio as gr

    extractor = actions.extractor
    name = Path(checkpoint).absolute()
    run = [name.parent.parent.name] if name.parent.name == "checkpoints" else []
    facts = [*run, name.name, f"{len(extractor.class_names)} classes", f"{extractor.sample_rate / 1000:g} kHz"]
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        _html(render("heading", title=TITLE, facts=facts))
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                sound = gr.Audio(
                    sources=["upload", "microphone"],
                    type="filepath",
                    label=f"Recording, {actions.limits}",
                    editable=False,
                    buttons=[],  # one of which would share the sound with others
                    elem_id="sound",
                )
                draw = gr.Button("Load a test mixture", visible=actions.mixtures is not None)
                _html(message("" if actions.mixtures else NO_MIXTURES, "reason"))
                query = gr.CheckboxGroup(_choices(extractor), label="Query", elem_id="query")
                thresholds = _thresholds(extractor)
                extract = gr.Button("Extract", variant="primary")
            with gr.Column(min_width=320):
                remarks, table = _html(elem_id="message"), _html(actions.empty_table(), elem_id="table")
        with gr.Row(elem_id="cards"):
            cards = [_html(elem_classes="listen-cell") for _ in TITLES]
        shown = [remarks, table, *cards, _html()]  # the parts of a View, in its order
        settings = [query, *thresholds]
        # the sound is shown as a card; its control is cleared for the next one
        upload, uploaded = _handler(actions.upload, None), [sound.upload, sound.stop_recording]
        gr.on(uploaded, upload, [sound, *settings], [*shown, sound], show_progress_on=table, **_NETWORK)
        draw.click(_handler(actions.draw), settings, shown, show_progress_on=table, **_NETWORK)
        changed = [query.change, *(threshold.change for threshold in thresholds)]
        gr.on(changed, _handler(actions.update_table), settings, shown, queue=False, **_QUICK)
        extract.click(_handler(actions.extract), settings, shown, show_progress_on=cards, **_NETWORK)
        released = [threshold.release for threshold in thresholds]
        gr.on(released, _handler(actions.extract_again), settings, shown, **(_NETWORK | _QUICK))
        page.unload(_handler(actions.close))
    return page


def head() -> str:
    """Return the page's style and script for its head.

    Gradio has a parameter for style sheets, but rewrites what is passed there.
    """
    style, script = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return f"<style>{style}</style><script>{script}</script>"


def theme() -> "gradio.themes.Base":
    """Return the colours, and the fonts of the visitor's system: no font is downloaded."""
    import gradio as gr

    return gr.themes.Default(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(  # darker than the theme's, which are too faint for some readers (WCAG requires a contrast of 4.5)
        body_text_color_subdued="*neutral_600",
        block_info_text_color="*neutral_600",
        block_label_text_color="*neutral_600",
        block_title_text_color="*neutral_700",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        slider_color="*primary_600",
    )


def _html(value: str = "", **options: Any) -> "gradio.HTML":
    import gradio as gr

    return gr.HTML(value, visible=bool(value), apply_default_css=False, **options)


def _choices(extractor: Extractor) -> list[tuple[str, str]]:
    """Return what the page calls each class, its aliases in brackets, and its name."""
    aliases = {name: f" ({', '.join(words)})" for name, words in extractor.aliases.items()}
    return [(name + aliases.get(name, ""), name) for name in extractor.class_names]


def _thresholds(extractor: Extractor) -> "list[gradio.Slider]":
    """Return the sliders of the two ends of the threshold, set to the recommended one."""
    import gradio as gr

    def slider(label: str, value: float, info: str) -> gr.Slider:
        visible = extractor.has_classifier  # without a classifier nothing is compared with it
        name = label.split()[0].lower()
        return gr.Slider(0.0, 1.0, value, step=0.01, label=label, info=info, visible=visible, elem_id=name)

    recommended = extractor.recommended_refinement
    high = recommended.high if isinstance(recommended, SoftThreshold) else 0.0
    removes = f"Queried classes of lower probability are removed. Recommended: {recommended.name}"
    softens = "Above the threshold, this makes it soft: weights rise from 0 there to 1 here."
    return [slider("Threshold", recommended.gate_threshold, removes), slider("Full weight from", high, softens)]


def _handler(action: Callable[..., View | None], *others: Any) -> Callable[..., list[Any]]:
    """Return an event handler that passes the visitor and the inputs to an action; ``others`` go to further outputs."""
    import gradio as gr

    def handle(request: gr.Request, *values: Any) -> list[Any]:
        view = action(str(request.session_hash), *values)
        parts = [] if view is None else [view.message, view.table, *view.cards, view.scale]
        return [*(gr.skip() if part is None else gr.update(value=part, visible=bool(part)) for part in parts), *others]

    return handle
