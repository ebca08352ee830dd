"""The review page: one reply at a time, blind, keyboard first; all state is in the ratings file and in the ticket."""

import os
import socket
import threading
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

from alignvec.data.review.card import WELCOME, card, finished, progress, reminder
from alignvec.data.review.definitions import Definitions
from alignvec.data.review.queue import ReviewQueue, Shown
from alignvec.data.review.ratings import FLAGS
from alignvec.errors import AlignvecError, ConfigError

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported

import gradio as gr

NO_FLAG = "no problem"
_HERE = Path(__file__).parent
_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")
_MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")
_NAME_IN_ADDRESS = "(preset) => [new URLSearchParams(location.search).get('rater') ?? preset]"
_BEHIND = "Nothing was saved: this page was behind. Here is your next reply."


def serve(
    queue: ReviewQueue,
    definitions: Definitions,
    *,
    rater: str,
    host: str,
    port: int,
    browser: bool,
    ready: Callable[[str], None],
) -> None:
    """Serve the page until interrupted (Ctrl+C).

    Args:
        queue: the replies.
        definitions: what the levels mean, for every domain of the rows.
        rater: name that the page starts with; may be empty.
        host: address to listen on; anyone who reaches it can rate.
        port: TCP port.
        browser: whether to open the page in a browser.
        ready: called with the page's address once it answers.

    Raises:
        ConfigError: if the address cannot be listened on.
    """
    _require_free(host, port)
    page = build(queue, definitions, rater)
    try:
        _, address, _ = page.launch(
            server_name=f"[{host}]" if ":" in host else host,
            server_port=port,
            inbrowser=browser,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            footer_links=[],
            theme=gr.themes.Base(primary_hue="indigo", neutral_hue="slate", font=_FONT, font_mono=_MONO),
            head=_head(),
        )
    except OSError as error:
        raise ConfigError(f"cannot serve on {host}:{port}: {error}; choose another --port or --host") from None
    try:
        ready(address)
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        page.close(verbose=False)


def build(queue: ReviewQueue, definitions: Definitions, rater: str) -> gr.Blocks:
    """The page, which keeps nothing of its own: an event carries the rater's name and the ticket of what was shown."""
    page: gr.Blocks
    with gr.Blocks(title="alignvec review", analytics_enabled=False, fill_width=True) as page:
        with gr.Row(elem_id="top"):
            bar = gr.HTML(elem_id="progress")
            name = gr.Textbox(rater, label="Your name", elem_id="rater", max_lines=1, max_length=60, scale=0)
        text = gr.HTML(elem_id="card")
        meaning = gr.HTML(elem_id="reminder")
        ticket = gr.Textbox(visible="hidden", elem_id="ticket", show_label=False)
        renamed = gr.Button(visible="hidden", elem_id="renamed")
        with gr.Row(elem_id="levels"):
            buttons = [gr.Button(level, min_width=0) for level in queue.levels]
        flag = gr.Radio([NO_FLAG, *FLAGS], value=NO_FLAG, label="Problem", elem_id="flags")
        with gr.Row(elem_id="moves"):
            back = gr.Button("Back", elem_id="back", size="sm", min_width=0)
            skip = gr.Button("Skip", elem_id="skip", size="sm", min_width=0)
            flag_only = gr.Button("Save the problem without a level", elem_id="flag-only", size="sm", min_width=0)

        shown = [bar, text, meaning, ticket, flag]
        events = _Events(queue, definitions)
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        page.load(events.open, [name], [name, *shown], js=_NAME_IN_ADDRESS, **quiet)
        renamed.click(events.begin, [name], shown, **quiet)
        for button, level in zip((*buttons, flag_only), (*queue.levels, None), strict=True):
            button.click(partial(events.judge, level), [name, ticket, flag], shown, **quiet)
        back.click(events.back, [name, ticket], shown, **quiet)
        skip.click(events.skip, [name, ticket], shown, **quiet)
    return page


def _head() -> str:
    # not through `css=`, which rewrites the rules and spoils some
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return f"<style>{style}</style><script>{script}</script>"


def _told(event: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    @wraps(event)
    def told(*arguments: Any) -> list[Any]:
        try:
            return event(*arguments)
        except AlignvecError as error:
            gr.Warning(f"Nothing was saved: {error}", duration=None)  # an Error would cover the reply
            return [gr.skip()] * 5

    return told


class _Events:
    """What each event of the page does; every answer has values for progress, card, reminder, ticket and flag."""

    def __init__(self, queue: ReviewQueue, definitions: Definitions) -> None:
        self._queue = queue
        self._definitions = definitions

    def open(self, rater: str) -> list[Any]:
        """The name as it is in the page's address, and the rater's next reply."""
        return [rater, *self.begin(rater)]

    @_told
    def begin(self, rater: str) -> list[Any]:
        """Show the rater's next reply."""
        rater = rater.strip()
        return self._view(rater, self._next(rater))

    @_told
    def judge(self, level: str | None, rater: str, ticket: str, flag: str) -> list[Any]:
        """Save a verdict and show the next reply."""
        rater = rater.strip()
        problem = None if flag == NO_FLAG else flag
        if level is None and problem is None:
            return self._view(rater, self._here(rater, ticket), "Choose a level or a problem.")
        saved = bool(rater) and self._queue.judge(rater, ticket, level, problem)
        return self._view(rater, self._next(rater, after=ticket), "" if saved else _BEHIND)

    @_told
    def back(self, rater: str, ticket: str) -> list[Any]:
        """Show the reply judged before."""
        rater = rater.strip()
        before = self._queue.back(rater, ticket) if rater else None
        if before is None:
            return self._view(rater, self._here(rater, ticket), "There is nothing to go back to.")
        return self._view(rater, before)

    @_told
    def skip(self, rater: str, ticket: str) -> list[Any]:
        """Show another reply; the skipped one comes again after all others."""
        rater = rater.strip()
        if rater:
            self._queue.skip(rater, ticket)
        shown = self._next(rater, after=ticket)
        only = shown is not None and shown.ticket == ticket
        return self._view(rater, shown, "This is the only reply left." if only else "")

    def _next(self, rater: str, *, after: str | None = None) -> Shown | None:
        return self._queue.next(rater, after=after) if rater else None

    def _here(self, rater: str, ticket: str) -> Shown | None:
        return (self._queue.current(rater, ticket) if rater else None) or self._next(rater)

    def _view(self, rater: str, shown: Shown | None, notice: str = "") -> list[Any]:
        total = self._queue.total
        if shown is None:
            bar = progress(total, total, f"{total} of {total}") if rater else ""
            text = finished(total, notice) if rater else WELCOME
            return [bar, text, "", "", NO_FLAG]
        bar = progress(self._queue.rated(rater), total, f"{shown.number} of {total}")
        flags = FLAGS if shown.flag in (None, *FLAGS) else (*FLAGS, shown.flag)
        chosen = gr.Radio([NO_FLAG, *flags], value=shown.flag or NO_FLAG)
        meaning = reminder(self._definitions[shown.domain])
        return [bar, card(shown, notice), meaning, shown.ticket, chosen]


def _require_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()}; choose another --port or --host"
        ) from None
