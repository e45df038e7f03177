"""One mixture to play and look at: its sound, its parts, its recipe and a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tse_refine.analysis.plotting import COLOURS, plot_spectrogram, require_matplotlib, spectrogram_db
from tse_refine.data.corpora.base import BACKGROUNDS, FOREGROUNDS, IMPULSE_RESPONSES, INTERFERERS, SPLITS
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.data.recipes import Event, Recipe
from tse_refine.errors import InputError
from tse_refine.evaluation.prediction import write_wav
from tse_refine.files.atomic import check_output, file_names, replacing_folder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOUR_LABEL = "level (dB re full-scale sine)"
_INTERFERER_COLOUR = "#888888"


def write_preview(
    data: MixtureDataModule, split: str, index: int, output: Path, epoch: int = 0, overwrite: bool = False
) -> list[Path]:
    """Write the sound, the parts, the recipe and a picture of one mixture.

    The folder holds ``mixture.wav``, ``background.wav``, ``sources/<class>.wav`` and, where there are interferers,
    ``interferers/<label>.wav`` (32-bit float), ``recipe.json`` and ``mixture.png``. All parts are as loud as they are
    in the mixture, also where its peak had to be lowered. The background is the mixture less the others, so that all
    parts add up to the mixture to within the rounding of 32-bit floats. The folder appears whole or not at all.

    Args:
        data: data of the mixture; its recordings are decoded first where they have not been.
        split: name of the split, ``train``, ``val`` or ``test``.
        index: number of the mixture in the split, from 0.
        output: folder to write.
        epoch: epoch of a training set that is redrawn each epoch; other sets are always those of epoch 0.
        overwrite: whether to replace an earlier preview.

    Returns:
        The files written.

    Raises:
        InputError: the split, index or epoch does not exist, the folder is in use, or matplotlib is not installed.
    """
    output = Path(output)
    _check(data, split, index, epoch)
    _check_output(output, overwrite)
    dataset = data.open_split(split)
    recipe = dataset.recipe((epoch if split == "train" and data.redraw else 0, index))
    mixture = np.empty(dataset.recipes.num_samples, np.float32)
    num_events = len(recipe.events)
    sounds = np.empty((num_events + len(recipe.interferers), len(mixture)), np.float32)
    dataset.renderer.render(recipe, mixture, np.empty_like(mixture), sounds[:num_events], sounds[num_events:])
    background = (mixture.astype(np.float64) - sounds.sum(axis=0, dtype=np.float64)).astype(np.float32)

    description = _describe(data, recipe)
    figure = plot_preview(description, mixture, sounds)
    signals = {"mixture.wav": mixture, "background.wav": background}
    described = (*description["events"], *description["interferers"])
    signals |= {event["file"]: sound for event, sound in zip(described, sounds, strict=True)}
    with replacing_folder(output) as folder:
        (folder / "sources").mkdir()
        if recipe.interferers:
            (folder / "interferers").mkdir()
        for name, signal in signals.items():
            write_wav(folder / name, signal, data.sample_rate)
        text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
        (folder / "recipe.json").write_text(text, encoding="utf-8")
        figure.savefig(folder / "mixture.png", dpi=150)
    return [output / name for name in (*signals, "recipe.json", "mixture.png")]


def plot_preview(description: Mapping[str, Any], mixture: np.ndarray, sounds: np.ndarray) -> Figure:
    """Plot when the events sound, the mixture's spectrogram below them, and a small spectrogram for each sound.

    Interferers follow the events, in grey. All spectrograms share one scale of colours: 0 dB is a sine of full scale.

    Args:
        description: contents of ``recipe.json``.
        mixture: waveform, ``[samples]``.
        sounds: waveforms of the description's events and interferers, ``[events + interferers, samples]``.

    Raises:
        InputError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    interferers = [{**event, "class": f"{event['label']} (interferer)"} for event in description["interferers"]]
    colours = [colour for colour, _ in zip(cycle(COLOURS), description["events"], strict=False)]
    colours += [_INTERFERER_COLOUR] * len(interferers)
    events = [*description["events"], *interferers]
    figure = Figure(figsize=(11.0, max(5.0, 1.0 + len(events))), layout="constrained")
    rate = description["sample_rate"]
    loudest = spectrogram_db(mixture, rate).max()
    epoch = f", epoch {description['epoch']}" if description["split"] == "train" else ""
    title = f"{description['split']} mixture {description['index']}{epoch}"
    if not events:  # the background alone is all there is
        whole = figure.add_subplot(title=f"{title}, background alone")
        image = plot_spectrogram(whole, mixture, rate, loudest)
        whole.set(xlabel="time (s)", ylabel="frequency (kHz)")
        figure.colorbar(image, ax=whole, label=_COLOUR_LABEL, extend="min")
        return figure
    grid = figure.add_gridspec(1, 2, width_ratios=(1.5, 1.0))
    left = grid[0].subgridspec(2, 1, height_ratios=(0.3 * len(events), 4.0))
    right = grid[1].subgridspec(len(events), 1)
    whole = figure.add_subplot(left[1])
    bars = figure.add_subplot(left[0], sharex=whole)
    parts = right.subplots(sharex=True, sharey=True, squeeze=False)[:, 0]

    image = plot_spectrogram(whole, mixture, rate, loudest)
    whole.set(xlabel="time (s)", ylabel="frequency (kHz)")
    _plot_events(bars, events, colours)
    bars.set_title(title, fontsize="medium", parse_math=False)
    for panel, event, colour, sound in zip(parts, events, colours, sounds, strict=True):
        plot_spectrogram(panel, sound, rate, loudest)
        panel.set_title(_shortened(event["class"]), loc="left", fontsize="small", parse_math=False)
        panel.spines[:].set(color=colour, linewidth=2.0)
    parts[-1].set_xlabel("time (s)")
    parts[-1].locator_params(axis="y", nbins=2, steps=[1, 2, 4, 5, 10])  # few: the panels are low
    parts[len(parts) // 2].set_ylabel("kHz")
    figure.colorbar(image, ax=parts, label=_COLOUR_LABEL, extend="min")
    return figure


def _check(data: MixtureDataModule, split: str, index: int, epoch: int) -> None:
    if split not in SPLITS:
        raise InputError(f"--split is {split!r}; one of {', '.join(SPLITS)} is expected.")
    if not 0 <= index < data.sizes[split]:
        raise InputError(f"--index is {index}; the mixtures of {split} run from 0 to {data.sizes[split] - 1}.")
    if epoch < 0:
        raise InputError(f"--epoch is {epoch}; a number from 0 is expected.")


def _check_output(output: Path, overwrite: bool) -> None:
    check_output(output, "folder")
    if not output.exists() or not any(output.iterdir()):
        return
    ours = {"mixture.wav", "background.wav", "sources", "interferers", "recipe.json", "mixture.png"}
    if not {path.name for path in output.iterdir()} <= ours:  # overwriting deletes the folder
        raise InputError(f"--output: {output} holds other files than those of a preview; name another folder.")
    if not overwrite:
        raise InputError(
            f"--output: {output} holds a preview already; name another folder or replace it with --overwrite."
        )


def _describe(data: MixtureDataModule, recipe: Recipe) -> dict[str, Any]:
    names = data.class_names
    files = file_names([names[event.class_index] for event in recipe.events])
    labels = {clip.name: clip.label for clip in data.clips.get(INTERFERERS, [])}

    def clip_of(option: str, event: Event) -> str:
        return data.banks[option].entry(event.clip).name

    outside = [labels[clip_of(INTERFERERS, event)] for event in recipe.interferers]

    def placed(option: str, event: Event) -> dict[str, Any]:
        numbers: dict[str, Any] = {"clip": clip_of(option, event)}
        for field in ("start", "length", "onset"):
            samples = getattr(event, field)
            numbers |= {f"{field}_seconds": samples / data.sample_rate, f"{field}_samples": samples}
        if event.response >= 0:
            numbers["impulse_response"] = data.banks[IMPULSE_RESPONSES].entry(event.response).name
        return numbers | {"snr_db": event.snr_db, "gain": event.gain}

    return {
        "split": recipe.split,
        "epoch": recipe.epoch,
        "index": recipe.index,
        "data_digest": data.digest,
        "sample_rate": data.sample_rate,
        "active_classes": [names[event.class_index] for event in recipe.events],
        "training_query": [names[class_index] for class_index in recipe.query],
        "background": placed(BACKGROUNDS, recipe.background),
        "events": [
            {"class": names[event.class_index], "file": f"sources/{file}.wav"} | placed(FOREGROUNDS, event)
            for event, file in zip(recipe.events, files, strict=True)
        ],
        "interferers": [
            {"label": label, "file": f"interferers/{file}.wav"} | placed(INTERFERERS, event)
            for event, label, file in zip(recipe.interferers, outside, file_names(outside), strict=True)
        ],
    }


def _shortened(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"


def _plot_events(panel: Axes, events: Sequence[Mapping[str, Any]], colours: Sequence[str]) -> None:
    """Plot a bar for each event, the first on top, labelled with class, time span and level."""
    end_of_panel = panel.get_xlim()[1]
    for row, (event, colour) in enumerate(zip(events, colours, strict=True)):
        onset, length = event["onset_seconds"], event["length_seconds"]
        panel.barh(row, length, left=onset, height=0.8, color=colour + "66", edgecolor=colour, linewidth=1.2)
        if length > 0.4 * end_of_panel:
            place, side = onset + length / 2, "center"
        elif onset + length < 0.6 * end_of_panel:  # too short for its label, which goes beside it
            place, side = onset + length, "left"
        else:
            place, side = onset, "right"
        text = f" {onset:.2f}–{onset + length:.2f} s, SNR {event['snr_db']:.1f} dB "
        panel.text(place, row, text, ha=side, va="center_baseline", fontsize="small")
    panel.set_yticks(range(len(events)), [_shortened(event["class"]) for event in events], parse_math=False)
    panel.set_ylim(len(events) - 0.4, -0.6)
    panel.tick_params(axis="x", labelbottom=False)
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)
