"""Snippets run through a real shell and Python's own parser; presets, sliders and the meter's table."""

import ast
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from alignvec.errors import AlignvecError
from alignvec.serve.page import presets, snippets
from alignvec.serve.page.meter import meter_html
from alignvec.serve.page.replies import plain, shown
from alignvec.serve.page.sliders import bounds, positions, scale_html, step
from alignvec.steer.scale import Scale

ADDRESS = "http://127.0.0.1:8000/"
NASTY = 'It\'s "quoted"\n$HOME `id` $(id) \\n \\ é 😀 !! {x} %s'
KNOBS = {"medical": 0.8, "legal": -0.15}


@pytest.mark.parametrize("question", [NASTY, "", "'", "''\"", "\\'", "plain"])
def test_the_shell_passes_the_question_on_unchanged(question: str, tmp_path: Path) -> None:
    command = snippets.curl(ADDRESS, "demo", question, KNOBS, key=True)
    subprocess.run(["bash", "-n"], input=command, text=True, check=True)
    (tmp_path / "curl").write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    (tmp_path / "curl").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", snippets.KEY_VARIABLE: "k'1"}
    ran = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, check=True)
    given = ran.stdout.decode().split("\0")[:-1]
    assert given[0] == "http://127.0.0.1:8000/v1/chat/completions"
    assert "Authorization: Bearer k'1" in given
    assert json.loads(given[given.index("-d") + 1]) == {
        "model": "demo",
        "messages": [{"role": "user", "content": question}],
        "alignment": KNOBS,
        "temperature": 0.7,
        "top_p": 0.9,
        "repetition_penalty": 1.1,
        "seed": 0,
    }


@pytest.mark.parametrize("question", [NASTY, "", "'''", '"""', "plain"])
def test_the_program_is_python_with_the_question_and_no_key(question: str) -> None:
    tree = ast.parse(snippets.python("https://host/base", "demo", question, KNOBS, key=True))
    calls = {ast.unparse(n.func): n for n in ast.walk(tree) if isinstance(n, ast.Call)}
    client = {k.arg: ast.unparse(k.value) for k in calls["OpenAI"].keywords}
    assert client == {"base_url": "'https://host/base/v1'", "api_key": "os.environ['ALIGNVEC_API_KEY']"}
    asked = {k.arg: ast.literal_eval(k.value) for k in calls["client.chat.completions.create"].keywords}
    assert asked["messages"] == [{"role": "user", "content": question}]
    assert asked["extra_body"] == {"alignment": KNOBS, "repetition_penalty": 1.1}
    assert (asked["temperature"], asked["top_p"], asked["seed"]) == (0.7, 0.9, 0)


def test_a_server_without_keys_needs_none_in_a_snippet() -> None:
    assert "Authorization" not in snippets.curl(ADDRESS, "demo", "x", {}, key=False)
    assert "environ" not in snippets.python(ADDRESS, "demo", "x", {}, key=False)


def test_presets_are_saved_replaced_loaded_and_deleted() -> None:
    kept = presets.save(presets.save({}, " ward ", {"medical": 1.0}), "ward", KNOBS)
    assert presets.values(kept, "ward", ["legal", "new"]) == [-0.15, 0.0]
    assert presets.delete(kept, "ward") == {}
    many = {str(i): {} for i in range(presets.MOST)}
    for wrong in (
        lambda: presets.save({}, "  ", {}),
        lambda: presets.save({}, "x" * 41, {}),
        lambda: presets.save(many, "more", {}),
        lambda: presets.values(kept, None, []),
        lambda: presets.delete(kept, "ward2"),
    ):
        with pytest.raises(AlignvecError):
            wrong()


@pytest.mark.parametrize("stored", [None, 3, [], "x", {"a": 1}, {1: {}}])
def test_what_is_no_preset_in_the_browser_is_left_out(stored: object) -> None:
    assert presets.read(stored) == {}


def test_a_preset_keeps_only_finite_numbers() -> None:
    stored = {"a": {"x": 1, "y": "2", "z": float("nan"), "t": True, "inf": float("inf")}}
    assert presets.read(stored) == {"a": {"x": 1.0}}


def test_a_slider_reaches_a_tenth_beyond_the_usable_range_and_every_level() -> None:
    assert bounds(Scale("x", {}, (-1.0, 1.0))) == (-1.2, 1.2)
    assert bounds(Scale("x", {}, (-1.5, 1.0))) == (-1.75, 1.25)
    assert bounds(Scale("x")) == (-1.5, 1.5)
    assert bounds(Scale("x", {"far": 2.0})) == (-1.5, 2.0)
    assert step(Scale("x", {"a": -1.0, "b": 0.35})) == 0.05
    assert step(Scale("x", {"a": 0.33})) == 0.01


def test_marks_stand_on_their_coefficient_and_the_range_is_shaded() -> None:
    html = scale_html(Scale("x", {"low": -1.0, "high": 1.0, "higher": 1.1}, (-1.0, 1.0)))
    at = dict(re.findall(r'data-value="([^"]+)" style="--at:([0-9.]+)', html))
    assert at == {"-1": "0.0833", "0": "0.5000", "1": "0.9167", "1.1": "0.9583"}
    assert re.findall(r"--row:(\d)", html) == ["0", "0", "0", "1"]  # crowded names go below
    assert "left:8.33%;width:83.33%" in html
    assert list(positions(Scale("x", {"high": 1.0}))) == ["base", "high"]
    assert "band" not in scale_html(Scale("x"))


def test_the_meter_shows_nats_and_the_difference_to_the_base() -> None:
    html = meter_html({"a<": -3.25, "b": -1.0}, {"a<": -3.5, "b": -1.125})
    assert re.findall(r"<td>([-+0-9.]+)</td>", html) == ["-3.250", "+0.250", "-1.000", "+0.125"]
    assert re.findall(r'<i style="width:([0-9.]+)%"', html) == ["18.75", "75.00"]  # on an axis from -4 to 0
    assert re.findall(r'<b style="left:([0-9.]+)%"', html) == ["12.50", "71.88"]
    assert "a&lt;" in html and "a<" not in html
    assert html.index("class=best") > html.index("a&lt;")


def test_a_chat_of_parts_becomes_plain_messages() -> None:
    history = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "options": 1}
    ]
    assert plain([*history, {"role": "assistant", "content": "c"}]) == [
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "c"},
    ]


@pytest.mark.parametrize("text", [NASTY, "<b>&amp;&lt;", "a & b &nbsp;"])
def test_a_text_is_the_same_after_it_was_shown(text: str) -> None:
    said = shown([{"role": "assistant", "content": text}])
    assert "<" not in said[0]["content"]
    assert plain(said) == [{"role": "assistant", "content": text}]
