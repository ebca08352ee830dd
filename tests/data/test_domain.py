"""Domain files: the shipped ones, ones of users, faulty ones."""

from pathlib import Path

import pytest
import yaml

from alignvec.data.domain import DOMAINS, load_domain
from alignvec.data.languages import LANGUAGES
from alignvec.data.load import SHIPPED, load_rows
from alignvec.data.schema import LEVELS
from alignvec.errors import DataError

LEVEL = {"instruction": "Answer.", "words": [5, 30]}
OWN = {
    "name": "gardening",
    "description": "plants and soil",
    "topics": ["roses", "compost"],
    "personas": {"age": ["young", "old"]},
    "levels": {
        "brief": {"instruction": "Answer in one sentence.", "words": [5, 30]},
        "long": {"instruction": "Explain.", "words": [40, 90]},
    },
}


def own(folder: Path, **changes: object) -> str:
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in {**OWN, **changes}.items() if v is not None}))
    return str(path)


@pytest.mark.parametrize("name", ["medical", "legal", "financial"])
def test_the_shipped_domains_describe_the_shipped_data(name: str) -> None:
    domain = load_domain(name)
    assert domain.name == name
    assert tuple(domain.levels) == LEVELS
    assert [level.answers for level in domain.levels.values()] == [False, True, True]
    rows = load_rows(SHIPPED / f"{name}.jsonl")
    for level, asked in domain.levels.items():
        words = [len(row.responses[level].split()) for row in rows]
        inside = sum(asked.words[0] <= n <= asked.words[1] for n in words)
        assert inside >= 0.99 * len(rows), (level, min(words), max(words))


def test_every_shipped_recipe_is_short_and_parses() -> None:
    paths = sorted(DOMAINS.glob("*.yaml"))
    assert len(paths) >= 3
    for path in paths:
        assert len(path.read_text().splitlines()) < 25
        assert load_domain(str(path)) == load_domain(path.stem)


def test_levels_have_any_number_and_names(tmp_path: Path) -> None:
    domain = load_domain(own(tmp_path))
    assert list(domain.levels) == ["brief", "long"]
    assert domain.language == "en"
    assert domain.levels["brief"].answers


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"levels": {"one": {"instruction": "x", "words": [1, 2]}}}, "two levels"),
        ({"levels": {**OWN["levels"], "bad": {"instruction": "x", "words": [9, 9]}}}, r"levels.bad.words"),  # type: ignore[dict-item]
        ({"levels": {**OWN["levels"], "Bad Name": {"instruction": "x", "words": [1, 9]}}}, "Bad Name"),  # type: ignore[dict-item]
        ({"topics": []}, "topics"),
        ({"topics": None}, "topics"),
        ({"personas": {}}, "personas"),
        ({"personas": {"age": []}}, "personas.age"),
        ({"language": "english"}, "language"),
        ({"language": "xx"}, "language: .*does not know 'xx'; it knows .*, de, .*, zh"),
        ({"language": False}, 'language: .*quotes, as in language: "no"'),
        ({"topics": ["roses", "compost", " Roses"]}, "topics: 'roses' is there twice"),
        ({"personas": {"topics": ["a"], "age": ["old", "young", "old"]}}, "personas.age: 'old' is there twice"),
        ({"personas": {"age": ["old"], "Age": ["young"]}}, "personas: 'age' is there twice"),
        ({"levels": {"non-expert": LEVEL, "expert": LEVEL, "non_expert": LEVEL}}, r"levels: .*'nonexpert'.*rename one"),
        ({"colour": "red"}, "colour"),
        ({"name": "../up"}, "name"),
    ],
)
def test_a_faulty_file_is_told_with_its_place(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        load_domain(own(tmp_path, **changes))
    assert "own.yaml" in str(caught.value)


def changed(level: dict[str, object]) -> dict[str, object]:
    return {"levels": {"brief": LEVEL, "long": level}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"topics": "skin"}, "topics: must be a list, as in [one, two]"),
        ({"personas": {"age": "young"}}, "personas.age: must be a list, as in [one, two]"),
        ({"topics": []}, "topics: needs one entry or more"),
        ({"topics": [7]}, "topics.0: must be text; put quotes around it"),
        ({"personas": ["age"]}, "personas: must be entries with names, as in name: value"),
        ({"name": "My Garden"}, "name: is no name; use a-z, 0-9, - and _, a letter or digit first"),
        ({"description": None}, "description: is missing"),
        (
            {"levels": {"Bad": LEVEL, "b": LEVEL}},
            "levels.Bad: is no name; use a-z, 0-9, - and _, a letter or digit first",
        ),
        (
            changed({"instruction": "x", "words": [9, 2]}),
            "levels.long.words: needs [fewest, most] words with 0 < fewest",
        ),
        (changed({"instruction": "x", "words": [1, 2, 3]}), "levels.long.words: has too many entries"),
        (
            changed({"instuction": "x", "words": [1, 9]}),
            "levels.long.instuction: unknown name 'instuction' (have: instruction, words, answers)",
        ),
        (
            {"topics": None, "topic": ["roses"]},
            "topic: unknown name 'topic' (have: name, description, language, topics, personas, keywords, levels)",
        ),
        (
            {"topics": ["a", "a"]},
            "the file: topics: 'a' is there twice; keep one",
        ),
    ],
)
def test_a_complaint_is_in_words_of_the_file(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(DataError) as caught:
        load_domain(own(tmp_path, **changes))
    assert str(caught.value).startswith(f"{tmp_path / 'own.yaml'}: {said}")


def test_all_levels_of_a_query_are_asked_for_in_one_length_from_the_common_band(tmp_path: Path) -> None:
    domain = load_domain("medical")
    low = max(level.words[0] for level in domain.levels.values())
    high = min(level.words[1] for level in domain.levels.values())
    drawn = [{domain.length(level, f"row {n}", 3) for level in domain.levels} for n in range(400)]
    assert all(len(one) == 1 for one in drawn)
    lengths = {one.pop() for one in drawn}
    assert min(lengths) == low < high == max(lengths)
    assert len(lengths) == high - low + 1
    apart = load_domain(own(tmp_path))
    for level, asked in apart.levels.items():
        lengths = {apart.length(level, f"row {n}", 0) for n in range(400)}
        assert (min(lengths), max(lengths)) == asked.words


def test_unknown_missing_and_unreadable_domains_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no domain named 'medcal' \(have: financial, legal, medical\)"):
        load_domain("medcal")
    with pytest.raises(DataError, match="no domain file"):
        load_domain(str(tmp_path / "none.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(DataError, match="must be YAML"):
        load_domain(str(tmp_path / "bad.yaml"))
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(DataError, match="the file"):
        load_domain(str(tmp_path / "list.yaml"))


def test_the_languages_are_those_of_the_language_gate() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    known = {code for code, _ in LanguageIdentifier.from_model_file(MODEL_FILE).rank("a")}
    assert list(LANGUAGES) == sorted(known - {"zxx"})


def test_norwegian_is_a_language_in_quotes(tmp_path: Path) -> None:
    path = own(tmp_path, language="no")
    assert load_domain(path).language == "no"
    Path(path).write_text(Path(path).read_text().replace("'no'", "no"))
    with pytest.raises(DataError, match="in quotes"):
        load_domain(path)


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    path = Path(own(tmp_path))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_domain(str(path)).name == "gardening"


@pytest.mark.parametrize(
    ("part", "key", "line"),
    [
        ("levels:\n  low: {instruction: a, words: [1, 9]}\n  high: {instruction: b, words: [1, 9]}", "low", 4),
        ("personas: {age: [old]}\ntopics: [a]", "topics", 3),
    ],
)
def test_a_key_that_is_there_twice_is_told_with_its_line(tmp_path: Path, part: str, key: str, line: int) -> None:
    repeated = {"low": "\n  low: {instruction: c, words: [1, 9]}", "topics": "\ntopics: [b]"}[key]
    (tmp_path / "own.yaml").write_text(part + repeated)
    with pytest.raises(DataError, match=f"own.yaml: the key '{key}' is there twice, again on line {line};"):
        load_domain(str(tmp_path / "own.yaml"))


def test_a_mapping_may_override_what_it_merges(tmp_path: Path) -> None:
    path = Path(own(tmp_path, levels=None))
    path.write_text(
        path.read_text() + "levels:\n  low: &low {instruction: a, words: [1, 9]}\n  high: {<<: *low, instruction: b}\n"
    )
    assert [level.instruction for level in load_domain(str(path)).levels.values()] == ["a", "b"]
