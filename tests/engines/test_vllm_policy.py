"""The policy and the audit log that the middleware keeps in front of vLLM."""

import json
from pathlib import Path

import pytest

from alignvec.serve.policy.keys import key_hash, new_key
from tests.engines.conftest import MakePlan
from tests.engines.fake_vllm import MESSAGES, Start, behind_middleware, chat


@pytest.fixture
def start(plan_for: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    return behind_middleware(plan_for, tmp_path, monkeypatch)


def test_a_policy_holds_as_in_front_of_our_own_engine(start: Start, tmp_path: Path) -> None:
    public, clinician = new_key(), new_key()
    policy = {
        "keys": [
            {
                "name": "public",
                "hash": key_hash(public),
                "vectors": {"medical": {"min": -1, "max": 0.62, "default": -1}},
                "forced": {"legal": -0.33},
                "requests_per_minute": 3,
                "max_tokens": 7,
            },
            {"name": "clinician", "hash": key_hash(clinician)},
        ]
    }
    audit = tmp_path / "audit.jsonl"
    app, ask = start("adapters", policy=policy, audit=audit)
    key = {"Authorization": f"Bearer {public}"}
    assert ask(body=chat()).status_code == 401 and ask("/v1/models", method="GET").status_code == 401
    assert ask("/health", method="GET").status_code == 200
    reply = ask(body=chat(), headers=key)
    assert reply.json()["alignment"]["applied"] == {"medical": -1.0, "legal": -0.33}
    assert reply.json()["alignment"]["forced"] == {"legal": -0.33}
    assert app.bodies[-1]["max_tokens"] == 7
    assert ask(body=chat(alignment={"medical": 0.62}), headers=key).json()["alignment"]["applied"]["medical"] == 0.6
    assert ask(body=chat(alignment={"medical": 0.7}), headers=key).status_code == 403
    assert ask(body=chat(alignment={"legal": 0}), headers=key).status_code == 403
    assert ask(body=chat(max_tokens=8), headers=key).status_code == 400
    assert ask(body=chat(), headers=key).status_code == 200
    assert (late := ask(body=chat(), headers=key)).status_code == 429 and int(late.headers["retry-after"]) > 0
    assert ask(body=chat(n=2, alignment={"legal": 1}), headers={"Authorization": f"Bearer {clinician}"}).is_success
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [line["status"] for line in lines] == [401, 200, 200, 403, 403, 400, 200, 429, 200]
    assert [line["key"] for line in lines] == [None, *["public"] * 7, "clinician"]
    assert (lines[1]["prompt_tokens"], lines[1]["completion_tokens"], lines[1]["finish"]) == (5, 2, ["stop"])
    assert lines[3]["alignment"]["requested"] == {"medical": 0.7} and lines[3]["error"] == "forbidden"
    assert lines[-1]["finish"] == ["stop", "stop"] and "prompt" not in lines[0]
    assert public not in audit.read_text()


def test_the_limit_of_tokens_is_always_sent(start: Start) -> None:
    key = new_key()
    app, ask = start("gate", policy={"keys": [{"name": "a", "hash": key_hash(key), "max_tokens": 7}]})
    head = {"Authorization": f"Bearer {key}"}
    body = {"model": "demo", "prompt": "Hi", "max_tokens": None, "max_completion_tokens": 1}
    assert ask("/v1/completions", body, headers=head).is_success
    assert {name: app.bodies[-1].get(name) for name in body if name.startswith("max")} == {
        "max_tokens": 1, "max_completion_tokens": None,
    }  # fmt: skip
    assert ask(body=chat(max_tokens=3, max_completion_tokens=9), headers=head).status_code == 400


def test_without_a_policy_only_this_machine_is_answered(start: Start) -> None:
    _, ask = start("gate")
    assert ask(body=chat(), headers={"Host": "example.org"}).status_code == 403
    assert ask("/health", method="GET", headers={"Origin": "http://example.org"}).status_code == 403


def test_metrics_do_not_tell_what_users_ask_for(start: Start) -> None:
    _, ask = start("adapters")
    reply = ask("/metrics", method="GET")
    assert reply.text == "vllm:running 2\n" and reply.headers["content-length"] == "15"


def test_what_vllm_refuses_passes_through_and_is_written_down(start: Start, tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    app, ask = start("gate", audit=audit, audit_prompts=True)
    app.status = 400
    reply = ask(body=chat(stream=False))
    assert reply.status_code == 400 and reply.json()["error"]["message"] == "vLLM says no"
    line = json.loads(audit.read_text())
    assert (line["status"], line["error"], line["finish"]) == (400, "vllm_400", [None])
    assert json.loads(line["prompt"]) == MESSAGES


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_a_full_disk_under_the_audit_log_does_not_take_the_reply_with_it(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    _, ask = start("gate", audit=Path("/dev/full"))
    assert ask(body=chat()).json()["model"] == "demo"
    assert "no space left" in caplog.text


def test_a_client_that_left_and_a_stream_that_broke_are_written_down(start: Start, tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    app, ask = start("gate", audit=audit)
    app.leaves = True
    assert ask(body=chat()).json() is None
    app.leaves, app.breaks = False, True
    assert "out of memory" in ask(body=chat(stream=True)).text
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(line["status"], line["error"]) for line in lines] == [(499, "cancelled"), (200, "in_stream")]
    assert lines[1]["completion_tokens"] == 2
