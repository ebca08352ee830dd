"""How the page looks: phones, contrast, names and focus."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.serve.page.asking import ask, refusal


def test_a_notice_is_seen_on_a_phone_wherever_one_is(opened: Callable[..., Any]) -> None:
    page = opened(viewport={"width": 390, "height": 740}, has_touch=True)
    page.fill("#knob-a-2 input[type=number]", "-0.5")
    refusal(page, "why?", "knob 'own'")
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
