"""`alignvec lm-eval`: the harness's own command line with our model in it."""

import importlib.util
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from running import Command, assert_told

from alignvec.vectors.store import save_vector

installed = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs alignvec[eval]")


@pytest.fixture(autouse=True)
def no_handlers_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness sets up logging for a process; several in one would write to the streams of tests before."""
    for logger in (logging.getLogger(), logging.getLogger("lm_eval")):
        monkeypatch.setattr(logger, "handlers", [])


TASK = """task: local_text
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: word_perplexity}}]
"""


@installed
def test_a_local_task_is_run_at_a_setting(
    command: Command, make_vector: Any, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    save_vector(make_vector("medical", scale=0.5), tmp_path / "medical")
    data = tmp_path / "docs.jsonl"
    data.write_text("".join(json.dumps({"text": f"It rained on day {i}."}) + "\n" for i in range(3)))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "local_text.yaml").write_text(TASK.format(data=data))
    found = []
    for knobs in ("medical:0", "medical:1"):
        done = command(
            "lm-eval", "--model", "alignvec", "--tasks", "local_text", "--include_path", tmp_path / "tasks",
            "--model_args", f"base={tiny_folder},vectors={tmp_path / 'medical'},knobs={knobs}",
            "--output_path", tmp_path / f"{knobs}.json",
        )  # fmt: skip
        assert done.code == 0, done.err
        assert "local_text" in done.out and "word_perplexity" in done.out
        (written,) = [path for path in tmp_path.rglob("*.json") if knobs in str(path)]
        found.append(json.loads(written.read_text())["results"]["local_text"]["word_perplexity,none"])
    assert found[0] != found[1]


@installed
def test_a_knob_that_is_not_there_is_one_line(command: Command, make_vector: Any, tmp_path: Path) -> None:
    save_vector(make_vector("medical"), tmp_path / "medical")
    given = ("--model", "alignvec", "--tasks", "copa", "--model_args", f"vectors={tmp_path / 'medical'},knobs=legal:1")
    assert_told(command("lm-eval", *given), "no vector named 'legal'")


def test_without_the_harness_it_says_how_to_install_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", None)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert_told(command("lm-eval", "ls", "tasks"), "pip install 'alignvec[eval]'")
