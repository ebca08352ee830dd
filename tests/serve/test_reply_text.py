"""Text from tokens, held against cutting the whole text."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignvec.serve.text import WINDOW, ReplyText


class Table:
    """A tokenizer whose tokens are given bytes."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.decoded = 0

    def decode(self, tokens: list[int], **_: Any) -> str:
        self.decoded += len(tokens)
        return b"".join(self.pieces[t] for t in tokens).decode(errors="replace")


def cut_at_first_stop(text: str, stops: list[str]) -> str:
    """The text before the stop string that is complete first, found by growing the text letter by letter."""
    for end in range(len(text) + 1):
        if ends := [stop for stop in stops if text[:end].endswith(stop)]:
            return text[: end - max(map(len, ends))]
    return text


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(raw), *(p % (len(raw) + 1) for p in places)})
    return [raw[a:b] for a, b in pairwise(marks)]


@settings(max_examples=400, derandomize=True, deadline=None)
@given(
    st.text(st.sampled_from("abé€😀 "), max_size=40),
    st.lists(st.integers(0, 200), max_size=60),
    st.lists(st.text(st.sampled_from("abé€😀"), min_size=1, max_size=4), max_size=4),
)
def test_pieces_are_the_text_before_the_first_stop(text: str, places: list[int], stops: list[str]) -> None:
    pieces = cut(text.encode(), places)
    reply = ReplyText(Table(pieces), (), stops)
    parts, sent = [], ""
    wanted = cut_at_first_stop(text, stops)
    for token in range(len(pieces)):
        parts.append(reply.push(token))
        sent += parts[-1]
        assert wanted.startswith(sent), (pieces, stops)
        if reply.stopped:
            break
    parts.append(reply.finish())
    assert "".join(parts) == wanted
    assert reply.stopped == (wanted != text or any(stop in text for stop in stops))


def test_decoding_does_not_grow_with_the_reply() -> None:
    table = Table([b"word ", b"\xff"])
    reply = ReplyText(table)
    for _ in range(2000):
        reply.push(0)
    assert table.decoded < 4 * 2000
    for _ in range(2000):
        reply.push(1)
    assert table.decoded < (WINDOW + 4) * 4000


def test_spaces_between_prompt_and_reply_stay(tiny_folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(vocab={"▁Hello": 0, "▁world": 1, "!": 2}, merges=[]))
    raw.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw)
    reply = ReplyText(tokenizer, [0])
    assert [reply.push(1), reply.push(1), reply.push(2), reply.finish()] == [" world", " world", "!", ""]


@pytest.mark.parametrize("raw", [b"a\xff\xffb", b"\xe2\x82", b"\x80abc"])
def test_what_is_not_utf8_comes_out_as_replacement(raw: bytes) -> None:
    pieces = [bytes([byte]) for byte in raw]
    reply = ReplyText(Table(pieces))
    assert "".join([*map(reply.push, range(len(pieces))), reply.finish()]) == raw.decode(errors="replace")
