"""Three vectors that change different layers, and rows that turn them differently."""

from dataclasses import replace

from alignvec.steer.sampling import GREEDY, Sampling
from alignvec.vectors.delta import DenseDelta
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector

QUERIES = [
    f"{start} {number}?" for number, start in enumerate(["How", "What about a longer question", "Why not", ""] * 2)
]
ROWS: list[dict[str, float]] = [
    {},
    {"medical": 1.0},
    {"medical": -1.0, "legal": 0.5},
    {"legal": -2.0},
    {"financial": 1.5},
    {"medical": 0.3, "legal": 0.3, "financial": -0.3},
    {"medical": 0.0},
    {"medical": 2.0, "financial": -1.0},
]
GREEDY_SHORT = GREEDY.model_copy(update={"max_new_tokens": 12})
SAMPLED = Sampling(temperature=0.7, top_p=0.9, repetition_penalty=1.1, max_new_tokens=12, seed=3)


def partial_vectors(make_vector: MakeVector) -> list[AlignmentVector]:
    """Medical changes every layer; legal (hinged) and financial (single) only some, with other ranks."""
    legal, financial = make_vector("legal", rank=3, seed=2), make_vector("financial", hinged=False, rank=1, seed=3)
    assert legal.negative is not None
    return [
        make_vector("medical", rank=2, seed=1),
        replace(
            legal,
            positive={n: d for n, d in legal.positive.items() if "layers.0" in n and ("q_proj" in n or "up_proj" in n)},
            negative={n: d for n, d in legal.negative.items() if "v_proj" in n or "down_proj" in n},
        ),
        replace(financial, positive={n: d for n, d in financial.positive.items() if "k_proj" in n or "o_proj" in n}),
    ]


def as_dense(vector: AlignmentVector) -> AlignmentVector:
    deltas = {n: DenseDelta(d.dense()) for n, d in vector.positive.items()}
    return replace(vector, positive=deltas)
