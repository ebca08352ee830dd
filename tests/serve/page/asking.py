"""What the tests of the page in a browser share."""

from typing import Any

EXPERT = "#panel-a .knob:has(#knob-a-0) .mark:has-text('expert')"


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
