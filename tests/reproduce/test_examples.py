"""Examples over λ from a sweep's replies."""

from pathlib import Path

import pytest

from alignvec.errors import ConfigError, DataError
from alignvec.evaluate.sweep_record import Reply
from alignvec.reproduce.examples import CUT, WIDTH, examples, load_replies, tables

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def reply(row: str, value: float, text: str = "One two three four five.", degenerate: bool = False) -> Reply:
    return Reply(row=row, query=f"Why\n{row}?", coefficient=value, reply=text, level="expert", degenerate=degenerate)


REPLIES = [reply(row, value) for value in (1.0, -1.5, 0.0, -1.0) for row in ("b", "a")]


def test_the_first_queries_are_shown_in_the_order_of_the_sweep_and_lambda_ascends() -> None:
    found = examples(REPLIES, vector="medical", count=1)
    (only,) = found.asked
    assert (only.row, only.query) == ("b", "Why b?")
    assert [one.coefficient for one in only.replies] == [-1.0, 0.0, 1.0]
    assert [one.row for one in examples(REPLIES, vector="medical", count=9).asked] == ["b", "a"]
    assert len(examples(REPLIES, vector="m", low=-1.5).asked[0].replies) == 4


@pytest.mark.parametrize(("words", "shown"), [(5, "One two three four five."), (3, f"One two three {CUT}")])
def test_a_reply_is_cut_at_so_many_words(words: int, shown: str) -> None:
    assert examples(REPLIES, vector="m", words=words).asked[0].replies[0].reply == shown


def test_tables_of_the_shipped_sweeps_fit_a_terminal() -> None:
    for domain in ("medical", "legal", "financial"):
        replies = load_replies(RESULTS / domain / "replies.jsonl")
        found = tables(examples(replies, vector=domain, count=2))
        assert len(found) == 2
        for table in found:
            assert table.rows[0][0] == "-1" and table.rows[-1][0] == "1" and len(table.rows) == 5
            cells = [[max(map(len, cell.split("\n"))) for cell in row] for row in (table.columns, *table.rows)]
            assert sum(max(row[i] for row in cells) for i in range(3)) + 4 <= 80
            assert all(len(line) <= 80 for line in table.title.split("\n"))
        assert replies[0].query.split()[0] in found[0].title


def test_broken_and_empty_replies_are_told() -> None:
    (table,) = tables(examples([reply("a", 0.0, "", degenerate=True)], vector="m"))
    assert table.rows == (("0", "expert, broken", "(empty)".ljust(WIDTH)),)


def test_what_cannot_be_shown_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use 1 or more"):
        examples(REPLIES, vector="m", count=0)
    with pytest.raises(DataError, match="no replies of m at λ from 2 to 3"):
        examples(REPLIES, vector="m", low=2.0, high=3.0)
    with pytest.raises(DataError, match="row a has no reply at λ = -1"):
        examples(REPLIES[:-1], vector="m")
    with pytest.raises(DataError, match="no file at .*alignvec sweep"):
        load_replies(tmp_path / "replies.jsonl")
    (tmp_path / "replies.jsonl").write_text('{"row": "a"}\n')
    with pytest.raises(DataError, match=r"replies.jsonl:1: query: Field required"):
        load_replies(tmp_path / "replies.jsonl")
