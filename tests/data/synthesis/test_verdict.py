"""What a judge's answer says."""

import pytest

from alignvec.data.synthesis.replies import verdict
from alignvec.data.teacher.request import Answer

LEVELS = ("brief", "non-expert", "expert", "very_detailed", "detailed")


@pytest.mark.parametrize(
    ("said", "level"),
    [
        ("expert", "expert"),
        ("Expert.", "expert"),
        ("**expert**", "expert"),
        ("_expert_", "expert"),
        ("non expert", "non-expert"),
        ("Non-Expert", "non-expert"),
        ("Very detailed", "very_detailed"),
        ("The reply is detailed.", "detailed"),
        ("Kind: brief", "brief"),
        ("brief\n\nIt has one sentence and is not expert or detailed.", "brief"),
        ("<think>expert? no, brief</think>\ndetailed", "detailed"),
        ("expert or brief", None),
        ("This is certainly not expert", None),
        ("It is hard to say, but on the whole I would lean towards calling it expert", None),
        ("expertise", None),
        ("", None),
        ("?", None),
    ],
)
def test_a_verdict_is_one_level_named_plainly(said: str, level: str | None) -> None:
    assert verdict(Answer(said, "stop", 1, 1, "t"), LEVELS) == level


def test_a_verdict_that_was_cut_off_counts_only_if_it_came_first() -> None:
    assert verdict(Answer("it is not brief; between the expert", "length", 1, 1, "t"), LEVELS) is None
    assert verdict(Answer("I think expert", "length", 1, 1, "t"), LEVELS) is None
    assert verdict(Answer("expert\nbecause it", "length", 1, 1, "t"), LEVELS) == "expert"
