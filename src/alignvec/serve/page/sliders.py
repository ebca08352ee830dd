"""One slider per vector: how far it goes, where its levels are, and what its position is called."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import gradio as gr

from alignvec.steer.scale import Scale

UNMEASURED = (-1.5, 1.5)
"""Ends of a slider whose usable range is not known."""
_COARSE, _FINE = 0.05, 0.01
_CROWDED = 0.24  # share of the slider's width that a level's name needs


@dataclass(frozen=True)
class Panel:
    """The sliders of one setting, with the names of the vectors that they turn."""

    names: Sequence[str]
    sliders: Sequence[gr.Slider]


def bounds(scale: Scale) -> tuple[float, float]:
    """Ends of the slider (λ): the usable range and a tenth more on each side; every level is within."""
    low, high = scale.usable or UNMEASURED
    margin = (high - low) / 10 if scale.usable else 0.0
    low, high = min(low - margin, *scale.levels.values(), 0.0), max(high + margin, *scale.levels.values(), 0.0)
    low, high = (
        round(math.floor(low / _COARSE + 1e-9) * _COARSE, 2),
        round(math.ceil(high / _COARSE - 1e-9) * _COARSE, 2),
    )
    return (low, high) if low < high else UNMEASURED


def step(scale: Scale) -> float:
    """Distance (λ) of the slider's positions, such that every level is one of them if it can be."""
    fits = all(math.isclose(value / _COARSE, round(value / _COARSE), abs_tol=1e-6) for value in scale.levels.values())
    return _COARSE if fits else _FINE


def positions(scale: Scale) -> Mapping[str, float]:
    """Name of every marked position, lowest λ first: the levels, and `base` at 0 unless a level is there."""
    marked = dict(scale.levels)
    if 0.0 not in marked.values():
        marked["base"] = 0.0
    return dict(sorted(marked.items(), key=lambda item: item[1]))


def scale_html(scale: Scale) -> str:
    """What stands under a slider: the usable range shaded, and a button on the λ of every marked position."""
    low, high = bounds(scale)

    def share(value: float) -> float:
        return (value - low) / (high - low)

    band = ""
    if scale.usable:
        start, end = (share(value) for value in scale.usable)
        band = (
            f'<i class="band" style="left:{start:.2%};width:{end - start:.2%}" role="img" '
            f'aria-label="usable from {scale.usable[0]:g} to {scale.usable[1]:g}" title="usable range"></i>'
        )
    marks: list[str] = []
    taken: list[float] = []  # share at which each row of names is taken so far
    for name, value in positions(scale).items():
        at = share(value)
        row = next((i for i, last in enumerate(taken) if at - last >= _CROWDED), len(taken))
        taken[row : row + 1] = [at]
        marks.append(
            f'<button type="button" class="mark" data-value="{value:g}" style="--at:{at:.4f};--row:{row}" '
            f'aria-label="set {escape(scale.name)} to {escape(name)}, {value:g}">{escape(name)}</button>'
        )
    return f'<div class="scale" style="--rows:{len(taken)}">{band}{"".join(marks)}</div>'


def reading_js(scale: Scale) -> str:
    """JavaScript from a slider's value to the name of the nearest marked position, shown beside the number."""
    return f"value => [window.alignvecReading({json.dumps(scale.name)}, value, {json.dumps(positions(scale))})]"


def panel(scales: Mapping[str, Scale], title: str, place: str, rest: Mapping[str, float]) -> Panel:
    """Sliders for all vectors, at `rest` (λ by name) to begin with, and a button that sets them to 0.

    Args:
        scales: of the vectors.
        title: of the panel.
        place: makes the element ids of this panel unique.
        rest: where a slider begins that does not begin at 0.
    """
    quiet = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
    sliders = []
    with gr.Column(elem_id=f"panel-{place}", elem_classes="panel", min_width=0):
        with gr.Row(elem_classes="panel-head"):
            gr.HTML(f"<h2>{escape(title)}</h2>", elem_classes="panel-title", apply_default_css=False)
            reset = gr.Button("Reset to base", size="sm", min_width=0, scale=0, elem_id=f"reset-{place}")
        for i, (name, scale) in enumerate(scales.items()):
            low, high = bounds(scale)
            with gr.Column(elem_classes="knob", min_width=0):
                slider = gr.Slider(
                    low,
                    high,
                    rest.get(name, 0.0),
                    step=step(scale),
                    label=name,
                    elem_id=f"knob-{place}-{i}",
                    buttons=[],
                    container=False,
                )
                slider.preprocess = _within(low, high)  # type: ignore[method-assign, assignment]
                at_zero = next(mark for mark, value in positions(scale).items() if value == 0)
                reading = gr.HTML(
                    f'<span class="reading">{escape(at_zero)}</span>',
                    elem_classes="reading-box",
                    apply_default_css=False,
                )
                gr.HTML(scale_html(scale), elem_classes="scale-box", apply_default_css=False)
            slider.change(None, [slider], [reading], js=reading_js(scale), **quiet)  # type: ignore[arg-type]
            sliders.append(slider)
        if sliders:
            zeros = json.dumps([0.0] * len(sliders))
            reset.click(None, None, sliders, js=f"() => {zeros}", **quiet)  # type: ignore[arg-type]
    return Panel(tuple(scales), sliders)


def _within(low: float, high: float) -> Callable[[float], float]:
    # Gradio answers a number beyond the ends, typed by hand, with an error and a traceback in the log. A subclass of
    # its slider would do as well, but makes Gradio write a file beside it.
    return lambda payload: min(max(float(payload), low), high)
