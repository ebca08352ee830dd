"""What the tests of the page in a browser share."""

import json
from typing import Any

from playwright.sync_api import TimeoutError as PressAgain

EXPERT = "#panel-a .knob:has(#knob-a-0) .mark:has-text('expert')"
_PRESSES = 3


def send(page: Any, question: str, answered: str) -> None:
    """Send a question with Enter until JavaScript finds it answered.

    The page lets an Enter fall, and keeps the text, while it is still ending the last answer; one presses again then.
    """
    page.fill("#question-chat textarea", question)
    for press in range(1, _PRESSES + 1):
        page.press("#question-chat textarea", "Enter")
        try:
            page.wait_for_function(answered, timeout=15_000)
            return
        except PressAgain:
            kept = page.input_value("#question-chat textarea") == question
            if press == _PRESSES or not kept:
                raise


def ask(page: Any, question: str) -> str:
    """The reply to a question that Enter sends."""
    asked = page.locator("#chat .user.message").count()
    send(page, question, f"document.querySelectorAll('#chat .user.message').length > {asked}")
    page.wait_for_function(
        "n => { const all = document.querySelectorAll('#chat .bot.message');"
        "return all.length > n && all[all.length - 1].innerText.includes('that is all') }",
        arg=asked,
    )
    return str(page.locator("#chat .bot.message").last.inner_text())


def refusal(page: Any, question: str, line: str) -> None:
    """Wait until a question that Enter sends is refused with a line that has this text."""
    send(page, question, f"document.querySelector('#notice [role=alert]')?.innerText.includes({json.dumps(line)})")
