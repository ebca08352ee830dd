"""Safety under knobs on the tiny model: identities, and rates counted by hand from scripted replies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignvec.data.safety import SafetyReplies, SafetyRow
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError, KnobError
from alignvec.evaluate import safety as module
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.refusal import RefusalReport
from alignvec.evaluate.safety import assess_safety, measure_safety
from alignvec.evaluate.safety_plot import _rows
from alignvec.evaluate.safety_record import Safety, SafetyPoint
from alignvec.evaluate.safety_report import replies_text, tables, write_safety
from alignvec.models import BaseModel
from alignvec.provenance import provenance
from alignvec.steer.model import KnobbedModel
from alignvec.steer.router import Router
from alignvec.steer.sampling import Sampling
from alignvec.vectors.strict import Interval
from tests.serve.routers import SURE, router_of

SHORT = Sampling(max_new_tokens=4)
WORDS = {"no": "I will not do that", "yes": "Here is how it goes", "loop": "go go go go go go go go"}


@dataclass
class Scripted:
    """Judges by the first word."""

    report: Any = None

    def refuses(self, replies: Sequence[str]) -> list[bool]:
        return [reply.startswith("I will not") for reply in replies]

    def verdicts(self, replies: Sequence[str]) -> list[str]:
        return ["avoidance" if reply.startswith("I will not") else "expert" for reply in replies]


def rows(harmful: int = 3, benign: int = 2) -> list[SafetyRow]:
    made = []
    for kind, count in (("harmful", harmful), ("benign", benign)):
        replies = SafetyReplies(safe="A kind and safe reply.", unsafe="Quite another one!")
        made += [
            SafetyRow(id=f"{kind}{i}", split="test", kind=kind, topic="t", query=f"{kind} {i}?", responses=replies)
            for i in range(count)
        ]
    return made


def asked(count: int) -> list[PreferenceRow]:
    replies = {"avoidance": "Ask a doctor.", "generic": "Rest a little.", "expert": "Take 5 mg."}
    return [
        PreferenceRow(
            id=f"m{i}", split="test", domain="medical", topic="t", persona=f"p{i}", query=f"m {i}?", responses=replies
        )
        for i in range(count)
    ]


@pytest.fixture
def knobbed(tiny: BaseModel, make_vector: Callable[..., Any]) -> KnobbedModel:
    return KnobbedModel(tiny, [make_vector("safety", scale=0.5), make_vector("medical", scale=0.5, seed=1)])


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base refuses one of three harmful queries; at safety=1 all of them, one benign one, and one medical one."""

    def generate(_: Any, asked: Any, settings: Any, *__: Any, **___: Any) -> list[list[str]]:
        table = {
            "": {"harmful0": "no", "harmful1": "yes", "harmful2": "loop", "benign0": "yes", "benign1": "yes"},
            "safety": {
                "harmful0": "no",
                "harmful1": "no",
                "harmful2": "no",
                "benign0": "no",
                "benign1": "yes",
                "m0": "no",
            },
        }
        return [[WORDS[table["".join(knobs)].get(row.id, "yes")] for row in asked] for knobs in settings]

    monkeypatch.setattr(module, "generate_replies", generate)


def test_rates_are_counted_by_kind_and_change_row_by_row(knobbed: KnobbedModel, scripted: None) -> None:
    judge: Any = Scripted()
    (base, turned), replies = measure_safety(
        knobbed, rows(), [{"safety": 0.0}, {"safety": 1.0}], judge=judge, level_judge=judge, domains=asked(4),
        journal=Journal(),
    )  # fmt: skip

    def said(point: SafetyPoint, kind: Any) -> Any:
        found = point.kinds[kind].replied
        assert found is not None
        return found

    assert base.knobs == {} and turned.knobs == {"safety": 1.0}
    assert said(base, "harmful").refused.value == pytest.approx(1 / 3)
    assert said(base, "harmful").degenerate.value == pytest.approx(1 / 3)
    assert said(base, "benign").refused.value == 0.0
    assert said(turned, "harmful").refused.value == 1.0
    assert said(turned, "harmful").change.value == pytest.approx(2 / 3)
    assert said(turned, "benign").change.value == said(turned, "benign").refused.value == 0.5
    slack = 1 - 0.025 ** (1 / 3)  # nothing changes at the base, in three rows
    assert said(base, "harmful").change.drawn == pytest.approx((-slack, slack))
    medical = turned.domains["medical"]
    assert medical.levels["avoidance"].value == medical.replied.refused.value == 0.25
    assert turned.levels["expert"].value == 0.75 and base.levels["avoidance"].value == 0.0
    assert len(replies) == 2 * (3 + 2 + 4)
    assert {one.level for one in replies if one.about == "medical"} == {"avoidance", "expert"}
    assert {one.level for one in replies if one.about != "medical"} == {None}


def test_generating_fewer_takes_the_first_of_each_kind_and_domain(knobbed: KnobbedModel, scripted: None) -> None:
    judge: Any = Scripted()
    _, replies = measure_safety(
        knobbed, rows(), [{"safety": 1.0}], judge=judge, generate=1, domains=asked(2), journal=Journal()
    )
    assert [one.row for one in replies] == ["harmful0", "benign0", "m0"]


def test_a_turn_is_asked_for_each_of_the_rows_and_then_of_the_domains_queries(
    knobbed: KnobbedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}

    def generate(_: Any, queries: Sequence[str], settings: Any, *__: Any) -> list[str]:
        told.update({query: knobs for query, knobs in zip(queries, settings, strict=True) if knobs})
        return [WORDS["yes"]] * len(queries)

    monkeypatch.setattr(KnobbedModel, "generate", generate)
    judge: Any = Scripted()
    (point,), _ = measure_safety(
        knobbed, rows(), [{"safety": 1.0}], judge=judge, generate=2, domains=asked(2),
        turn=lambda i, knobs: knobs if i in (1, 5 + 1) else {}, journal=Journal(),
    )  # fmt: skip
    assert told == {"harmful 1?": {"safety": 1.0}, "m 1?": {"safety": 1.0}}
    assert point.kinds["harmful"].margin.value != 0.0 == point.kinds["benign"].margin.value


def test_a_router_leaves_a_knob_out_elsewhere_and_a_knob_it_does_not_know_in_full(
    knobbed: KnobbedModel, tmp_path: Path
) -> None:
    settings = [{"safety": 1.0}, {"safety": 1.0, "medical": 0.5}]

    def margins(found: Safety) -> list[float]:
        return [point.kinds["harmful"].margin.value for point in found.points]

    def assessed(router: Router | None) -> Safety:
        return assess_safety(
            knobbed, rows(), settings, judge=None, level_judge=None, domains=[], sampling=SHORT, router=router,
            data="test", out=tmp_path / f"routed {router is not None}", advance=lambda *_: None,
        )  # fmt: skip

    plain, routed = assessed(None), assessed(router_of(knobbed.base, medical=-SURE))
    assert not plain.routed and routed.routed
    assert margins(routed)[0] == margins(routed)[1] == pytest.approx(margins(plain)[0]) != 0.0
    assert margins(plain)[1] != pytest.approx(margins(plain)[0], rel=1e-3)
    assert (tmp_path / "routed True" / "safety.png").is_file()


def test_likelihoods_are_those_of_a_plain_forward_pass_and_the_base_has_no_margin(knobbed: KnobbedModel) -> None:
    import torch

    own = [row.model_copy(update={"responses": SafetyReplies(safe=f"Yes {i}.", unsafe=f"No, not {i}.")})
           for i, row in enumerate(rows())]  # fmt: skip
    (base, turned), replies = measure_safety(knobbed, own, [{}, {"safety": 1.0, "medical": -0.5}], journal=Journal())
    assert replies == [] and turned.domains == {} and turned.levels == {}
    assert base.kinds["harmful"].replied is None
    assert base.kinds["harmful"].margin.value == base.kinds["benign"].margin.value == 0.0
    tokenizer = knobbed.base.tokenizer

    def per_token(model: Any, query: str, reply: str) -> float:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": query}], tokenize=False, add_generation_prompt=True
        )
        start = len(tokenizer(prompt)["input_ids"])
        ids = torch.tensor([tokenizer(f"{prompt}{reply}<|im_end|>").input_ids])
        with torch.no_grad():
            told = model(input_ids=ids).logits[0, start - 1 : -1].log_softmax(-1)
        return float(told.gather(1, ids[0, start:, None]).mean())

    def both(model: Any, row: SafetyRow) -> np.ndarray:
        return np.array([per_token(model, row.query, r) for r in (row.responses.safe, row.responses.unsafe)])

    plain = [both(knobbed.base.model, row) for row in own]
    with knobbed.knobs({"safety": 1.0, "medical": -0.5}) as model:
        moved = [both(model, row) for row in own]
    for kind in ("harmful", "benign"):
        place = [i for i, row in enumerate(own) if row.kind == kind]
        assert base.kinds[kind].preferred.value == pytest.approx(np.mean([plain[i][0] > plain[i][1] for i in place]))
        assert turned.kinds[kind].preferred.value == pytest.approx(np.mean([moved[i][0] > moved[i][1] for i in place]))
        margin = np.mean([(moved[i] - plain[i])[0] - (moved[i] - plain[i])[1] for i in place])
        assert abs(margin) > 1e-3
        assert turned.kinds[kind].margin.value == pytest.approx(margin, rel=1e-3, abs=1e-5)


def test_nothing_is_measured_twice(knobbed: KnobbedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    judge: Any = Scripted()
    journal = Journal()
    options: Any = {"judge": judge, "domains": asked(1), "sampling": SHORT, "journal": journal}
    done: list[tuple[str, int]] = []
    first = measure_safety(
        knobbed, rows(2, 1), [{"safety": 1.0}], advance=lambda t, n, _: done.append((t, n)), **options
    )
    assert {task: sum(n for t, n in done if t == task) for task in ("scoring", "generating")} == {
        "scoring": 3 * 2, "generating": 4 * 2,
    }  # fmt: skip
    monkeypatch.setattr(KnobbedModel, "score", None)
    monkeypatch.setattr(KnobbedModel, "generate", None)
    assert measure_safety(knobbed, rows(2, 1), [{"safety": 1.0}], **options) == first


def test_one_kind_alone_leaves_the_other_out_and_bad_input_is_told(knobbed: KnobbedModel) -> None:
    (point,), _ = measure_safety(knobbed, rows(2, 0), [{"safety": 1.0}], journal=Journal())
    assert set(point.kinds) == {"harmful"}
    with pytest.raises(DataError, match="two rows have the id 'harmful0'"):
        measure_safety(knobbed, [*rows(1, 0), *rows(1, 0)], [{}], journal=Journal())
    with pytest.raises(KnobError, match="no vector named 'legal'"):
        measure_safety(knobbed, rows(1, 0), [{"legal": 1.0}], journal=Journal())
    with pytest.raises(KnobError, match="not a finite number"):
        measure_safety(knobbed, rows(1, 0), [{"safety": float("nan")}], journal=Journal())


def record(knobbed: KnobbedModel, settings: Any) -> tuple[Safety, Any]:
    judge: Any = Scripted()
    points, replies = measure_safety(
        knobbed, rows(), settings, judge=judge, level_judge=judge, domains=asked(2), sampling=SHORT, journal=Journal()
    )
    sure = Interval(value=1.0, low=0.9, high=1.0)
    report = RefusalReport(
        trained_on=4, answers=0, held_out=4, accuracy=sure, keyword_accuracy=sure, length_accuracy=sure,
        across_kinds=None, called={},
    )  # fmt: skip
    result = Safety(
        vectors=("safety", "medical"), base="tiny", data="made up test", levels=("avoidance", "generic", "expert"),
        points=tuple(points), judge=report, sampling=SHORT, provenance=provenance(),
    )  # fmt: skip
    return result, replies


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ([{}, {"safety": 1.0}, {"safety": -0.5}, {"medical": 1.0}], [[-0.5, 0.0, 1.0], [0.0, 1.0]]),
        ([{}, {"safety": 1.0, "medical": -0.5}], [[0.0, 1.0]]),
        ([{}], [[0.0]]),
    ],
)
def test_the_files_say_what_was_measured(
    knobbed: KnobbedModel, tmp_path: Path, settings: Any, places: list[list[float]]
) -> None:
    result, replies = record(knobbed, settings)
    write_safety(result, replies, tmp_path)
    assert Safety.model_validate_json((tmp_path / "safety.json").read_text()) == result
    assert (tmp_path / "safety.png").read_bytes()[:4] == b"\x89PNG"
    assert len((tmp_path / "replies.jsonl").read_text().splitlines()) == len(settings) * 7
    text = replies_text(result, replies)
    assert text == (tmp_path / "replies.md").read_text()
    assert text.count("## ") == 7 and "## m0 (medical)" in text and "**base**" in text
    assert [[x for x, _ in row.points] for row in _rows(result)] == places
    refusals, likelihoods, medical = tables(result)
    assert len(refusals.rows) == len(likelihoods.rows) == 2 * len(settings) and len(medical.rows) == len(settings)
    assert refusals.rows[0][:3] == ("base", "harmful", "3") and medical.columns[-1] == "refused"
