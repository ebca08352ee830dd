"""The page's layout, and which event does what."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from alignvec.serve.errors import UnauthorizedError
from alignvec.serve.page.events import Events
from alignvec.serve.page.meter import reference_rows
from alignvec.serve.page.sliders import Panel, panel

if TYPE_CHECKING:
    from fastapi import FastAPI

    from alignvec.serve.service import Service

_HERE = Path(__file__).parent
_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")
_MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")
_PRESETS = "alignvec-presets"
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_ADDRESS = "(_, ...rest) => [new URL('.', location.href).href, ...rest]"
_COPY = "text => window.alignvecCopy(text)"
_IF_OPEN = "(row, ...rest) => [document.querySelector('#measure')?.offsetParent ? row : null, ...rest]"


def mount(app: "FastAPI", service: "Service", path: str = "/") -> "FastAPI":
    """Mount the page, with its style, on an app; the app's own routes must have been added before."""
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        page(service),
        path=path,
        theme=gr.themes.Base(primary_hue="indigo", neutral_hue="slate", font=_FONT, font_mono=_MONO),
        head=_head(),
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        max_file_size=1,  # byte: Gradio takes uploads, the page has no use for them
    )
    return mounted


def page(service: "Service") -> gr.Blocks:
    """The page, which keeps nothing of its own: sliders, chat, key and presets are in the visitor's browser."""
    scales, rows = service.engine.scales, reference_rows(service.engine.cards)
    needs_key = _needs_key(service)
    events = Events(service, rows, needs_key=needs_key)
    blocks: gr.Blocks
    with gr.Blocks(title="alignvec", analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(
            f"<h1>alignvec</h1><p class=soft>{len(scales)} knobs on one model</p>",
            elem_id="title",
            apply_default_css=False,
        )
        notice = gr.HTML(elem_id="notice", apply_default_css=False)
        with gr.Row(elem_id="desk"):
            with gr.Column(elem_id="side", min_width=0):
                key = gr.Textbox(
                    label="API key", type="password", visible=needs_key, elem_id="key",
                    info="kept in this page only, until it is closed",
                    html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
                )  # fmt: skip
                rest = {} if needs_key else service.setting(service.rules(None), []).applied
                a = panel(scales, "Knobs", "a", rest)
                b = panel(scales, "Knobs of B", "b", rest)
                if needs_key:
                    seen = gr.State("")
                    key.blur(events.rest, [key, seen], [*a.sliders, *b.sliders, seen, notice], **_QUIET)
                _presets(events, a, notice)
            with gr.Column(elem_id="work", min_width=0), gr.Tabs(elem_id="tabs"):
                with gr.Tab("Chat", elem_id="tab-chat"):
                    question, history = _chat(events, a, key, notice)
                with gr.Tab("Compare", elem_id="tab-compare"):
                    _compare(events, a, b, key, notice)
                if rows:
                    with gr.Tab("Meter", elem_id="tab-meter"):
                        choices = {domain: [(row.query, row.id) for row in found] for domain, found in rows.items()}
                        _meter(events, choices, a, key, notice)
                with gr.Tab("Code", elem_id="tab-code"):
                    _code(events, question, history, a)
    blocks.queue(default_concurrency_limit=None)
    return blocks


def _chat(events: Events, a: Panel, key: gr.Textbox, notice: gr.HTML) -> tuple[gr.Textbox, gr.Chatbot]:
    history = _replies("chat", "Ask something, move a knob, ask again.")
    question, send, stop = _question("chat", "Message", "Send")
    clear = gr.Button("New chat", elem_id="clear", size="sm", min_width=0)
    asked = gr.on(
        [question.submit, send.click], events.chat, [question, history, key, *a.sliders],
        [question, history, notice], concurrency_limit=None, **_QUIET,
    )  # fmt: skip
    stop.click(None, cancels=[asked], **_QUIET)
    clear.click(lambda: [[], ""], None, [history, notice], cancels=[asked], **_QUIET)
    return question, history


def _compare(events: Events, a: Panel, b: Panel, key: gr.Textbox, notice: gr.HTML) -> None:
    question, send, stop = _question("compare", "Question to both", "Ask both")
    with gr.Row(elem_id="both"):
        replies = []
        for name in ("A", "B"):
            with gr.Column(min_width=0, elem_classes="answer"):
                gr.HTML(f"<h2>{name}</h2>", apply_default_css=False)
                replies.append(_replies(f"reply-{name.lower()}", ""))
    asked = gr.on(
        [question.submit, send.click], events.compare, [question, key, *a.sliders, *b.sliders], [*replies, notice],
        concurrency_limit=None, **_QUIET,
    )  # fmt: skip
    stop.click(None, cancels=[asked], **_QUIET)


def _replies(place: str, placeholder: str) -> gr.Chatbot:
    # as the model wrote it: Markdown could load pictures from elsewhere
    return gr.Chatbot(
        show_label=False, label=f"Replies ({place})", elem_id=place, height="min(56vh, 32rem)", buttons=[],
        feedback_options=None, render_markdown=False, placeholder=placeholder,
    )  # fmt: skip


def _question(place: str, label: str, button: str) -> tuple[gr.Textbox, gr.Button, gr.Button]:
    with gr.Row(elem_classes="ask"):
        question = gr.Textbox(label=label, lines=1, max_lines=6, elem_id=f"question-{place}", min_width=0, scale=1)
        send = gr.Button(button, variant="primary", elem_id=f"send-{place}", min_width=0, scale=0)
        stop = gr.Button("Stop", elem_id=f"stop-{place}", min_width=0, scale=0)
    return question, send, stop


def _meter(
    events: Events, choices: dict[str, list[tuple[str, str]]], a: Panel, key: gr.Textbox, notice: gr.HTML
) -> None:
    first = next(iter(choices))
    with gr.Row(elem_id="meter-choice"):
        domain = gr.Dropdown(list(choices), value=first, label="Domain", elem_id="domain", min_width=0, scale=0)
        row = gr.Dropdown(choices[first], value=None, label="Held-out question", elem_id="row", min_width=0, scale=1)
    text = gr.HTML(elem_id="meter-question", apply_default_css=False)
    measure = gr.Button("Measure", variant="primary", elem_id="measure", min_width=0)
    result = gr.HTML(elem_id="meter", apply_default_css=False)
    domain.change(lambda name: gr.Dropdown(choices=choices[name], value=None), [domain], [row], **_QUIET)
    row.change(events.question, [row], [text, result, notice], **_QUIET)
    wanted: dict[str, Any] = {"inputs": [row, key, *a.sliders], "outputs": [result, notice], **_QUIET}
    measure.click(events.measure, concurrency_limit=None, **wanted)
    if a.sliders:
        gr.on(
            [s.release for s in a.sliders], events.follow, js=_IF_OPEN, trigger_mode="always_last",
            concurrency_limit=None, **wanted,
        )  # fmt: skip


def _code(events: Events, question: gr.Textbox, history: gr.Chatbot, a: Panel) -> None:
    gr.HTML(
        "<p class=soft>The question in the chat's box, or the last one asked, with the knobs as they are.</p>",
        apply_default_css=False,
    )
    with gr.Row(elem_id="copy"):
        buttons = [
            gr.Button(f"Copy as {name}", elem_id=f"copy-{name.lower()}", min_width=0) for name in ("curl", "Python")
        ]
    said = gr.HTML(elem_id="copied", apply_default_css=False)
    address = gr.Textbox(visible="hidden", show_label=False)
    snippet = gr.Textbox(label="Code", lines=8, max_lines=24, interactive=False, elem_id="snippet")
    for button, write in zip(buttons, (events.curl, events.python), strict=True):
        written = button.click(write, [address, question, history, *a.sliders], [snippet], js=_ADDRESS, **_QUIET)
        written.then(None, [snippet], [said], js=_COPY, **_QUIET)


def _presets(events: Events, a: Panel, notice: gr.HTML) -> None:
    # what the browser keeps is no secret; a fixed one lets it be read after the server was started again
    stored = gr.BrowserState({}, storage_key=_PRESETS, secret=_PRESETS)
    with gr.Accordion("Presets", open=True, elem_id="presets"):
        with gr.Row():
            chosen = gr.Dropdown([], label="Preset", elem_id="preset", min_width=0, scale=1)
            load = gr.Button("Load", elem_id="preset-load", size="sm", min_width=0, scale=0)
            delete = gr.Button("Delete", elem_id="preset-delete", size="sm", min_width=0, scale=0)
        with gr.Row():
            name = gr.Textbox(label="Save knobs as", elem_id="preset-name", max_lines=1, min_width=0, scale=1)
            save = gr.Button("Save", elem_id="preset-save", size="sm", min_width=0, scale=0)
    gr.on(
        [name.submit, save.click], events.save_preset, [stored, name, *a.sliders], [stored, chosen, name, notice],
        **_QUIET,
    )  # fmt: skip
    load.click(events.load_preset, [stored, chosen], [*a.sliders, notice], **_QUIET)
    delete.click(events.delete_preset, [stored, chosen], [stored, chosen, notice], **_QUIET)
    blocks = gr.context.Context.root_block
    assert blocks is not None
    blocks.load(events.list_presets, [stored], [chosen], **_QUIET)


def _needs_key(service: "Service") -> bool:
    try:
        service.rules(None)
    except UnauthorizedError:
        return True
    return False


def _head() -> str:
    # not through `css=`, which rewrites the rules and spoils some
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return f"<style>{style}</style><script>{script}</script>"
