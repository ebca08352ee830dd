"""Packed rows against every reply scored alone."""

import pytest
import torch

from alignvec.errors import DataError
from alignvec.logprobs import EncodedReplies, encode_replies, pack, reply_logprobs
from alignvec.models import BaseModel

QUERIES = ["How do I sleep?", "Is a fever of 39 dangerous for a child of two, and when?"]
REPLIES = ["Ask a doctor.", "Rest, drink, and wait.", "Paracetamol 15 mg/kg every six hours; see NICE NG143."]


def encoded(base: BaseModel) -> list[EncodedReplies]:
    return [encode_replies(base.tokenizer, query, REPLIES, max_length=512) for query in QUERIES]


def test_packed_replies_score_as_if_each_stood_alone(tiny: BaseModel) -> None:
    rows = encoded(tiny)
    batch = pack(rows, pad_id=0, dtype=torch.float32, device=tiny.device)
    with torch.no_grad():
        packed = reply_logprobs(tiny.model, batch)
        for r, row in enumerate(rows):
            for s, reply in enumerate(row.replies):
                logits = tiny.model(torch.tensor([[*row.prompt, *reply]])).logits[0, len(row.prompt) - 1 : -1].double()
                alone = logits.log_softmax(-1).gather(1, torch.tensor(reply)[:, None]).sum().item()
                assert packed[r, s].item() == pytest.approx(alone, rel=1e-5)


def test_a_reply_ends_with_the_end_of_turn_token_and_counts_it(tiny: BaseModel) -> None:
    row = encoded(tiny)[0]
    assert [reply[-1] for reply in row.replies] == [tiny.tokenizer.eos_token_id] * 3
    assert tiny.tokenizer.decode(row.replies[0]) == "Ask a doctor.<|im_end|>"
    batch = pack([row], pad_id=0, dtype=torch.float32, device=tiny.device)
    assert batch.counts.tolist() == [[len("Ask a doctor.") + 1, len(REPLIES[1]) + 1, len(REPLIES[2]) + 1]]


def test_the_logits_of_prompt_tokens_are_not_asked_for(tiny: BaseModel) -> None:
    row = encoded(tiny)[0]
    batch = pack([row], pad_id=0, dtype=torch.float32, device=tiny.device)
    assert len(batch.keep) == sum(map(len, row.replies))


def test_a_query_longer_than_allowed_is_refused_by_name(tiny: BaseModel) -> None:
    with pytest.raises(DataError, match=r"'How do I sleep\?' with its reply has \d+ tokens, more than the 20 allowed"):
        encode_replies(tiny.tokenizer, QUERIES[0], REPLIES, max_length=20)


@pytest.mark.parametrize(("query", "reply"), [("a\ud800b", "c"), ("a", "\udcff")], ids=["query", "reply"])
def test_half_a_surrogate_pair_is_refused(tiny: BaseModel, query: str, reply: str) -> None:
    with pytest.raises(DataError, match=r"the text has '\\ud.*', half a surrogate pair.* UTF-8"):
        encode_replies(tiny.tokenizer, query, [reply], max_length=512)
