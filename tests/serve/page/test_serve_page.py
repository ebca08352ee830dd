"""The page in a real browser, on a service without a model whose replies name the setting."""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.serve.page.fake_service import FakeService, served

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome is installed")
EXPERT = "#panel-a .knob:has(#knob-a-0) .mark:has-text('expert')"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def service() -> Iterator[FakeService]:
    found = FakeService()
    with served(found) as address:
        found.address = address  # type: ignore[attr-defined]
        yield found


@pytest.fixture
def opened(browser: Any, service: FakeService) -> Iterator[Callable[..., Any]]:
    """Opens the page in a fresh browser profile; at the end nothing must have gone wrong or out."""
    contexts: list[Any] = []
    errors: list[str] = []
    asked: set[str] = set()
    service.key, service.pause = None, 0.0
    service.asked.clear()

    def open_page(address: str = service.address, **options: Any) -> Any:  # type: ignore[attr-defined]
        context = browser.new_context(viewport=options.pop("viewport", {"width": 1200, "height": 900}), **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.add(request.url))
        page.goto(address)
        page.wait_for_selector("#knob-a-0 input[type=range]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    outside = [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))]
    assert outside == [], "the browser asked others than the server"


def ask(page: Any, question: str) -> str:
    """The reply to a question that Enter sends."""
    before = page.locator("#chat .bot.message").count()
    page.fill("#question-chat textarea", question)
    page.press("#question-chat textarea", "Enter")
    page.wait_for_function(
        "n => { const all = document.querySelectorAll('#chat .bot.message');"
        "return all.length > n && all[all.length - 1].innerText.includes('that is all') }",
        arg=before,
    )
    return str(page.locator("#chat .bot.message").last.inner_text())


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
    page.fill("#question-chat textarea", "kept")
    page.press("#question-chat textarea", "Enter")
    page.wait_for_selector("#notice [role=alert]")
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


def test_a_key_is_used_for_every_call_and_kept_nowhere(opened: Callable[..., Any], browser: Any) -> None:
    secret = "sk-qzqz"
    service = FakeService(key=secret)
    with served(service) as address:
        page = opened(address)
        for key, message in (("wrong", "no such API key; check the key"), ("slow", "6 requests per minute; wait 10 s")):
            page.fill("#key input", key)
            page.fill("#question-chat textarea", "why?")
            page.press("#question-chat textarea", "Enter")
            page.wait_for_selector(f"#notice [role=alert]:has-text('{message}')")
        assert service.asked == []
        page.fill("#key input", "")
        page.fill("#question-chat textarea", "why?")
        page.press("#question-chat textarea", "Enter")
        page.wait_for_selector("#notice [role=alert]:has-text('enter yours above the knobs')")
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


def test_a_notice_is_seen_on_a_phone_wherever_one_is(opened: Callable[..., Any]) -> None:
    page = opened(viewport={"width": 390, "height": 740}, has_touch=True)
    page.fill("#knob-a-2 input[type=number]", "-0.5")
    page.fill("#question-chat textarea", "why?")
    page.press("#question-chat textarea", "Enter")
    page.wait_for_selector("#notice [role=alert]")
    assert page.evaluate("scrollY") > 0
    box = page.locator("#notice [role=alert]").bounding_box()
    assert 0 <= box["y"] < 740 - box["height"] and box["x"] >= 0 and box["x"] + box["width"] <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_has_no_horizontal_scrolling(opened: Callable[..., Any], scheme: str) -> None:
    page = opened(viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True)
    ask(page, "a" * 200)
    for tab in ("compare", "meter", "code", "chat"):
        page.click(f"#tab-{tab}-button")
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") == 360, tab
        wide = page.evaluate(
            "[...document.querySelectorAll('main button, main input, main textarea, .scale')]"
            ".filter(e => e.checkVisibility() && !e.closest('[aria-hidden=true]'))"
            ".filter(e => { const r = e.getBoundingClientRect(); return r.width && (r.left < 0 || r.right > 360) })"
            ".map(e => e.outerHTML.slice(0, 120))"
        )
        assert wide == [], tab


PAINT = """selector => {
  const dot = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const read = colour => { dot.clearRect(0, 0, 1, 1); dot.fillStyle = colour; dot.fillRect(0, 0, 1, 1);
    return [...dot.getImageData(0, 0, 1, 1).data] };
  const behind = element => { const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(read(getComputedStyle(e).backgroundColor));
    return layers };
  return [...document.querySelectorAll(selector)].filter(e => e.checkVisibility()).map(e => ({
    text: read(getComputedStyle(e).color), layers: behind(e), around: behind(e.parentElement) }));
}"""


def luminance(colour: list[float]) -> float:
    """Relative luminance, WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[float], other: list[float]) -> float:
    """Contrast ratio, WCAG 2.2."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def flat(layers: list[list[float]]) -> list[float]:
    """The colour of layers, topmost first, on a white sheet."""
    colour = [255.0, 255.0, 255.0]
    for *rgb, alpha in reversed(layers):
        colour = [c * alpha / 255 + below * (1 - alpha / 255) for c, below in zip(rgb, colour, strict=True)]
    return colour


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_aa(opened: Callable[..., Any], scheme: str) -> None:
    page = opened(color_scheme=scheme)
    ask(page, "why?")
    ground = luminance(flat(page.evaluate(PAINT, "#title")[0]["layers"]))
    assert (ground < 0.1) == (scheme == "dark")
    page.click("#tab-meter-button")
    page.click("#row input")
    page.locator("[role=option]").first.click()
    page.wait_for_timeout(300)
    page.click("#measure")
    page.wait_for_selector("table.meter")
    texts = ["h1", "h2", ".soft", ".reading", ".mark", ".knob label span", ".knob input[type=number]", "[role=tab]"]
    texts += ["#measure", "#reset-a", "#preset-save", "table.meter td", "table.meter th", "table.meter small"]
    texts += ["#meter-question p", "#meter-question summary", "#meter-choice span", "#row input"]
    measured = {selector: page.evaluate(PAINT, f"main {selector}") for selector in texts}
    page.click("#tab-chat-button")
    for selector in ("#chat .bot.message span", "#chat .user.message span", "#send-chat", "#stop-chat", "#clear"):
        measured[selector] = page.evaluate(PAINT, selector)
    for selector, found in measured.items():
        assert found, f"nothing at {selector}"
        for paint in found:
            back = flat(paint["layers"])
            assert contrast(flat([paint["text"], *paint["layers"]]), back) >= 4.5, selector
    # what is no text: the shaded range and the bars of the meter
    for selector in (".scale .band", "table.meter .track i"):
        page.click("#tab-meter-button")
        for paint in page.evaluate(PAINT, selector):
            least = 3 if "meter" in selector else 1.3  # the range is also named by its label
            assert contrast(flat(paint["layers"]), flat(paint["around"])) >= least, selector


def test_everything_has_a_name_and_shows_its_focus(opened: Callable[..., Any]) -> None:
    page = opened()
    snapshot = page.locator("main").aria_snapshot()
    for line in re.findall(r"- (?:slider|textbox|button|spinbutton|listbox|combobox)\b.*", snapshot):
        assert re.search(r'"[^"]+"', line), f"no name: {line}"
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        found = page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e);"
            "return e === document.body || !e.closest('main') ? null :"
            "[e.id || e.getAttribute('aria-label') || e.innerText, s.outlineStyle, parseFloat(s.outlineWidth)] })()"
        )
        if found:
            assert found[1] != "none" and found[2] >= 2, json.dumps(found)
            seen.add(found[0])
    assert {"reset-a", "set medical to expert, 1", "send-chat", "tab-compare-button", "preset-load"} <= seen
