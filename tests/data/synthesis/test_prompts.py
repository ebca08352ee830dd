"""Published prompts: fields are checked, references change with the text."""

import shutil
from pathlib import Path

import pytest
import yaml

from alignvec.data.synthesis.prompts import FIELDS, PROMPTS, load_prompts
from alignvec.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PROMPTS, tmp_path / "prompts"))


def edit(folder: Path, step: str, /, **changes: str) -> None:
    path = folder / f"{step}.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def test_the_published_prompts_fill_in_and_use_what_their_step_knows() -> None:
    prompts = load_prompts()
    for step, names in FIELDS.items():
        messages = getattr(prompts, step).messages(**{name: f"<{name}>" for name in names})
        assert [role for role, _ in messages] == ["system", "user"]
        assert "{" not in messages[0][1] + messages[1][1]
    assert prompts.reply.messages(
        **dict.fromkeys(FIELDS["reply"] - {"query", "instruction"}, "-"), query="Why {x}?", instruction="Be kind."
    )[1] == ("user", "Why {x}?")


def test_the_judge_never_sees_the_level_asked_for() -> None:
    assert "level" not in FIELDS["judge"]
    assert "instruction" not in FIELDS["judge"]


def test_a_reference_has_the_version_and_follows_the_text(folder: Path) -> None:
    before = load_prompts(folder).query.reference
    assert before.startswith("query/1#")
    assert before == load_prompts().query.reference
    edit(folder, "query", user="Ask about {topic} as {persona}.")
    after = load_prompts(folder).query.reference
    assert after.startswith("query/1#")
    assert after != before
    edit(folder, "query", version="2")
    assert load_prompts(folder).query.reference == after.replace("query/1", "query/2")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"user": "About {levle}"}, r"unknown field \{levle\}"),
        ({"user": "As JSON: {}"}, r"unknown field \{\}"),
        ({"user": "broken { brace"}, "cannot read"),
        ({"user": "{attributes:d}"}, r"unknown field \{attributes:d\}"),
        ({"user": "{attributes!r}"}, r"unknown field \{attributes!r\}"),
        ({"user": "{attributes:{x}}"}, r"unknown field \{attributes:\{x\}\}"),
        ({"name": "reply"}, "name is 'reply'"),
        ({"user": ""}, "user"),
        ({"sytem": "x"}, "sytem"),
    ],
)
def test_a_faulty_prompt_is_named(folder: Path, changes: dict[str, str], said: str) -> None:
    edit(folder, "persona", **changes)
    with pytest.raises(DataError, match=said) as caught:
        load_prompts(folder)
    assert "persona.yaml" in str(caught.value)


def test_a_missing_prompt_is_named(folder: Path) -> None:
    (folder / "judge.yaml").unlink()
    with pytest.raises(DataError, match="needs persona, query, reply, judge"):
        load_prompts(folder)


def test_json_in_a_prompt_is_written_with_doubled_braces(folder: Path) -> None:
    edit(folder, "persona", user='Answer like {{"persona": "..."}}. {attributes}')
    assert load_prompts(folder).persona.messages(description="d", language="en", attributes="a")[1][1] == (
        'Answer like {"persona": "..."}. a'
    )
