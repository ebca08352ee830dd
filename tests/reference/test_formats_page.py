"""Every example of the page on file formats is read by the product's own loader."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from alignvec.data.domain import load_domain
from alignvec.data.load import load_rows
from alignvec.data.review.ratings import load_ratings
from alignvec.engines.llamacpp.manifest import load_manifest
from alignvec.errors import VectorError
from alignvec.evaluate.bulk.plan import read_plan
from alignvec.evaluate.bulk.prompts import read_prompts
from alignvec.evaluate.bulk.shards import read_shard
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.labels import load_readers
from alignvec.merge.recipe import load_merge_recipe
from alignvec.serve.policy.audit import AuditLog, Entry
from alignvec.serve.policy.policy import load_policy
from alignvec.serve.setting import Setting
from alignvec.steer.router import load_router
from alignvec.steer.solved import read_settings
from alignvec.train.config import load_recipe
from alignvec.vectors.store import load_card

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "formats.md"
FOUND = re.findall(r"<!-- example: (\w+) -->\n```\w+\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
EXAMPLES = dict(FOUND)


def journal(path: Path) -> Any:
    scope, first = path.read_text().splitlines()
    kept = Journal(path, json.loads(scope)["scope"])
    key, value = json.loads(first)
    assert kept[key] == value
    return key


def router(path: Path) -> Any:
    save_file(
        {"weight": np.zeros((3, 8), np.float32), "bias": np.zeros(3, np.float32)}, path.parent / "router.safetensors"
    )
    return load_router(path.parent).card.domains[0]


def audit(path: Path) -> Any:
    """The line has the fields of one that the log writes, with what each of them may be."""
    shown = json.loads(path.read_text())
    log = AuditLog(path.parent / "written.jsonl")
    log.write(Entry("public", "req", "/v1/chat/completions", "demo", alignment=Setting()))
    log.close()
    written = json.loads((path.parent / "written.jsonl").read_text())
    assert shown.keys() == written.keys()
    assert Setting.model_validate(shown["alignment"]).model_dump(mode="json") == shown["alignment"]
    return shown["key"]


LOADERS: dict[str, tuple[str, Callable[[Path], Any], Any]] = {
    "card": ("card.json", lambda path: load_card(path.parent).name, "medical"),
    "row": ("rows.jsonl", lambda path: load_rows(path)[0].responses.keys(), {"casual", "formal"}),
    "rating": ("ratings.jsonl", lambda path: load_ratings(path)[0].level, "generic"),
    "label": ("labels.jsonl", lambda path: load_readers(path)[0].name, "anna"),
    "recipe": ("recipe.yaml", lambda path: load_recipe(path).order, "formal>casual"),
    "domain": ("domain.yaml", lambda path: load_domain(str(path)).name, "gardening"),
    "merge": ("merge.yaml", lambda path: load_merge_recipe(path).knobs["legal"].coefficient, -0.3),
    "settings": ("settings.yaml", lambda path: [*read_settings(path)], ["medical=expert,legal=avoidance"]),
    "router": ("router.json", router, "medical"),
    "policy": ("policy.yaml", lambda path: [key.name for key in load_policy(path).keys], ["public", "operator"]),
    "audit": ("audit.jsonl", audit, "public"),
    "prompt": ("prompts.jsonl", lambda path: read_prompts(path).count, 1),
    "run": ("run.json", lambda path: read_plan(path.parent).replies, 2),
    "shard": ("00000-00.jsonl", lambda path: next(read_shard(path)).knobs, {"medical": -1.0}),
    "knobs": ("knobs.json", lambda path: load_manifest(path.parent).scales["medical"].levels["expert"], 1.0),
    "journal": ("journal.jsonl", journal, "some key of the command's own"),
}


def test_every_example_has_a_loader() -> None:
    assert [name for name, _ in FOUND] == [*EXAMPLES]
    assert EXAMPLES.keys() == LOADERS.keys()


@pytest.mark.parametrize("name", LOADERS)
def test_an_example_is_read(tmp_path: Path, name: str) -> None:
    file, load, wanted = LOADERS[name]
    (tmp_path / file).write_text(EXAMPLES[name], encoding="utf-8")
    assert load(tmp_path / file) == wanted


@pytest.mark.parametrize(("name", "load"), [("card", load_card), ("knobs", load_manifest)], ids=["card", "knobs"])
def test_another_version_is_refused(tmp_path: Path, name: str, load: Callable[[Path], Any]) -> None:
    content = json.loads(EXAMPLES[name]) | {"format_version": 2}
    (tmp_path / LOADERS[name][0]).write_text(json.dumps(content))
    with pytest.raises(VectorError, match="format_version: Input should be 1"):
        load(tmp_path)


def test_the_recipe_is_the_one_of_the_quickstart() -> None:
    shipped = (PAGE.parents[2] / "recipes" / "first" / "manner.yaml").read_text(encoding="utf-8")
    assert shipped.endswith(EXAMPLES["recipe"])
