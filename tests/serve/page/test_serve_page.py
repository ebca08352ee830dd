"""What the page does, in a real browser."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.serve.page.asking import EXPERT, ask, refusal
from tests.serve.page.fake_service import FakeService, served


def reading(page: Any, place: int = 0) -> str:
    return str(page.locator("#panel-a .reading").nth(place).inner_text())


def until(true: Callable[[], bool]) -> None:
    for _ in range(200):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("it never came true")


def test_moving_a_slider_changes_the_reply_of_the_same_chat(opened: Callable[..., Any]) -> None:
    page = opened()
    assert "<b>I</b> was asked a <b> & &lt;? under base with 1 messages" in ask(page, "a <b> & &lt;?")
    page.click(EXPERT)
    assert "asked why? under medical=1 with 3 messages" in ask(page, "why?")
    assert reading(page) == "expert"
    page.focus("#knob-a-0 input[type=range]")
    page.keyboard.press("ArrowLeft")
    assert page.input_value("#knob-a-0 input[type=number]") == "0.95"
    page.wait_for_function("document.querySelector('#panel-a .reading').innerText === 'near expert'")
    assert "under medical=0.95 with 5" in ask(page, "why?")
    page.click("#reset-a")
    page.wait_for_function("document.querySelector('#panel-a .reading').innerText === 'generic'")
    page.click("#clear")
    page.wait_for_selector("#chat .bot.message", state="detached")
    assert "under base with 1 messages" in ask(page, "again?")


def test_a_value_that_is_cut_or_forbidden_is_said_in_one_line(opened: Callable[..., Any]) -> None:
    page = opened()
    page.fill("#knob-a-0 input[type=number]", "1.2")
    assert "under medical=1 with 1 messages" in ask(page, "why?")
    assert page.inner_text("#notice [role=status]") == "medical is cut to its usable range, -1 to 1"
    page.fill("#knob-a-0 input[type=number]", "50")
    assert "under medical=1 with 3 messages" in ask(page, "further?")
    page.fill("#knob-a-2 input[type=number]", "-0.5")
    refusal(page, "kept", "knob 'own'")
    assert page.inner_text("#notice").strip() == "knob 'own' may not be below 0 with this key; raise it to 0"
    assert page.input_value("#question-chat textarea") == "kept"


def test_both_settings_of_a_comparison_are_asked_at_the_same_time(
    opened: Callable[..., Any], service: FakeService
) -> None:
    page = opened()
    assert not page.is_visible("#panel-b")
    page.click("#tab-compare-button")
    page.fill("#knob-a-0 input[type=number]", "-0.5")
    page.fill("#knob-b-1 input[type=number]", "0.75")
    service.pause, service.most_running = 0.02, 0
    page.fill("#question-compare textarea", "which?")
    page.click("#send-compare")
    for place, knobs in (("a", "medical=-0.5"), ("b", "legal=0.75")):
        page.wait_for_selector(f"#reply-{place} :text('asked which? under {knobs} with 1 messages, and that is all')")
    assert service.most_running == 2


def test_what_is_typed_while_a_reply_streams_is_the_next_question(
    opened: Callable[..., Any], service: FakeService
) -> None:
    page = opened()
    service.pause = 0.2
    page.fill("#question-chat textarea", "first?")
    page.press("#question-chat textarea", "Enter")
    page.wait_for_selector("#chat .bot.message :text('was')")
    page.fill("#question-chat textarea", "and then?")
    page.press("#question-chat textarea", "Enter")  # too early
    page.wait_for_selector("#chat .bot.message :text('that is all')")
    assert page.input_value("#question-chat textarea") == "and then?"
    service.pause = 0.0
    assert "asked and then? under base with 3 messages" in ask(page, "and then?")
    assert len(service.asked) == 2


@pytest.mark.parametrize("how", ["stop", "close"])
def test_stop_and_closing_the_page_free_the_row(opened: Callable[..., Any], service: FakeService, how: str) -> None:
    page = opened()
    service.pause = 2.0
    page.fill("#question-chat textarea", "long?")
    page.press("#question-chat textarea", "Enter")
    until(lambda: service.running == 1)
    page.wait_for_selector("#chat .bot.message :text('I')")
    if how == "stop":
        page.click("#stop-chat")
    else:
        page.close()
    until(lambda: service.running == 0)
    assert len(service.asked) == 1


def test_presets_survive_a_reload(opened: Callable[..., Any]) -> None:
    page = opened()
    page.click(EXPERT)
    page.fill("#preset-name input", "ward")
    page.press("#preset-name input", "Enter")
    page.wait_for_function("document.querySelector('#preset input').value === 'ward'")
    page.reload()
    page.wait_for_selector("#knob-a-0 input[type=range]")
    assert page.input_value("#knob-a-0 input[type=number]") == "0"
    page.click("#preset input")
    page.click("[role=option]:has-text('ward')")
    page.click("#preset-load")
    page.wait_for_function("document.querySelector('#knob-a-0 input[type=number]').value === '1'")
    page.click("#preset-delete")
    page.wait_for_function("document.querySelector('#preset input').value === ''")
    page.click("#preset-load")
    page.wait_for_selector("#notice :text('choose a preset first')")


def test_the_meter_follows_the_knobs(opened: Callable[..., Any]) -> None:
    page = opened()
    page.click("#tab-meter-button")
    page.click("#measure")
    page.wait_for_selector("#notice :text('choose a question first')")
    page.click("#row input")
    page.locator("[role=option]").first.click()
    page.wait_for_selector("#meter-question .query")
    page.click("#measure")
    page.wait_for_selector("table.meter")
    assert page.locator("table.meter tbody tr").all_inner_texts()[0].split()[-2:] == ["-3.500", "+0.000"]
    page.click(EXPERT)
    page.wait_for_selector("table.meter :text('+0.250')")
    page.focus("#knob-a-0 input[type=range]")
    page.keyboard.press("Home")  # -1.2, cut to -1
    page.wait_for_selector("table.meter :text('-0.250')")


@pytest.mark.parametrize("allowed", [True, False])
def test_snippets_are_copied_with_and_without_a_clipboard(opened: Callable[..., Any], allowed: bool) -> None:
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    if not allowed:
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')) }")
    page.click(EXPERT)
    page.fill("#question-chat textarea", "it's $5 `now`")
    page.click("#tab-code-button")
    page.click("#copy-curl")
    page.wait_for_selector("#copied :text('Copied.')")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.input_value("#snippet textarea")
    assert copied.startswith(f"curl {page.url}v1/chat/completions") and '"alignment": {"medical": 1.0}' in copied
    page.click("#copy-python")
    page.wait_for_function("document.querySelector('#snippet textarea').value.includes('OpenAI')")


def test_a_key_is_used_for_every_call_and_kept_nowhere(opened: Callable[..., Any]) -> None:
    secret = "sk-qzqz"
    service = FakeService(key=secret)
    with served(service) as address:
        page = opened(address)
        for key, message in (
            ("wrong", "no such API key; check the key"),
            ("slow", "6 requests per minute; wait 10 s"),
            ("", "enter yours above the knobs"),
        ):
            page.fill("#key input", key)
            page.press("#key input", "Tab")
            page.wait_for_selector(f"#notice [role=alert]:has-text('{message}')")
            page.click("#clear")
            page.wait_for_selector("#notice [role=alert]", state="detached")
            refusal(page, "why?", message)
        assert service.asked == []
        page.fill("#key input", secret)
        assert page.get_attribute("#key input", "type") == "password"
        assert "under base with 1 messages" in ask(page, "why?")
        page.fill("#preset-name input", "mine")
        page.click("#preset-save")
        page.wait_for_function("document.querySelector('#preset input').value === 'mine'")
        page.click("#tab-code-button")
        page.click("#copy-curl")
        page.wait_for_function("document.querySelector('#snippet textarea').value.includes('$ALIGNVEC_API_KEY')")
        assert secret not in page.input_value("#snippet textarea")
        stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
        assert "alignvec-presets" in stored and secret not in stored
        page.reload()
        page.wait_for_selector("#key input")
        assert page.input_value("#key input") == ""


def test_the_sliders_go_to_the_defaults_of_the_key_that_is_entered(opened: Callable[..., Any]) -> None:
    with served(FakeService(key="sk-other")) as address:
        page = opened(address)
        page.fill("#key input", "clinic")
        page.press("#key input", "Tab")
        page.wait_for_function("document.querySelector('#knob-a-0 input[type=number]').value === '1'")
        assert "under medical=1 legal=-0.5 with 1 messages" in ask(page, "why?")
        page.fill("#knob-a-0 input[type=number]", "0.5")
        page.focus("#key input")
        page.press("#key input", "Tab")
        assert "under medical=0.5 legal=-0.5 with 3 messages" in ask(page, "and now?")
