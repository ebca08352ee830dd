"""Replies by a real model at an endpoint: what passes the gates and the judge is a row, what does not has a reason."""

from pathlib import Path

import pytest

from alignvec import models
from alignvec.data.domain import load_domain
from alignvec.data.load import load_rows, shipped_file
from alignvec.data.schema import PersonaSource, Sampling
from alignvec.data.synthesis.build import build
from alignvec.data.synthesis.job import Job
from alignvec.data.synthesis.prompts import load_prompts
from alignvec.data.synthesis.records import Persona, Query
from alignvec.data.synthesis.settings import BuildSettings
from alignvec.data.teacher.endpoint import Endpoint
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.store import load_vector
from tests.data.synthesis.building import records
from tests.knobbed_teacher import knobbed_app, serving_app

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
QUERIES = 3


def test_the_demo_model_writes_levels_that_the_judge_confirms(tmp_path: Path) -> None:
    shipped = load_rows(shipped_file("medical"), split="validation", limit=QUERIES)
    source = PersonaSource(kind="file", name="medical.jsonl", licence="Apache-2.0")
    queries = [
        Query(id=row.id, topic=row.topic, text=row.query, persona=Persona(id=row.id, text=row.persona, source=source))
        for row in shipped
    ]
    (tmp_path / "queries.jsonl").write_text("".join(query.model_dump_json() + "\n" for query in queries))
    settings = BuildSettings(
        domain=load_domain("medical"),
        prompts=load_prompts(),
        teacher="demo",
        judge="demo",
        retries=2,
        reply_sampling=Sampling(temperature=0.7, top_p=0.9, max_tokens=200),
    )
    model = KnobbedModel(models.load("demo", device="cpu"), [load_vector(ROOT / "vectors" / "medical")])
    with serving_app(knobbed_app(model, "medical")) as url:
        job = Job(settings, tmp_path, 0, Endpoint(url, in_flight=2, timeout=300), stages=("rows",))
        report = build(job)
        asked = report.spending.answers
        again = build(job)
    assert (again.spending.answers, again.spending.cached) == (0, asked)
    rows = load_rows(tmp_path / "rows.jsonl")
    rejected = records(tmp_path / "rejected.jsonl")
    assert len(rows) + sum(one["stage"] == "row" for one in rejected) == QUERIES
    assert len(rows) >= 1, [(one["level"], one["gate"], one["text"]) for one in rejected if one["stage"] == "reply"]
    for row in rows:
        assert row.query in {one.query for one in shipped}
        assert len(row.responses["avoidance"].split()) < len(row.responses["expert"].split())
        assert row.provenance is not None and row.provenance.judge == "demo"
    assert all(one["reason"] for one in rejected)
