"""The review page in a real browser: keys, going back, reload, a killed server, and what the browser is told."""

import json
import shutil
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from alignvec.data.review.ratings import Rating, load_ratings
from tests.e2e.review_clients import Reader, Server, Wire, written_for

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome is installed")]
LEVELS = ("evasive", "everyday", "learned")  # words that the texts do not have


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    words = ("no comment", "a walk helps", "check the hip")
    path.write_text(
        "".join(
            json.dumps(
                {
                    "id": f"qzrow-{i}",
                    "split": "test",
                    "domain": "veterinary",
                    "topic": "dogs",
                    "persona": f"qzowner {i}",
                    "query": f"Why does my dog limp, asks number {i}?",
                    "responses": {
                        level: f"Reply {word}, number {i}." for level, word in zip(LEVELS, words, strict=True)
                    },
                }
            )
            + "\n"
            for i in range(4)
        )
    )
    return path


@pytest.fixture
def server(rows_file: Path, tmp_path: Path) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = Server(rows_file, tmp_path / "ratings.jsonl", port, more=("--rater", "ann"))
    yield found
    if found.process and found.process.poll() is None:
        found.process.kill()
        found.process.communicate()


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    found = Wire(server.port)
    yield found
    found.close()


@pytest.fixture
def reader() -> Iterator[Reader]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield Reader(browser.new_context().new_page())
        browser.close()


def test_keys_reload_and_a_killed_server(server: Server, reader: Reader, wire: Wire) -> None:
    said: dict[str, tuple[str | None, str | None]] = {}  # reply to level and flag
    server.start()
    reader.open(wire.address)
    assert reader.page.input_value("#rater input") == "ann"
    assert reader.progress == "1 of 12"

    reader.page.focus("#rater input")  # keys typed into the name are no verdicts
    reader.page.keyboard.press("End")
    reader.page.keyboard.type("1")
    reader.page.keyboard.press("Backspace")
    reader.page.keyboard.press("Escape")
    assert reader.progress == "1 of 12"

    said[reader.press("1")] = (LEVELS[0], None)
    said[reader.press("2")] = (LEVELS[1], None)
    said[reader.press("f", "3", "2")] = (LEVELS[1], "not fluent")
    said[reader.press("Shift+Digit2", "Enter")] = (None, "unsafe")
    said[reader.press("3")] = (LEVELS[2], None)
    assert reader.progress == "6 of 12"

    sixth = reader.press("u")
    assert reader.progress == "5 of 12"
    assert f"You said: {LEVELS[2]}." in reader.notice
    changed = reader.press("1")
    assert said[changed] == (LEVELS[2], None)
    said[changed] = (LEVELS[0], None)
    assert (reader.reply, reader.progress) == (sixth, "6 of 12")

    reader.reload()
    assert (reader.reply, reader.progress) == (sixth, "6 of 12")
    assert reader.press("s") == sixth
    assert reader.progress == "6 of 12"
    said[reader.press("2")] = (LEVELS[1], None)

    assert server.end(signal.SIGKILL)[0] == -signal.SIGKILL
    server.start()
    reader.open(wire.address)
    assert reader.progress == "7 of 12"
    while "judged all 12" not in reader.notice:
        said[reader.press("3")] = (LEVELS[2], None)
    assert reader.progress == "12 of 12"
    code, out = server.end(signal.SIGINT)
    assert code == 0
    assert "ann: 6 ratings saved, 12 of 12 replies judged" in out
    assert str(server.out) in out

    ratings = load_ratings(server.out)
    expected = {written_for(server.rows, reply): verdict for reply, verdict in said.items()}
    assert len(expected) == 12
    assert {r.reply: (r.level, r.flag) for r in ratings} == expected
    assert {r.rater for r in ratings} == {"ann"}
    assert all(r.time for r in ratings)
    lines = server.out.read_text().splitlines()
    assert len(lines) == 13  # one was changed
    assert Rating.model_validate_json(lines[4]).level == LEVELS[2]
    assert Rating.model_validate_json(lines[5]).level == LEVELS[0]
    assert reader.errors == []


def test_nothing_that_reaches_the_browser_tells_the_level(server: Server, reader: Reader, wire: Wire) -> None:
    server.start()
    reader.open(wire.address)
    page = wire.received
    for level in LEVELS:  # the buttons, before any reply was asked for
        assert level in page
    others = [row["responses"].values() for row in map(json.loads, server.rows.read_text().splitlines())]
    seen: list[str] = []
    while len(seen) < 12:
        now = reader.reply
        seen.append(now)
        news = wire.received[len(page) :] if len(seen) > 1 else page[page.index('"process_completed"') :]
        assert now in news
        told = [text for texts in others for text in texts if text in news]
        assert told == [now], "more than the reply that is shown"
        if len(seen) > 1:
            for level in LEVELS:
                assert level not in news
        assert "qzrow" not in wire.received and "qzowner" not in wire.received
        page = wire.received
        reader.press("1")
    here = {address.split("/")[2] for address in reader.asked if not address.startswith(("data:", "blob:"))}
    assert here == {wire.address.split("/")[2]}, "the browser asked others than the server"
    for path in (server.rows, server.out):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.address}gradio_api/file={path}")
        assert refused.value.code in (403, 404)


def test_the_levels_of_a_build_are_explained_on_a_key_and_keys_are_shown(server: Server, reader: Reader) -> None:
    levels = {level: {"instruction": f"Definition {i}.", "words": [5, 50]} for i, level in enumerate(LEVELS)}
    plan = {"rows": {"domain.name": "veterinary", "domain.levels": levels}}
    (server.rows.parent / "build.json").write_text(json.dumps(plan))
    server.start()
    reader.open(server.address)
    assert not reader.page.locator("#reminder dl").is_visible()
    reader.page.keyboard.press("h")
    reader.page.wait_for_selector("#reminder dl")
    assert reader.page.locator("#reminder dd").all_inner_texts() == [f"Definition {i}." for i in range(3)]
    shown = "([place, part]) => getComputedStyle(document.querySelector(place), part).content"
    keys = {
        place: reader.page.evaluate(shown, [place, part])
        for place, part in (
            ("#levels button", "::before"),
            ("#back", "::before"),
            ("#skip", "::before"),
            ("#flags > span", "::after"),
            ("#reminder summary", "::after"),
        )
    }
    assert list(keys.values()) == ["counter(key)", '"u"', '"s"', '"f, then a number"', '"h"']


def test_several_raters_at_once_and_the_summary_as_json(server: Server, reader: Reader, wire: Wire) -> None:
    server.more = ("--json", "--seed", "5")
    server.start()
    reader.page.goto(wire.address)
    reader.page.wait_for_selector("#card .notice")
    assert "Type your name" in reader.notice
    reader.page.keyboard.press("1")  # nobody yet: no verdict
    other = reader.page.context.new_page()
    second = Reader(other)
    for who, name in ((reader, "ann"), (second, "ben")):
        if who is second:
            other.goto(wire.address)
            other.wait_for_selector("#card .notice")
        who.page.fill("#rater input", f" {name} ")
        who.page.keyboard.press("Enter")
        who.wait()
    expected = {}
    for _ in range(3):
        for who, name, key in ((reader, "ann", "1"), (second, "ben", "2")):
            reply = who.press(key)
            expected[(name, *written_for(server.rows, reply))] = LEVELS[int(key) - 1]
    second.reload()  # the address remembers the name
    assert (second.progress, second.page.input_value("#rater input")) == ("4 of 12", "ben")
    expected[("ben", *written_for(server.rows, second.press("3")))] = LEVELS[2]
    code, out = server.end(signal.SIGINT)
    assert code == 0
    assert json.loads(out) == {
        "file": str(server.out),
        "replies": 12,
        "raters": {"ann": {"saved": 3, "judged": 3}, "ben": {"saved": 4, "judged": 4}},
    }
    assert {(r.rater, *r.reply): r.level for r in load_ratings(server.out)} == expected


def test_a_verdict_that_cannot_be_saved_is_told_and_the_reply_stays(server: Server, reader: Reader, wire: Wire) -> None:
    server.start()
    reader.open(wire.address)
    before = reader.reply
    server.out.write_text("somebody's note\n")
    reader.page.keyboard.press("1")
    reader.page.wait_for_selector(".toast-body")
    told = reader.page.inner_text(".toast-body")
    assert "Nothing was saved" in told and "ratings.jsonl:1: not valid JSON; mend the line" in told
    assert (reader.reply, reader.progress) == (before, "1 of 12")
    server.out.write_text("")
    assert reader.press("1") == before
    assert [r.reply for r in load_ratings(server.out)] == [written_for(server.rows, before)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_all_fits_and_the_level_buttons_are_in_reach(
    server: Server, reader: Reader, wire: Wire, scheme: str
) -> None:
    rows = [json.loads(line) for line in server.rows.read_text().splitlines()]
    for row in rows:
        row["responses"] = {level: text * 60 for level, text in row["responses"].items()}
    server.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
    server.start()
    reader.page.emulate_media(color_scheme=scheme)
    reader.page.set_viewport_size({"width": 390, "height": 844})
    reader.open(wire.address)
    assert reader.page.evaluate("document.documentElement.scrollWidth") == 390
    assert reader.page.evaluate("document.documentElement.scrollHeight") > 844
    for level in LEVELS:
        box = reader.page.get_by_role("button", name=level).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
        assert box["y"] > 600 and box["y"] + box["height"] <= 844
        assert box["height"] >= 44  # a finger's width
    colours = reader.page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, "
        "getComputedStyle(document.querySelector('#card .reply')).color]"
    )
    brightness = [sum(map(int, colour.strip("rgb()").split(","))) / 3 for colour in colours]
    assert (
        (brightness[0] > 200 and brightness[1] < 80)
        if scheme == "light"
        else (brightness[0] < 40 and brightness[1] > 200)
    )
