"""The policy file: what is read, that each mistake is one line naming file and field, and that no key is shown."""

import math
from pathlib import Path

import pytest

from alignvec.errors import ConfigError
from alignvec.serve.errors import UnauthorizedError
from alignvec.serve.policy import keys
from alignvec.serve.policy.policy import Policy, load_policy, open_policy
from alignvec.steer.scale import Scale, scale_of
from alignvec.vectors.store import find_vectors, load_card

ROOT = Path(__file__).resolve().parents[3]
LEVELS = {"avoidance": -1.0, "generic": 0.0, "expert": 1.0}
MEDICAL = Scale("medical", LEVELS, (-1.0, 1.0), ((0.0, 0.0), (0.5, 0.4), (1.0, 1.0)))
SCALES = {"medical": MEDICAL, "safety": Scale("safety", {}, (0.0, 1.0)), "raw": Scale("raw")}
FIRST, SECOND = keys.new_key(), keys.new_key()


def write(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text.replace("HASH1", keys.key_hash(FIRST)).replace("HASH2", keys.key_hash(SECOND)))
    return path


def one(field: str) -> str:
    return f"keys:\n  - name: public\n    hash: HASH1\n{field}"


TWO = one("    requests_per_minute: 5\n") + "  - {name: boss, hash: HASH2, admin: true, vectors: {}}\n"


def test_each_key_has_its_own_rules_and_others_have_none(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, TWO))
    public, boss = policy.rules(FIRST), policy.rules(SECOND)
    assert (public.name, public.admin, public.requests_per_minute, public.max_tokens) == ("public", False, 5, None)
    assert (public.vectors, boss.vectors) == (None, {})
    assert (boss.name, boss.admin) == ("boss", True)
    for wrong in (None, "", "av-", FIRST[:-1], FIRST + " ", FIRST.upper(), "\ud800", keys.key_hash(FIRST)):
        with pytest.raises(UnauthorizedError) as caught:
            policy.rules(wrong)
        assert not wrong or wrong == "av-" or wrong not in str(caught.value)


def test_anonymous_rules_are_for_requests_without_a_key_only(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, TWO + "anonymous: {max_tokens: 7}\n"))
    assert (policy.rules(None).name, policy.rules(None).max_tokens) == ("anonymous", 7)
    with pytest.raises(UnauthorizedError):
        policy.rules("av-wrong")


def test_without_any_keys_a_key_is_not_looked_at(tmp_path: Path) -> None:
    assert open_policy().rules(None) == open_policy().rules("EMPTY")
    assert (open_policy().rules(None).name, open_policy().rules(None).admin) == ("local", True)
    anonymous = load_policy(write(tmp_path, "anonymous: {}\n"))
    assert (anonymous.rules("EMPTY").name, anonymous.rules(None).admin) == ("anonymous", False)


def test_every_hash_is_compared_wherever_the_key_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [keys.new_key() for _ in range(5)]
    seen: list[str] = []
    compare = keys.hmac.compare_digest
    monkeypatch.setattr(keys.hmac, "compare_digest", lambda a, b: seen.append(b) or compare(a, b))
    hashes = [keys.key_hash(key) for key in made]
    for at, key in enumerate([*made, "av-none"]):
        seen.clear()
        assert keys.matching(key, hashes) == (at if at < 5 else None)
        assert seen == hashes


def test_new_keys_are_long_and_never_the_same() -> None:
    made = {keys.new_key() for _ in range(100)}
    assert len(made) == 100
    assert {len(key) for key in made} == {3 + math.ceil(256 / 6)}
    assert keys.key_hash("abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["no YAML mapping"]),
        ("- a\n", ["no YAML mapping"]),
        ("keys: [\n", ["not valid YAML", "line 2"]),
        ("keys: \x00\n", ["not valid YAML"]),
        ("keys: !!python/object:os.system {}\n", ["not valid YAML", "line 1"]),
        ("a: 2024-99-99\n", ["not valid YAML"]),
        ("{}\n", ["the policy", "lets nobody in"]),
        ("keys: []\n", ["lets nobody in"]),
        ("keys:\n", ["keys", "is empty"]),
        ("kees: []\n", ["kees", "no such field", "keys, anonymous"]),
        ("anonymous: {hash: x}\n", ["anonymous.hash", "no such field", "max_tokens"]),
        ("keys: [{hash: HASH1}]\n", ["keys.0.name", "required"]),
        ("keys: [{name: a}]\n", ["keys.0.hash", "required"]),
        ("keys: [{name: a, hash: 'sha256:12'}]\n", ["keys.0.hash", "64 hexadecimal digits"]),
        ("keys: [{name: 'a b', hash: HASH1}]\n", ["keys.0.name"]),
        ('keys: [{name: "a\\n", hash: HASH1}]\n', ["keys.0.name"]),
        ("keys: [{name: anonymous, hash: HASH1}]\n", ["'anonymous'"]),
        ("keys: [{name: a, hash: HASH1}, {name: a, hash: HASH2}]\n", ["two keys are named 'a'"]),
        ("keys: [{name: a, hash: HASH1}, {name: b, hash: HASH1}]\n", ["same hash"]),
        (one("    admin: true\n    admin: false\n"), ["'admin' is there twice", "line 5"]),
        (one("    admin: 'yes'\n"), ["keys.0.admin"]),
        (one("    vectors:\n"), ["keys.0.vectors", "is empty"]),
        (one("    vectors: {medical: }\n"), ["keys.0.vectors.medical", "is empty"]),
        (one("    vectors: [medical]\n"), ["keys.0.vectors"]),
        (one("    vectors: {medical: {top: 1}}\n"), ["keys.0.vectors.medical.top", "have: min, max, default"]),
        (one("    vectors: {medical: {min: .nan}}\n"), ["keys.0.vectors.medical.min", "finite"]),
        (one("    vectors: {medical: {max: .inf}}\n"), ["keys.0.vectors.medical.max", "finite"]),
        (one(f"    vectors: {{medical: {{max: 1{'0' * 400}}}}}\n"), ["keys.0.vectors.medical.max", "finite"]),
        (one("    vectors: {medical: {max: true}}\n"), ["keys.0.vectors.medical.max", "finite"]),
        (one("    vectors: {medical: {max: []}}\n"), ["keys.0.vectors.medical.max", "finite"]),
        (one("    forced: {medical: null}\n"), ["keys.0.forced.medical", "is empty"]),
        ("keys: &all [*all]\n", ["cannot be read"]),
        (one("    vectors: {medical: {}}\n    forced: {medical: 0}\n"), ["keys.0", "medical", "one of them"]),
        (one("    forced: {medical: 0}\n"), ["public", "any other loaded vector free", "vectors: {}"]),
        ("anonymous: {forced: {medical: 0}}\n", ["anonymous", "any other loaded vector free", "vectors: {}"]),
        (one("    requests_per_minute: 0\n"), ["keys.0.requests_per_minute"]),
        (one("    requests_per_minute: 1.5\n"), ["keys.0.requests_per_minute"]),
        (one("    max_tokens: '5'\n"), ["keys.0.max_tokens"]),
        (one("    max_tokens: true\n"), ["keys.0.max_tokens"]),
    ],
)
def test_a_mistake_is_one_line_with_file_and_field(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_policy(path)
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in (str(path), *parts) if part not in message] == []


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=path.name):
            load_policy(path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="bytes.yaml"):
        load_policy(tmp_path / "bytes.yaml")


@pytest.mark.parametrize(
    "text",
    [
        f"keys: [{{name: public, hash: {FIRST}}}]",
        f"keys: [{{name: public, hash: [{FIRST}]}}]",
        f"keys: [{{name: public, hash: HASH1, {FIRST}: 1}}]",
        f"keys: [{{name: '{FIRST} ', hash: HASH1}}]",
        f"keys: {FIRST}",
        f"{FIRST}: 1\n{FIRST}: 2",
        f"keys: [*{FIRST}]",
        f"keys: !{FIRST} 1",
        f"keys: [{{name: public, hash: HASH1, forced: {{medical: [{FIRST}]}}}}]",
        f"keys: [{{name: public, hash: HASH1, key: {FIRST}, max_tokens: {FIRST}}}]",
    ],
    ids=lambda text: text.replace(FIRST, "KEY"),
)
def test_a_key_in_the_file_is_never_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_policy(write(tmp_path, text))
    assert FIRST[3:] not in f"{caught.value!r}{caught.value.__cause__!r}"


def test_no_object_shows_a_key_or_its_hash(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, TWO))
    rules = policy.rules(FIRST)
    shown = f"{policy!r}{rules!r}{rules}{rules.model_dump()}{rules.model_dump_json()}"
    assert FIRST[3:] not in shown
    assert keys.key_hash(FIRST)[7:] not in shown


def checked(folder: Path, field: str) -> Policy:
    policy = load_policy(write(folder, one(field)))
    policy.check(SCALES)
    return policy


def test_positions_are_levels_percentages_or_coefficients(tmp_path: Path) -> None:
    rules = checked(tmp_path, "    vectors: {medical: {min: avoidance, max: 70%}, raw: {}}\n    forced: {safety: 0.5}")
    bound = rules.rules(FIRST).bound(MEDICAL)
    assert bound is not None
    # 70 % lies halfway between the measured 40 % at λ = 0.5 and 100 % at λ = 1.
    assert (bound.low, bound.high, bound.rest, bound.forced) == (-1.0, pytest.approx(0.75), 0.0, False)


@pytest.mark.parametrize(
    ("field", "parts"),
    [
        ("    vectors: {medcal: {}}", ["vectors.medcal", "medical, safety, raw"]),
        ("    vectors: {}\n    forced: {medcal: 1}", ["forced.medcal", "medical, safety, raw"]),
        ("    vectors: {medical: {max: wizard}}", ["vectors.medical.max", "wizard", "expert"]),
        ("    vectors: {safety: {min: 50%}}", ["vectors.safety.min", "50%"]),
        ("    vectors: {}\n    forced: {safety: expert}", ["forced.safety", "expert"]),
        ("    vectors: {medical: {min: 1, max: avoidance}}", ["vectors.medical", "min (1) is above max (-1)"]),
        ("    vectors: {medical: {default: 0.5, max: 0}}", ["vectors.medical", "default (0.5) is above max (0)"]),
        ("    vectors: {medical: {min: 0, default: avoidance}}", ["min (0) is above default (-1)"]),
        ("    vectors: {medical: {min: 2}}", ["vectors.medical", "2 is outside", "-1 to 1"]),
        ("    vectors: {medical: {default: -1.5}}", ["vectors.medical", "default -1.5 is outside", "-1 to 1"]),
        ("    vectors: {}\n    forced: {safety: -0.5}", ["forced.safety", "-0.5 is outside", "0 to 1"]),
        ("    vectors: {}\n    forced: {raw: 1.0e+300}", ["forced.raw", "outside"]),
    ],
)
def test_what_does_not_fit_the_loaded_vectors_is_told(tmp_path: Path, field: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(tmp_path, field)
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in (str(tmp_path / "policy.yaml"), "public", *parts) if part not in message] == []


def test_anonymous_rules_are_checked_too(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, "anonymous: {vectors: {medcal: {}}}"))
    with pytest.raises(ConfigError, match="anonymous: vectors.medcal"):
        policy.check(SCALES)


def test_the_example_fits_the_shipped_vectors() -> None:
    policy = load_policy(ROOT / "recipes" / "policies" / "example.yaml")
    scales = {name: scale_of(load_card(place)) for name, place in find_vectors(ROOT / "vectors").items()}
    policy.check(scales)
    public, operator = policy.keys
    medical = public.bound(scales["medical"])
    assert medical is not None
    assert (medical.low, medical.high, medical.rest) == (-1.0, 0.0, -1.0)
    assert (public.max_tokens, public.admin, operator.admin, policy.rules(None).vectors) == (256, False, True, {})
