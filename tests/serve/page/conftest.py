"""The page in a real browser, on a service without a model whose replies name the setting."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.serve.page.fake_service import FakeService, served

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("no chromium or google-chrome is installed")
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
