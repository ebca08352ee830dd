"""The model `alignvec` in lm-evaluation-harness: a local task on the tiny model, without a network."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="needs alignvec[eval]")

from lm_eval import simple_evaluate
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from alignvec.errors import ConfigError, KnobError
from alignvec.evaluate.harness import KnobbedLM, harness_knobs
from alignvec.models import BaseModel
from alignvec.vectors.store import save_vector

CHOICE = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}} Answer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc}}]
"""
GENERATE = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[0]}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 6, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""


@pytest.fixture
def folder(tmp_path: Path, make_vector: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A vector, two tasks and their data; and no way to the network."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    save_vector(make_vector("medical", scale=0.5), tmp_path / "vectors" / "medical")
    docs = [
        {"question": f"Which comes after {i}?", "choices": [str(i), str(i + 1), "none"], "answer": 1} for i in range(8)
    ]
    data = tmp_path / "docs.jsonl"
    data.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    (tmp_path / "tasks").mkdir()
    for name, text in (("local_choice", CHOICE), ("local_words", GENERATE)):
        (tmp_path / "tasks" / f"{name}.yaml").write_text(text.format(name=name, data=data))
    return tmp_path


def answers(folder: Path, model: Any, model_args: Any = None) -> list[Any]:
    """What a model answered to every request of both tasks."""
    found = simple_evaluate(
        model=model, model_args=model_args, tasks=["local_choice", "local_words"], bootstrap_iters=0, batch_size=4,
        task_manager=TaskManager(include_path=str(folder / "tasks"), include_defaults=False),
    )  # fmt: skip
    assert found is not None and set(found["results"]) == {"local_choice", "local_words"}
    return [sample["resps"] for name in ("local_choice", "local_words") for sample in found["samples"][name]]


def test_knobs_at_zero_are_the_plain_model_and_a_turned_knob_is_another(
    folder: Path, tiny: BaseModel, tiny_folder: Path
) -> None:
    plain = answers(folder, HFLM(pretrained=tiny.model, tokenizer=tiny.tokenizer, batch_size=4))
    given = f"base={tiny_folder},vectors={folder / 'vectors'},device=cpu"
    assert len(plain) == 16
    assert answers(folder, "alignvec", given) == plain
    assert answers(folder, "alignvec", f"{given},knobs=medical:0") == plain
    turned = answers(folder, "alignvec", f"{given},knobs=medical:1")
    assert all(one != other for one, other in zip(turned[:8], plain[:8], strict=True))
    assert turned[8:] != plain[8:]
    level = answers(
        folder, "alignvec", {"base": str(tiny_folder), "vectors": str(folder / "vectors"), "knobs": "medical=expert"}
    )
    assert level == turned


def test_a_rolling_text_has_the_likelihood_of_the_turned_model(folder: Path, tiny_folder: Path) -> None:
    from lm_eval.api.instance import Instance

    lm = KnobbedLM(str(tiny_folder), "medical:1", str(folder / "vectors"), device="cpu")
    request = Instance("loglikelihood_rolling", {}, ("It rained all day.",), 0)
    turned = lm.loglikelihood_rolling([request], disable_tqdm=True)
    plain = HFLM.loglikelihood_rolling(lm, [request], disable_tqdm=True)
    assert turned != plain  # and between requests the model is the base again
    base = KnobbedLM(str(tiny_folder), device="cpu")
    assert base.loglikelihood_rolling([request], disable_tqdm=True) == plain


def test_the_harness_finds_the_model_by_its_name_and_reads_its_knobs() -> None:
    assert get_model("alignvec") is KnobbedLM
    assert harness_knobs("medical:0.5+legal:-0.3") == "medical=0.5,legal=-0.3"
    assert harness_knobs("medical=80%,legal=expert") == "medical=80%,legal=expert"
    assert harness_knobs("@settings.yaml#a=b") == "@settings.yaml#a=b"


def test_what_cannot_work_is_told_before_a_model_is_loaded(folder: Path, tiny_folder: Path) -> None:
    vectors = str(folder / "vectors")
    with pytest.raises(KnobError, match="no vector named 'legal'"):
        KnobbedLM("no such model", "legal:1", vectors)
    with pytest.raises(KnobError, match="not a number"):
        KnobbedLM("no such model", "medical:far", vectors)
    with pytest.raises(ConfigError, match="takes no pretrained"):
        KnobbedLM(str(tiny_folder), pretrained="gpt2")
