"""Knobs as text: what is read, what is refused, and that writing and reading are inverse."""

import math
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alignvec.errors import KnobError
from alignvec.steer.knobs import check_knobs, format_knobs, join_knobs, parse_knobs
from alignvec.steer.scale import Scale

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,10}", fullmatch=True)
SCALES = {
    "medical": Scale(
        "medical",
        {"avoidance": -0.75, "generic": 0.0, "expert": 1.25},
        None,
        ((0, 0), (0.5, 0.2), (0.75, 0.2), (1.25, 1)),
    )
}


@pytest.mark.parametrize(
    ("text", "knobs"),
    [
        ("medical=0.5", {"medical": 0.5}),
        ("medical=0.5,legal=-0.3", {"medical": 0.5, "legal": -0.3}),
        (" medical = 1 , legal = -.5e-1 ", {"medical": 1.0, "legal": -0.05}),
        ("medical=0", {"medical": 0.0}),
        ("", {}),
        ("   ", {}),
        ("base", {}),
    ],
)
def test_knobs_are_read(text: str, knobs: dict[str, float]) -> None:
    assert parse_knobs(text) == knobs


@given(st.dictionaries(NAMES, st.floats(allow_nan=False, allow_infinity=False), max_size=4))
@example({"medical": 1 / 3})
def test_what_is_written_is_read_back(knobs: dict[str, float]) -> None:
    assert parse_knobs(format_knobs(knobs)) == knobs


@pytest.mark.parametrize(
    ("knobs", "text"),
    [({}, "base"), ({"medical": 1.0}, "medical=1"), ({"medical": 0.5, "legal": -0.3}, "medical=0.5,legal=-0.3")],
)
def test_short_numbers_are_written_short(knobs: dict[str, float], text: str) -> None:
    assert format_knobs(knobs) == text


@given(st.text(alphabet="ab=,.-+e019 \n∞", max_size=20))
def test_any_text_gives_finite_knobs_or_a_knob_error(text: str) -> None:
    try:
        knobs = parse_knobs(text)
    except KnobError as error:
        assert str(error)
    else:
        assert all(math.isfinite(value) for value in knobs.values())
        assert len(knobs) == (0 if text.strip() in ("", "base") else text.count(",") + 1)


@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-inf", "Infinity", "1e999", "-1e999"])
def test_a_coefficient_that_is_not_finite_is_refused(value: str) -> None:
    with pytest.raises(KnobError, match=f"knob 'medical': {value} is not a finite number"):
        parse_knobs(f"medical={value}")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_coefficient_that_is_not_finite_is_refused_in_code_too(value: float) -> None:
    with pytest.raises(KnobError, match=f"'medical' has coefficient {value}"):
        check_knobs({"medical": value}, ["medical"])


def test_a_knob_given_twice_is_refused() -> None:
    with pytest.raises(KnobError, match="knob 'medical' is given twice"):
        parse_knobs("medical=0.5,legal=1,medical=0.5")


@pytest.mark.parametrize(
    "text", ["medical", "=0.5", "medical=", "medical= ", ",", "medical=0.5,", "base,medical=1", "="]
)
def test_malformed_knobs_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(KnobError, match=r"cannot read knob '.*'; write it like medical=0.5"):
        parse_knobs(text)


@pytest.mark.parametrize("value", ["half", "0,5", "0.5;legal=1", "1=2", "0x1"])
def test_a_coefficient_that_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(KnobError):
        parse_knobs(f"medical={value}")


def test_levels_are_looked_up_in_the_settings() -> None:
    assert parse_knobs("medical=expert,legal=0.5", scales=SCALES) == {"medical": 1.25, "legal": 0.5}
    assert parse_knobs("medical=avoidance", scales=SCALES) == {"medical": -0.75}
    assert parse_knobs("medical=0.1", scales=SCALES) == {"medical": 0.1}


@pytest.mark.parametrize(
    ("percent", "coefficient"), [("0%", 0), ("10%", 0.25), ("20%", 0.5), ("60%", 1), ("100%", 1.25)]
)
def test_a_percentage_is_a_share_of_the_way_to_the_highest_level(percent: str, coefficient: float) -> None:
    assert parse_knobs(f"medical={percent}", scales=SCALES)["medical"] == pytest.approx(coefficient)


@pytest.mark.parametrize("percent", ["-1%", "101%", "nan%", "%", "x%", "inf%"])
def test_other_percentages_are_refused(percent: str) -> None:
    with pytest.raises(KnobError, match="is not between 0% .* and 100%"):
        parse_knobs(f"medical={percent}", scales=SCALES)


def test_a_percentage_of_a_vector_without_levels_means_nothing() -> None:
    with pytest.raises(KnobError, match="names no levels"):
        parse_knobs("legal=50%", scales=SCALES)


def test_an_unknown_level_lists_the_levels_of_that_vector_only() -> None:
    with pytest.raises(
        KnobError, match=r"'wizard' is not a number, a level \(avoidance, generic, expert\) or a percentage"
    ):
        parse_knobs("medical=wizard", scales=SCALES)
    with pytest.raises(KnobError, match=r"'expert' is not a number; write it like legal=0.5"):
        parse_knobs("legal=expert", scales=SCALES)


def test_an_unknown_vector_lists_what_is_loaded() -> None:
    with pytest.raises(KnobError, match=r"no vector named 'medcal' is loaded \(have: medical, legal\)"):
        check_knobs({"legal": 1.0, "medcal": 0.0}, ["medical", "legal"])
    with pytest.raises(KnobError, match=r"\(have: none\)"):
        check_knobs({"medical": 0.5}, [])


def test_a_solved_setting_is_read_from_its_file_with_levels_as_positions(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("routed: true\nsettings: {a=b: {knobs: {medical: expert, legal: -0.5}}, c=d: {knobs: {}}}")
    wanted = {"medical": 1.25, "legal": -0.5}
    for text in (f"@{path}#a=b", f"  @{path}#a=b "):
        assert parse_knobs(text, scales=SCALES) == parse_knobs(text, scales=SCALES, router=True) == wanted
    assert parse_knobs(f"@{path}#c=d") == {}
    with pytest.raises(KnobError, match="solved with a router"):
        parse_knobs(f"@{path}#a=b", scales=SCALES, router=False)
    with pytest.raises(KnobError, match="knob 'medical': 'expert' is not a number"):
        parse_knobs(f"@{path}#a=b")


def test_several_texts_are_one_setting_unless_one_of_them_is_whole_by_itself() -> None:
    assert parse_knobs(join_knobs(["medical=1", "legal=0.5"])) == {"medical": 1.0, "legal": 0.5}
    assert join_knobs(["@s.yaml#a=b"]) == "@s.yaml#a=b"
    with pytest.raises(KnobError, match="only --knob"):
        join_knobs(["medical=1", " @s.yaml#a=b"])
