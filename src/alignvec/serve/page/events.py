"""What each event of the page does; every answer ends with the notice, one line of HTML."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from alignvec.data.schema import PreferenceRow
from alignvec.errors import AlignvecError
from alignvec.serve.ask import METER
from alignvec.serve.errors import MissingKeyError
from alignvec.serve.merged import merged
from alignvec.serve.page import presets, snippets
from alignvec.serve.page.meter import meter_html, question_html
from alignvec.serve.page.replies import applied, plain, remark, reply, shown
from alignvec.serve.setting import Setting

if TYPE_CHECKING:
    from alignvec.serve.service import Service


class Events:
    """The handlers of one page; what belongs to a visitor is in the visitor's browser and comes as arguments.

    Args:
        service: answers the requests.
        rows: domain to the reference questions of the meter.
        needs_key: whether requests need an API key.
    """

    def __init__(self, service: "Service", rows: Mapping[str, Sequence[PreferenceRow]], *, needs_key: bool) -> None:
        self._service = service
        self._rows = {row.id: row for found in rows.values() for row in found}
        self._needs_key = needs_key
        self.vectors = tuple(service.engine.scales)

    async def chat(self, question: str, history: list[Any], key: str, *values: float) -> AsyncIterator[list[Any]]:
        """Stream the next reply; yields question box, chat, notice. A refused question goes back into its box.

        The box is emptied once: what is typed while the reply streams is the next question.
        """
        messages = [*plain(history), {"role": "user", "content": question}]
        try:
            setting = applied(self._service, key, self._knobs(values))
            yield ["", shown([*messages, {"role": "assistant", "content": "…"}]), notice(remark(setting))]
            async with aclosing(reply(self._service, key, messages, setting)) as texts:
                async for text, turned in texts:
                    answer = {"role": "assistant", "content": text}
                    yield [gr.skip(), shown([*messages, answer]), notice(remark(turned))]
        except AlignvecError as error:
            yield [question, shown(plain(history)), notice(error)]

    async def compare(self, question: str, key: str, *values: float) -> AsyncIterator[list[Any]]:
        """Stream both replies at once; yields the chats of A and B, and the notice. A's sliders come first."""
        half = len(values) // 2
        try:
            settings = [applied(self._service, key, self._knobs(part)) for part in (values[:half], values[half:])]
            asked = [{"role": "user", "content": question}]
            replies = [reply(self._service, key, asked, setting) for setting in settings]
            both = ["", ""]
            yield [*_both(question, both), _remarks(settings)]
            async with aclosing(merged(replies)) as texts:
                async for place, (text, turned) in texts:
                    both[place], settings[place] = text, turned
                    yield [*_both(question, both), _remarks(settings)]
        except AlignvecError as error:
            yield [gr.skip(), gr.skip(), notice(error)]

    def rest(self, key: str, before: str) -> list[Any]:
        """Where the sliders of both panels go when another key was entered, that key, and the notice."""
        stay = [gr.skip() for _ in self.vectors] * 2
        if key == before:
            return [*stay, gr.skip(), gr.skip()]
        try:
            setting = self._service.setting(self._service.rules(key or None), [])
        except AlignvecError as error:
            return [*stay, key, notice(error)]
        sliders = [setting.applied.get(name) or gr.skip() for name in self.vectors]
        return [*sliders, *sliders, key, notice(remark(setting))]

    def question(self, row_id: str | None) -> list[Any]:
        """The chosen reference question, and an empty meter."""
        return [question_html(self._rows[row_id]) if row_id in self._rows else "", "", ""]

    async def follow(self, row_id: str | None, key: str, *values: float) -> list[Any]:
        """`measure` again, after a knob was turned; without a question nothing changes."""
        return await self.measure(row_id, key, *values) if row_id else [gr.skip(), gr.skip()]

    async def measure(self, row_id: str | None, key: str, *values: float) -> list[Any]:
        """Likelihoods of the reference replies, and the notice."""
        row = self._rows.get(row_id or "")
        if row is None:
            return [gr.skip(), notice("choose a question first")]
        try:
            setting = applied(self._service, key, self._knobs(values), METER)
            found = await self._service.preference(row, setting, self._service.rules(key or None))
        except AlignvecError as error:
            return [gr.skip(), notice(error)]
        return [meter_html(found["now"], found["base"]), notice(remark(setting))]

    def curl(self, address: str, asked: str, history: list[Any], *values: float) -> str:
        """The question and knobs as a curl command."""
        return snippets.curl(*self._request(address, asked, history, values), key=self._needs_key)

    def python(self, address: str, asked: str, history: list[Any], *values: float) -> str:
        """The question and knobs as a Python program."""
        return snippets.python(*self._request(address, asked, history, values), key=self._needs_key)

    def list_presets(self, stored: Any) -> Any:
        """The choices of the list of presets."""
        return gr.Dropdown(choices=list(presets.read(stored)), value=None)

    def save_preset(self, stored: Any, name: str, *values: float) -> list[Any]:
        """What the browser stores, the list of presets, the box of the name, and the notice."""
        try:
            kept = presets.save(presets.read(stored), name, self._knobs(values))
        except AlignvecError as error:
            return [gr.skip(), gr.skip(), gr.skip(), notice(error)]
        return [kept, gr.Dropdown(choices=list(kept), value=name.strip()), "", ""]

    def delete_preset(self, stored: Any, name: str | None) -> list[Any]:
        """What the browser stores, the list of presets, and the notice."""
        try:
            kept = presets.delete(presets.read(stored), name)
        except AlignvecError as error:
            return [gr.skip(), gr.skip(), notice(error)]
        return [kept, gr.Dropdown(choices=list(kept), value=None), ""]

    def load_preset(self, stored: Any, name: str | None) -> list[Any]:
        """The sliders' values, and the notice."""
        try:
            return [*presets.values(presets.read(stored), name, self.vectors), ""]
        except AlignvecError as error:
            return [*(gr.skip() for _ in self.vectors), notice(error)]

    def _knobs(self, values: Sequence[float]) -> dict[str, float]:
        return dict(zip(self.vectors, map(float, values), strict=True))

    def _request(
        self, address: str, asked: str, history: list[Any], values: Sequence[float]
    ) -> tuple[str, str, str, dict[str, float]]:
        earlier = [message["content"] for message in plain(history) if message["role"] == "user"]
        question = (asked.strip() and asked) or (earlier[-1] if earlier else "Hello")
        knobs = {name: value for name, value in self._knobs(values).items() if value}
        return address, self._service.options.model, question, knobs


def _both(question: str, replies: Sequence[str]) -> list[list[dict[str, str]]]:
    asked = {"role": "user", "content": question}
    return [shown([asked, {"role": "assistant", "content": text or "…"}]) for text in replies]


def _remarks(settings: Sequence[Setting]) -> str:
    return notice("; ".join(f"{name}: {remark(s)}" for name, s in zip("AB", settings, strict=True) if remark(s)))


def notice(what: AlignvecError | str) -> str:
    """An error, or a remark, as one line that a screen reader says."""
    role = "alert" if isinstance(what, AlignvecError) else "status"
    if isinstance(what, MissingKeyError):
        what = "this server wants an API key; enter yours above the knobs"
    return f'<p role="{role}" class="{role}">{escape(str(what))}</p>' if str(what) else ""
