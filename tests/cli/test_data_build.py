"""`alignvec data build` and its steps: what is printed where, estimates, bad input in one line."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from alignvec.data.load import load_rows
from alignvec.data.synthesis.settings import expected
from alignvec.data.teacher import pace
from alignvec.data.teacher.request import Answer, Request
from alignvec.evaluate.bulk import in_process
from alignvec.tiny_model import write_tiny_model
from alignvec.vectors.fingerprint import fingerprint
from tests.cli.running import Command, assert_told, prepared
from tests.data.synthesis.building import SETTINGS, fickle
from tests.scripted_teacher import serving


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.setattr(pace, "FIRST_WAIT", 0.01)
    return prepared(monkeypatch, capsys, tmp_path)


def build(url: str, out: Path, *more: object, step: str = "build") -> tuple[object, ...]:
    return ("data", step, "--domain", "medical", "--teacher-url", url, "--teacher-model", "s", "--out", out, *more)


def test_a_build_prints_counts_and_makes_a_data_set_that_loads(run: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving() as teacher:
        done = run(*build(teacher.url, out, "--personas", 8))
    assert done.code == 0, done.err
    assert "120 answers in" in done.out
    assert f"data: {out / 'rows.jsonl'}" in done.out
    assert "about 120 requests" in done.err
    import datasets

    rows = load_rows(out / "rows.jsonl")
    loaded = datasets.load_dataset(str(out / "dataset"))
    assert sorted(one["id"] for split in loaded.values() for one in split) == sorted(row.id for row in rows)
    card = (out / "dataset/README.md").read_text()
    assert SETTINGS.prompts.reply.reference in card


def test_json_is_the_report_alone(run: Command, tmp_path: Path) -> None:
    with serving() as teacher:
        done = run(*build(teacher.url, tmp_path / "out", "--personas", 2, "--json"))
    report = json.loads(done.out)
    assert report["rows"]["made"] == 4
    assert report["dataset"] == str(tmp_path / "out/dataset")
    assert report["spending"]["answers"] == 30


@pytest.mark.parametrize(("options", "judged"), [((), True), (("--no-judge",), False)])
def test_an_estimate_asks_for_nothing_and_is_near(
    run: Command, tmp_path: Path, options: tuple[str, ...], judged: bool
) -> None:
    prices = ("--price-in", 1, "--price-out", 2, *options)
    with serving() as teacher:
        done = run(*build(teacher.url, tmp_path / "out", "--personas", 20, "--estimate", "--json", *prices))
        assert (done.code, teacher.bodies) == (0, [])
        assert not (tmp_path / "out").exists()
        estimate = json.loads(done.out)
        spent = json.loads(run(*build(teacher.url, tmp_path / "out", "--personas", 20, "--json", *prices)).out)[
            "spending"
        ]
    settings = SETTINGS if judged else SETTINGS.model_copy(update={"judge": None})
    assert estimate["requests"] == expected(settings, ("personas", "queries", "rows"), 20, 40, invented=True).requests
    assert estimate["requests"] == spent["answers"] == len(teacher.bodies)
    assert estimate["money"] == pytest.approx((estimate["prompt_tokens"] + 2 * estimate["completion_tokens"]) / 1e6)
    assert 0.8 < estimate["prompt_tokens"] / spent["prompt_tokens"] < 1.25


def test_the_steps_run_one_by_one_in_one_folder(run: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving() as teacher:
        for step, more, file in (
            ("personas", ("--personas", 3), "personas"),
            ("queries", ("--queries-per-persona", 1), "queries"),
            ("replies", ("--no-judge", "--limit", 2), "rows"),
        ):
            done = run(*build(teacher.url, out, *more, step=step))
            assert done.code == 0, done.err
            assert (out / f"{file}.jsonl").read_text()
    assert len(load_rows(out / "rows.jsonl")) == 2
    assert len((out / "queries.jsonl").read_text().splitlines()) == 3


def test_the_estimate_of_a_step_is_for_what_is_in_the_folder(run: Command, tmp_path: Path) -> None:
    out, people = tmp_path / "out", tmp_path / "people.txt"
    people.write_text("A shepherd in Wales with a bad knee.\nA pilot based in Oslo who sleeps badly.\n")

    def asked(url: str, step: str, *more: object) -> tuple[int, int]:
        found = json.loads(run(*build(url, out, *more, "--estimate", "--json", step=step)).out)
        return found["requests"], found["kept"]

    with serving() as teacher:
        assert asked(teacher.url, "build", "--personas-from", people) == (2 * 2 * 7, 0)
        assert run(*build(teacher.url, out, "--personas", 3, step="personas")).code == 0
        assert asked(teacher.url, "queries", "--queries-per-persona", 4) == (12, 3)
        assert run(*build(teacher.url, out, step="queries")).code == 0
        assert asked(teacher.url, "replies") == (6 * 6, 9)
        assert asked(teacher.url, "replies", "--limit", 2, "--no-judge") == (2 * 3, 9)
    missing = run(*build("http://127.0.0.1:9", out, "--personas-from", tmp_path / "none.txt", "--estimate"))
    assert_told(missing, "no personas at")


def test_counts_are_whole_in_a_narrow_terminal(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with serving(answer=fickle) as teacher:
        done = run(*build(teacher.url, tmp_path / "out", "--personas", 12))
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert f"  {'personas:':<20} 12 made" in done.out
    for level, counts in report["replies"].items():
        (line,) = [line for line in done.out.splitlines() if line.startswith(f"  replies, {level}:")]
        assert all(f"{gate} {count}" in line for gate, count in (counts["failed"] | counts["retried"]).items() if count)


def test_limit_builds_from_the_first_personas_only(run: Command, tmp_path: Path) -> None:
    with serving() as teacher:
        done = run(*build(teacher.url, tmp_path / "out", "--personas", 50, "--limit", 2, "--json"))
    assert json.loads(done.out)["personas"]["made"] == 2


def test_a_budget_that_is_used_up_is_one_line_and_a_larger_one_goes_on(run: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving() as teacher:
        done = run(*build(teacher.url, out, "--personas", 4, "--budget-tokens", 6000))
        assert_told(done, "BudgetError", "6,000 tokens leaves no room", "larger budget goes on")
        asked = len(teacher.bodies)
        assert 0 < asked < 60
        assert run(*build(teacher.url, out, "--personas", 4)).code == 0
        assert len(teacher.bodies) == 60


def test_another_judge_may_be_elsewhere(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-teacher")
    with serving() as teacher, serving() as judge:
        options = ("--personas", 2, "--judge-url", judge.url, "--judge-model", "wise")
        assert run(*build(teacher.url, tmp_path / "out", *options)).code == 0
    assert {body["model"] for body in judge.bodies} == {"wise"}
    assert all("bearer sk-teacher" in head.lower() for head in teacher.heads)
    assert not any("sk-teacher" in head for head in judge.heads), "the teacher's key went to another server"
    assert {body["model"] for body in teacher.bodies} == {"s"}
    assert len(judge.bodies) == 12
    made = load_rows(tmp_path / "out/rows.jsonl")[0].provenance
    assert made is not None
    assert (made.teacher, made.judge) == ("s", "wise")


def test_persona_hub_rows_carry_its_licence_into_rows_and_card(run: Command, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    personas = [
        "A retired nurse in Cork who looks after her husband's medication.",
        "A chess coach who writes opening books.",
        "A hospital pharmacist interested in how drugs interact in old age.",
        "A patient with a rare disease who runs a support group.",
    ]
    (hub / "persona.jsonl").write_text("".join(json.dumps({"persona": text}) + "\n" for text in personas))
    with serving() as teacher:
        done = run(*build(teacher.url, tmp_path / "out", "--personas", 3, "--persona-hub", hub))
    assert done.code == 0, done.err
    rows = load_rows(tmp_path / "out/rows.jsonl")
    assert list(dict.fromkeys(row.persona for row in rows)) == [personas[0], *personas[2:]]
    for row in rows:
        assert row.provenance is not None
        source = row.provenance.persona
        assert (source.kind, source.name, source.licence) == ("persona-hub", str(hub), "CC-BY-NC-SA-4.0")
    assert "license: cc-by-nc-sa-4.0" in (tmp_path / "out/dataset/README.md").read_text()


def test_a_file_of_fewer_personas_than_asked_for_is_noted(run: Command, tmp_path: Path) -> None:
    people = tmp_path / "people.jsonl"
    people.write_text(
        '{"persona": "A shepherd in Wales with a bad knee."}\n{"text": "A pilot based in Oslo who sleeps badly."}\n'
    )
    with serving() as teacher:
        done = run(*build(teacher.url, tmp_path / "out", "--personas", 5, "--personas-from", people))
    assert "note: 2 personas of 5: there are no more" in done.out


def test_bad_input_is_one_line(run: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    nowhere = "http://127.0.0.1:9"
    assert_told(run(*build(nowhere, out)), "TeacherError", "no teacher at http://127.0.0.1:9/v1", "--teacher-url")
    assert not (out / "rows.jsonl").exists()
    assert_told(run(*build("localhost", out)), "ConfigError", "not an http(s) URL")
    assert_told(run(*build(nowhere, tmp_path / "file")), "StorageError", tmp_path / "file")
    assert_told(run(*build(nowhere, out, "--personas-from", tmp_path / "none.txt")), "no personas at", "none.txt")
    (tmp_path / "empty.txt").write_text("\n\n")
    assert_told(run(*build(nowhere, out, "--personas-from", tmp_path / "empty.txt")), "is empty")
    (tmp_path / "bad.jsonl").write_text('{"persona": "A farmer."}\n{"name": "Bo"}\n')
    assert_told(run(*build(nowhere, out, "--personas-from", tmp_path / "bad.jsonl")), "bad.jsonl:2", "'persona'")
    (tmp_path / "cut.jsonl").write_text('{"persona": "A far')
    assert_told(run(*build(nowhere, out, "--personas-from", tmp_path / "cut.jsonl")), "cut.jsonl")
    both = ("--personas-from", tmp_path / "empty.txt", "--persona-hub", "x")
    assert_told(run(*build(nowhere, out, *both)), "ConfigError", "use one")
    assert_told(run(*build(nowhere, out, "--persona-hub", tmp_path / "nothing-here")), "cannot load personas")
    assert_told(run(*build(nowhere, out, "--budget-money", 1)), "ConfigError", "--price-in")
    assert_told(run(*build(nowhere, out, "--prompts", tmp_path / "none")), "no prompt at")
    assert_told(run(*build(nowhere, out, "--judge-model", "")), "ConfigError", "--judge-model is empty")
    assert run(*build(nowhere, out, "--temperature", "inf")).code == 2
    assert_told(run(*build("http://127.0.0.1:99999", out)), "ConfigError", "not an http(s) URL")
    (tmp_path / "half.jsonl").write_text('{"persona": "A farmer \\ud83d in Kent."}\n')
    assert_told(run(*build(nowhere, out, "--personas-from", tmp_path / "half.jsonl")), "half.jsonl:1", "half a letter")
    wrong = run("data", "build", "--domain", "medcal", "--teacher-url", nowhere, "--teacher-model", "s", "--out", out)
    assert_told(wrong, "no domain named 'medcal'")
    assert_told(run(*build(nowhere, tmp_path / "new", step="queries")), "personas.jsonl", "alignvec data personas")


def test_a_damaged_cache_is_told_and_left_alone(run: Command, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/answers.sqlite").write_bytes(b"not a database, but mine" * 50)
    done = run(*build("http://127.0.0.1:9", tmp_path / "out"))
    assert_told(done, "answers.sqlite", "damaged or no cache")
    assert (tmp_path / "out/answers.sqlite").read_bytes() == b"not a database, but mine" * 50


def test_truncated_results_of_a_step_are_told_with_their_line(run: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving() as teacher:
        run(*build(teacher.url, out, "--personas", 3, step="personas"))
        whole = (out / "personas.jsonl").read_text()
        (out / "personas.jsonl").write_text(whole[:-30])
        assert_told(run(*build(teacher.url, out, step="queries")), "personas.jsonl:3", "not valid JSON")
        (out / "personas.jsonl").write_text("")
        assert_told(run(*build(teacher.url, out, step="queries")), "personas.jsonl is empty")


def test_teachers_in_folders_of_one_name_are_two(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fickle:
        def answer(self, requests: Sequence[Request]) -> list[Answer]:
            said = [fickle(one.body) for one in requests]
            return [Answer(text, "stop", 3, 2, "2026-01-01T00:00:00+00:00") for text in said]

    monkeypatch.setattr(in_process, "vllm_answers", lambda _: Fickle())
    asked: tuple[object, ...] = ("data", "personas", "--domain", "medical", "--teacher-engine", "vllm", "--personas", 2)
    asked = (*asked, "--out", tmp_path / "out", "--teacher-model")
    folders = [write_tiny_model(tmp_path / size / "hf", seed=i) for i, size in enumerate(("8b", "70b"))]
    done = run(*asked, folders[0])
    assert done.code == 0, done.err
    made = (tmp_path / "out/personas.jsonl").read_text()
    assert f"hf@{fingerprint(folders[0])[:12]}" in made
    other = f"hf@{fingerprint(folders[1])[:12]}"
    assert_told(run(*asked, folders[1]), "another teacher", f'{other}" now')
    assert run(*asked, folders[0]).code == 0
