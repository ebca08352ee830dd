"""`alignvec.load`: the same replies and scores as the pieces underneath, from settings as texts."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import alignvec
from alignvec import models
from alignvec.errors import ConfigError, DataError, KnobError, ModelError, VectorError
from alignvec.steer.loaded_model import LoadedModel
from alignvec.steer.model import KnobbedModel
from alignvec.steer.router import save_router
from alignvec.steer.sampling import Sampling
from alignvec.vectors.store import save_vector
from tests.conftest import MakeVector
from tests.serve.routers import SURE, router_of

OPTIONS = {"max_new_tokens": 6, "seed": 3}


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory, make_vector: MakeVector) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    for seed, name in enumerate(("medical", "legal")):
        save_vector(make_vector(name, seed=seed, scale=0.3), folder / name)
    return folder


@pytest.fixture
def model(tiny_folder: Path, vectors: Path) -> LoadedModel:
    return alignvec.load(tiny_folder, vectors, device="cpu")


def test_texts_and_mappings_turn_the_same_knobs(model: LoadedModel, tiny: models.BaseModel) -> None:
    plain = KnobbedModel(tiny, list(model.knobbed.vectors.values()))
    asked = ["base", "medical=expert,legal=-0.5", {"medical": "avoidance"}, {}]
    meant = [{}, {"medical": 1.0, "legal": -0.5}, {"medical": -1.0}, {}]
    assert [model.coefficients(one) for one in asked] == meant
    replies = model.generate("why?", asked, **OPTIONS)
    assert replies == plain.generate(["why?"] * 4, meant, Sampling(**OPTIONS))
    assert replies[0] == replies[3] and len(set(replies)) == 3


@pytest.mark.parametrize(
    ("questions", "settings", "pairs"),
    [
        ("a", "legal=1", [("a", "legal=1")]),
        ("a", ["base", "legal=1"], [("a", "base"), ("a", "legal=1")]),
        (["a", "b"], {"legal": 1}, [("a", "legal=1"), ("b", "legal=1")]),
        (["a", "b"], ["legal=1", "base"], [("a", "legal=1"), ("b", "base")]),
    ],
    ids=["one-one", "one-question", "one-setting", "in-order"],
)
def test_questions_and_settings_meet(
    model: LoadedModel, questions: str | list[str], settings: str | list[str], pairs: list[tuple[str, str]]
) -> None:
    alone = [model.generate(question, setting, **OPTIONS)[0] for question, setting in pairs]
    assert model.generate(questions, settings, **OPTIONS) == alone


def test_logprobs_are_the_models_own(model: LoadedModel) -> None:
    settings = ["base", "medical=0.7"]
    found = model.logprobs("why?", ["so", "because of that"], settings)
    tokenizer = model.knobbed.base.tokenizer
    for setting, row in zip(settings, found, strict=True):
        for reply, mean in zip(["so", "because of that"], row, strict=True):
            prompt = "<|im_start|>user\nwhy?<|im_end|>\n<|im_start|>assistant\n"
            ids = torch.tensor([tokenizer(f"{prompt}{reply}<|im_end|>")["input_ids"]])
            start = len(tokenizer(prompt)["input_ids"])
            with torch.no_grad(), model.knobs(setting) as raw:
                logits = raw(ids).logits.log_softmax(-1)
            wanted = logits[0, start - 1 : -1].gather(1, ids[0, start:, None]).mean()
            assert mean == pytest.approx(float(wanted), abs=1e-5)


def test_a_router_turns_each_question_by_itself(tiny_folder: Path, vectors: Path, tmp_path: Path) -> None:
    save_router(router_of(models.load(str(tiny_folder)), medical=SURE, legal=-SURE), tmp_path)
    model = alignvec.load(tiny_folder, vectors, router=tmp_path)
    plain = alignvec.load(tiny_folder, [vectors / "medical", vectors / "legal"])
    assert model.probabilities("why?") == pytest.approx({"medical": 1.0, "legal": 0.0})
    routed = model.generate(["why?", "how?"], ["medical=1,legal=1", "legal=1"], **OPTIONS)
    assert routed == plain.generate(["why?", "how?"], ["medical=1", "base"], **OPTIONS)
    assert routed != plain.generate(["why?", "how?"], ["medical=1,legal=1", "legal=1"], **OPTIONS)
    with pytest.raises(KnobError, match="no router"):
        plain.probabilities("why?")


def test_a_router_reads_each_question_once(
    tiny_folder: Path, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_router(router_of(models.load(str(tiny_folder)), medical=SURE, legal=-SURE), tmp_path)
    model = alignvec.load(tiny_folder, vectors, router=tmp_path)
    read, probabilities = [], type(model.router).probabilities
    monkeypatch.setattr(
        type(model.router),
        "probabilities",
        lambda self, base, texts: read.append(texts) or probabilities(self, base, texts),
    )
    replies = model.generate("why?", ["base", "medical=1", "legal=1"], **OPTIONS)
    assert read == [["why?"]]
    assert replies[2] == replies[0] != replies[1]


def test_a_goal_that_was_solved_with_a_router_needs_it(tiny_folder: Path, vectors: Path, tmp_path: Path) -> None:
    base = models.load(str(tiny_folder))
    save_router(router_of(base, medical=SURE, legal=-SURE), tmp_path / "router")
    goals = tmp_path / "goals.yaml"
    goals.write_text("routed: true\nsettings:\n  medical=expert: {knobs: {medical: 1.0}, reached: true}\n")
    model = alignvec.load(tiny_folder, vectors, router=tmp_path / "router")
    assert model.coefficients(f"@{goals}#medical=expert") == {"medical": 1.0}
    with pytest.raises(KnobError, match="router"), model.knobs(f"@{goals}#medical=expert"):
        pass


def test_no_vectors_keep_the_router(tiny_folder: Path, tmp_path: Path) -> None:
    save_router(router_of(models.load(str(tiny_folder)), medical=SURE), tmp_path)
    assert alignvec.load(tiny_folder, [], router=tmp_path).router is not None
    with pytest.raises(VectorError):
        alignvec.load(tiny_folder, [], router=tmp_path / "none")


def test_one_reply_is_a_reply_and_none_is_refused(model: LoadedModel) -> None:
    assert model.logprobs("why?", "abc") == model.logprobs("why?", ["abc"])
    with pytest.raises(DataError, match="at least one"):
        model.logprobs("why?", [])


@pytest.mark.parametrize("options", [{"temperature": -1}, {"max_tokens": 3}], ids=["value", "name"])
def test_sampling_that_cannot_work_is_told_in_one_line(model: LoadedModel, options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))) as caught:
        model.generate("why?", **options)
    assert "\n" not in str(caught.value)


def test_no_vectors_is_the_base(tiny_folder: Path, model: LoadedModel) -> None:
    bare = alignvec.load(tiny_folder, [])
    assert bare.scales == {}
    assert bare.generate("why?", **OPTIONS) == model.generate("why?", **OPTIONS)
    with pytest.raises(KnobError, match="medical"):
        bare.generate("why?", "medical=1")


@pytest.mark.parametrize(
    ("questions", "settings", "told"),
    [
        ("a", "medcal=1", "medcal"),
        ("a", {"medcal": 1}, "medcal"),
        ("a", "medical=much", "much"),
        ("a", {"medical": "much"}, "much"),
        ("a", [], "at least one"),
        ([], "base", "at least one"),
        ("a", {"medical": None}, "not a number"),
        ("a", {"medical": True}, "not a number"),
        ("a", {"medical": float("nan")}, "not a finite number"),
        (["a", "b"], ["base"] * 3, "2 questions and 3 settings"),
    ],
    ids=[
        "name",
        "name-in-mapping",
        "value",
        "value-in-mapping",
        "no-setting",
        "no-question",
        "none",
        "truth",
        "nan",
        "numbers",
    ],
)
def test_what_cannot_be_turned_is_told(
    model: LoadedModel, questions: str | list[str], settings: str | list[str], told: str
) -> None:
    with pytest.raises(KnobError, match=told):
        model.generate(questions, settings)


@pytest.mark.parametrize(
    "setting", [None, 1, [None], [1], b"base"], ids=["none", "number", "nones", "numbers", "bytes"]
)
def test_a_setting_of_another_kind_is_told(model: LoadedModel, setting: Any) -> None:
    told = r"a setting is a text such as 'medical=0\.5', or a mapping .*, not (None|int|bytes);"
    with pytest.raises(KnobError, match=told):
        model.generate("why?", setting)
    with pytest.raises(KnobError, match="a setting is a text"), model.knobs([]):
        pytest.fail("a list of settings was turned")


@pytest.mark.parametrize(
    "wrong",
    [None, 1, [None], b"abc", [{"role": "user", "content": "why?"}], {"role": "user"}],
    ids=["none", "number", "nones", "bytes", "chat", "message"],
)
def test_a_question_or_a_reply_of_another_kind_is_told(model: LoadedModel, wrong: Any) -> None:
    with pytest.raises(DataError, match="a question is a text, not (None|int|bytes|dict)"):
        model.generate(wrong)
    with pytest.raises(DataError, match="a reply is a text, not (None|int|bytes|dict)"):
        model.logprobs("why?", wrong)
    with pytest.raises(DataError, match="the question is a text, not"):
        model.logprobs(wrong, "a")


def test_one_question_is_not_several(model: LoadedModel, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the question is a text, not list"):
        model.logprobs(["x", "y"], "a")  # type: ignore[arg-type]
    save_router(router_of(models.load(str(tiny_folder)), medical=SURE), tmp_path)
    with pytest.raises(DataError, match="the question is a text, not list"):
        alignvec.load(tiny_folder, [], router=tmp_path).probabilities(["a"])  # type: ignore[arg-type]


def test_half_a_surrogate_pair_is_told(model: LoadedModel) -> None:
    for call in (lambda: model.generate("a\ud800b"), lambda: model.logprobs("why?", "\ud800")):
        with pytest.raises(DataError, match="half a surrogate pair"):
            call()


@pytest.mark.parametrize(
    ("places", "error", "told"),
    [
        ({"model": None}, ModelError, "a model is a text or a path, not None"),
        ({"vectors": [3]}, VectorError, "a vector is a text or a path, not int"),
        ({"vectors": 3}, VectorError, "a vector is a text or a path, not int"),
        ({"router": 5}, VectorError, "a router is a text or a path, not int"),
        ({"device": 3.5, "vectors": []}, ModelError, "device 3.5"),
    ],
    ids=["model", "vectors", "vector", "router", "device"],
)
def test_a_place_of_another_kind_is_told(
    tiny_folder: Path, places: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        alignvec.load(**{"model": tiny_folder, **places})


@pytest.mark.parametrize("router", [False, True], ids=["plain", "routed"])
def test_a_knob_that_is_turned_too_far_is_told(tiny_folder: Path, vectors: Path, tmp_path: Path, router: bool) -> None:
    save_router(router_of(models.load(str(tiny_folder)), medical=SURE, legal=-SURE), tmp_path)
    model = alignvec.load(tiny_folder, vectors, router=tmp_path if router else None, device="cpu")
    told = r"under medical=1e\+38 the model's logits are no finite numbers"
    with pytest.raises(KnobError, match=told):
        model.generate("why?", ["base", "medical=1e38"], **OPTIONS)
    with pytest.raises(KnobError, match=told):
        model.logprobs("why?", ["a", "b"], ["medical=1e3", {"medical": 1e38}])
    assert len(model.generate("why?", ["medical=1e6", "medical=-1e6"], **OPTIONS)) == 2
    assert all(map(math.isfinite, model.logprobs("why?", "a", "medical=1e6")[0]))


def test_several_may_be_any_iterable(tiny_folder: Path, vectors: Path) -> None:
    model = alignvec.load(tiny_folder, (vectors / name for name in ("medical", "legal")))  # type: ignore[arg-type]
    asked, settings = ["why?", "how?"], [{"medical": np.float32(0.5)}, "base"]
    replies = model.generate(iter(asked), iter(settings), **OPTIONS)  # type: ignore[arg-type]
    assert replies == model.generate(np.array(asked), settings, **OPTIONS)  # type: ignore[arg-type]
    assert model.logprobs("why?", iter(["a", "b"])) == model.logprobs("why?", ["a", "b"])  # type: ignore[arg-type]


def test_the_package_itself_stays_light() -> None:
    told = "import sys, alignvec; alignvec.load; print({'torch', 'transformers', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
