"""One request's knobs: precedence, limits, forced and default positions, the usable range, and any JSON at all."""

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alignvec.serve.errors import BadRequestError, ForbiddenError, ServeError
from alignvec.serve.policy.rules import Rules
from alignvec.serve.resolve import resolve
from alignvec.serve.setting import Asked, Setting
from alignvec.steer.scale import Scale

LEVELS = {"avoidance": -1.0, "generic": 0.0, "expert": 0.8}
SCALES = {
    "medical": Scale("medical", LEVELS, (-1.0, 1.0), ((0.0, 0.0), (0.4, 0.25), (0.8, 1.0))),
    "legal": Scale("legal", LEVELS, (-1.5, 0.5), ((0.0, 0.0), (0.8, 1.0))),
    "safety": Scale("safety", {}, (0.0, 1.0)),
    "raw": Scale("raw"),
}


def rules(**fields: Any) -> Rules:
    made = Rules.model_validate({"name": "public", **fields})
    made.check(SCALES)
    return made


FREE = rules()
MEDICAL = {"vectors": {"medical": {"min": -1, "max": 0, "default": "avoidance"}}}


def get(*asked: Asked, by: Rules = FREE, strict: bool = False) -> Setting:
    return resolve(asked, SCALES, by, strict=strict)


def refused(error: type[ServeError], *asked: Any, by: Rules = FREE, strict: bool = False) -> str:
    with pytest.raises(error) as caught:
        get(*asked, by=by, strict=strict)
    assert caught.value.param == "alignment"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_asked_for_is_nothing_applied() -> None:
    assert get() == get({}, {}) == Setting()


def test_later_places_win_name_by_name() -> None:
    setting = get({"medical": 0.1, "legal": "expert"}, {"medical": "nonsense"}, {"medical": 0.8, "raw": 2})
    assert setting.requested == {"medical": 0.8, "legal": "expert", "raw": 2}
    assert setting.applied == {"medical": 0.8, "legal": 0.5, "raw": 2}
    assert setting.clamped == {"legal": (-1.5, 0.5)}


@pytest.mark.parametrize(
    ("written", "applied"),
    [("expert", 0.8), (" expert ", 0.8), ("generic", 0.0), ("25%", 0.4), ("62.5%", 0.6), ("0.5", 0.5), (-0.25, -0.25)],
)
def test_levels_percentages_and_numbers(written: float | str, applied: float) -> None:
    setting = get({"medical": written})
    assert setting.applied == {"medical": pytest.approx(applied)}
    assert setting.requested == {"medical": written}


def test_zero_is_kept_where_it_was_asked_for_and_has_no_sign() -> None:
    setting = get({"medical": -0.0})
    assert setting.applied == {"medical": 0.0}
    assert math.copysign(1, setting.applied["medical"]) == 1


NO_NUMBERS = [True, False, None, {}, {"a": 1}, [], [0.5], math.nan, math.inf, -math.inf, 10**400, 10**5000]
NO_TEXTS = ["", "Expert", "wizard", "101%", "%", "nan", "1e999", "0.5\n", "\ud800", "\ud800%", "9" * 10_000, "0.5 0.5"]


@pytest.mark.parametrize("at", range(len(NO_NUMBERS) + len(NO_TEXTS)))
def test_what_is_no_position_is_refused(at: int) -> None:
    value: Any = [*NO_NUMBERS, *NO_TEXTS][at]
    message = refused(BadRequestError, {"medical": value})
    assert "medical" in message
    assert len(message) < 250
    message.encode()


@pytest.mark.parametrize("asked", [None, 1, "medical=1", ["medical"], [["medical", 1]]])
def test_what_is_no_object_is_refused(asked: Any) -> None:
    assert "object" in refused(BadRequestError, asked)


def test_an_unknown_vector_is_named_with_those_that_are_loaded() -> None:
    message = refused(BadRequestError, {"medical": 0.5, "medcal": 0})
    assert "'medcal'" in message
    assert "medical, legal, safety, raw" in message
    assert len(refused(BadRequestError, {"x" * 10_000 + "\ud800": 1})) < 200


def test_too_many_knobs_are_refused_before_they_are_looked_at() -> None:
    assert "64" in refused(BadRequestError, {f"knob{i}": None for i in range(10_000)})
    assert "64" in refused(BadRequestError, {f"knob{i}": 0 for i in range(40)}, {f"knob{i}": 0 for i in range(39, 65)})
    assert "no vector" in refused(BadRequestError, {f"knob{i}": 0 for i in range(64)})


def test_far_values_are_cut_to_the_usable_range_or_refused() -> None:
    assert get({"medical": 1e308}).applied == {"medical": 1.0}
    assert get({"medical": -3}).clamped == {"medical": (-1.0, 1.0)}
    assert get({"raw": -1e308}) == Setting(requested={"raw": -1e308}, applied={"raw": -10}, clamped={"raw": (-10, 10)})
    assert "usable range -1 to 1" in refused(BadRequestError, {"medical": 1.01}, strict=True)
    assert get({"medical": 1}, strict=True).applied == {"medical": 1.0}


def test_a_limit_is_named_and_comes_before_the_usable_range() -> None:
    by = rules(vectors={"medical": {"min": -0.5, "max": 0}, "legal": {"max": "25%"}})
    assert refused(ForbiddenError, {"medical": 1}, by=by) == (
        "knob medical=1 is above this key's limit 0; ask for at most 0"
    )
    assert "medical=expert (λ = 0.8) is above this key's limit 0" in refused(
        ForbiddenError, {"medical": "expert"}, by=by
    )
    assert "below this key's limit -0.5; ask for at least -0.5" in refused(ForbiddenError, {"medical": -1e308}, by=by)
    assert "at most 0.2" in refused(ForbiddenError, {"legal": 0.21}, by=by, strict=True)
    assert get({"legal": 0.2, "medical": -0.5}, by=by).applied == {"legal": 0.2, "medical": -0.5}


def test_a_limit_copied_from_its_message_is_allowed() -> None:
    by = rules(vectors={"medical": {"max": "33%"}})
    message = refused(ForbiddenError, {"medical": 1}, by=by)
    assert get({"medical": float(message.split()[-1])}, by=by).applied["medical"] <= SCALES["medical"].coefficient(
        "33%"
    )


def test_only_the_keys_own_vectors_may_be_named() -> None:
    message = refused(ForbiddenError, {"legal": 0}, by=rules(**MEDICAL, forced={"safety": 0.5}))
    assert "may not turn legal" in message
    assert "it may turn: medical)" in message
    assert "it may turn: none)" in refused(ForbiddenError, {"legal": 0.1}, by=rules(vectors={}))


def test_a_default_is_applied_only_where_the_vector_is_not_named() -> None:
    by = rules(**MEDICAL)
    assert get(by=by) == Setting(applied={"medical": -1.0})
    assert get({"medical": 0}, by=by) == Setting(requested={"medical": 0}, applied={"medical": 0.0})


def test_a_public_key_cannot_lower_safety_by_leaving_it_out() -> None:
    by = rules(vectors={"safety": {"min": 0.5}, "medical": {"max": 0}})
    assert get(by=by) == Setting(applied={"safety": 0.5}, forced={"safety": 0.5})
    assert get({"safety": 0.7}, by=by) == Setting(requested={"safety": 0.7}, applied={"safety": 0.7})
    assert "at least 0.5" in refused(ForbiddenError, {"safety": 0}, by=by)
    negative = rules(vectors={"legal": {"max": -0.5}})
    assert get(by=negative).applied == {"legal": -0.5}


def test_a_forced_position_wins_and_may_not_be_contradicted() -> None:
    by = rules(forced={"safety": 0.5, "medical": "expert", "legal": 0})
    assert get({"raw": 1}, by=by) == Setting(
        requested={"raw": 1},
        applied={"medical": 0.8, "safety": 0.5, "raw": 1},
        forced={"safety": 0.5, "medical": 0.8, "legal": 0},
    )
    assert get({"safety": "0.5", "legal": 0}, by=by).applied == {"medical": 0.8, "safety": 0.5, "legal": 0}
    assert "safety=0.4 differs from 0.5" in refused(ForbiddenError, {"safety": 0.4}, by=by)
    assert "safety=1 differs from 0.5" in refused(ForbiddenError, {"safety": 1}, by=by)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["expert", "9%"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
KNOBS = st.dictionaries(st.sampled_from([*SCALES, "other"]), JSON | st.floats() | st.floats(-2, 2), max_size=4)
GIVEN = rules(vectors={"medical": {"min": -0.5, "max": 0}, "legal": {"min": 0.1}, "raw": {}}, forced={"safety": 0.5})


@given(asked=st.lists(JSON | KNOBS, max_size=3), by=st.sampled_from([FREE, GIVEN]), strict=st.booleans())
@example(asked=[{"medical": 10**5000}], by=FREE, strict=False)
@example(asked=[{"legal": 10**5000, "raw": "1" * 5000}], by=GIVEN, strict=True)
def test_any_json_is_a_setting_within_the_limits_or_refused(asked: list[Any], by: Rules, strict: bool) -> None:
    try:
        setting = resolve(asked, SCALES, by, strict=strict)
    except ServeError as error:
        assert error.status in (400, 403)
        str(error).encode()
        return
    ranges = {"medical": (-1, 1), "legal": (-1.5, 0.5), "safety": (0, 1), "raw": (-10, 10)}
    if by is GIVEN:
        ranges |= {"medical": (-0.5, 0), "legal": (0.1, 0.5), "safety": (0.5, 0.5)}
        assert setting.applied["safety"] == 0.5
        assert setting.applied["legal"] >= 0.1
    assert all(ranges[name][0] <= value <= ranges[name][1] for name, value in setting.applied.items())
    assert setting.requested.keys() <= setting.applied.keys()
    assert not (strict and setting.clamped)
    setting.model_dump_json()
