"""The gates on the shipped data: what was written with care passes, so a fault there is a false alarm."""

from collections import Counter

import pytest

from alignvec.data.domain import load_domain
from alignvec.data.gates.candidate import Candidate
from alignvec.data.gates.duplicates import NearDuplicates
from alignvec.data.gates.gates import PERSONA_GATES, QUERY_GATES, REPLY_GATES
from alignvec.data.gates.refusal import refusal
from alignvec.data.load import load_rows, shipped_file

DOMAINS = {"medical": "medical", "legal": "legal", "financial": "financial", "general": "medical"}


@pytest.mark.parametrize("name", DOMAINS)
def test_no_gate_rejects_a_shipped_persona_query_or_reply(name: str) -> None:
    domain = load_domain(DOMAINS[name])
    faults: Counter[str] = Counter()
    for row in load_rows(shipped_file(name)):
        texts = [(PERSONA_GATES, Candidate(row.persona, domain)), (QUERY_GATES, Candidate(row.query, domain))]
        texts += [(REPLY_GATES, Candidate(text, domain, level, row.query)) for level, text in row.responses.items()]
        for gates, candidate in texts:
            faults.update(gate for gate, rejects in gates.items() if rejects(candidate))
    assert faults == {}


def test_no_shipped_query_or_persona_nearly_equals_another() -> None:
    rows = [row for name in DOMAINS for row in load_rows(shipped_file(name))]
    for texts in ({row.query for row in rows}, {row.persona for row in rows}):
        with NearDuplicates() as known:
            near = []
            for text in sorted(texts):
                near += [(text, found)] if (found := known.find(text)) else []
                known.add(text, text)
        assert near == []


def test_a_quarter_of_the_shipped_avoidance_replies_read_as_refusals_by_their_words_alone() -> None:
    found = 0
    for name in ("medical", "legal", "financial"):
        domain = load_domain(name)
        texts = [row.responses["avoidance"] for row in load_rows(shipped_file(name))]
        found += sum(refusal(Candidate(text, domain, "expert", "query")) is not None for text in texts)
    assert 150 <= found <= 600  # of 600, each worded differently on purpose; the judge is there for the others
