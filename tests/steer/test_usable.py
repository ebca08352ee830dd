"""Coefficients cut to the range in which a vector is known to work."""

from hypothesis import given
from hypothesis import strategies as st

from alignvec.steer.usable import cut, outside

RANGES = {"medical": (-1.0, 0.5), "legal": (0.0, 0.0)}


def test_what_is_outside_is_cut_and_told_and_the_rest_is_as_it_was() -> None:
    knobs = {"medical": 2.0, "legal": -0.25, "free": 99.0}
    assert cut(knobs, RANGES) == ({"medical": 0.5, "legal": 0.0, "free": 99.0}, RANGES)
    assert cut({"medical": -1.0}, RANGES) == ({"medical": -1.0}, {})
    assert cut({}, RANGES) == ({}, {})


def test_it_is_told_with_its_range() -> None:
    assert outside("medical=2", (-1.0, 0.5)) == "knob medical=2 is outside its usable range -1 to 0.5"


@given(st.dictionaries(st.sampled_from([*RANGES, "free"]), st.floats(allow_nan=False)))
def test_every_knob_ends_up_inside_and_only_those_that_were_not_are_told(knobs: dict[str, float]) -> None:
    within, told = cut(knobs, RANGES)
    assert within.keys() == knobs.keys()
    assert all(RANGES[name][0] <= within[name] <= RANGES[name][1] for name in within.keys() & RANGES.keys())
    assert told.keys() == {name for name in knobs if within[name] != knobs[name]}
    assert cut(within, RANGES) == (within, {})
