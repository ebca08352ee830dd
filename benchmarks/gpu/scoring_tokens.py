"""How many tokens a second are scored, at the base and with a setting of its own for every row?

Batches of packed rows (a query with its three replies, as evaluation and solving score them) by tokens a batch. Counts
the tokens of packed rows. Ends in one JSON line; `ratio` is tokens a second with knobs over without, round by round.
"""

from functools import partial
from typing import Any

import torch
from shapes import build, low_rank_vectors, many_settings, random_rows
from timing import emit, in_turn, options, ratios

from alignvec.evaluate.preference import BATCH_TOKENS
from alignvec.reproduce.spread import Spread
from alignvec.steer.model import KnobbedModel

NAMES = ("one", "two", "three", "four")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rank", type=int, default=64, help="of all vectors together")
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[BATCH_TOKENS, 4 * BATCH_TOKENS])
    chosen = parser.parse_args()
    base = build(chosen.shape, device=chosen.device, seed=chosen.seed)
    model = KnobbedModel(base, low_rank_vectors(base, NAMES, chosen.rank, seed=chosen.seed), allow_other_base=True)
    vocabulary = base.model.config.vocab_size
    longest = random_rows(1, vocabulary)[0].packed_length
    results: list[dict[str, Any]] = []
    for limit in chosen.batch_tokens:
        rows = random_rows(max(1, limit // longest), vocabulary, seed=chosen.seed)
        settings = many_settings(NAMES, len(rows))
        plain, mixed = model.score(rows, {}), model.score(rows, settings)
        if not (torch.isfinite(mixed).all() and (mixed != plain).any()):
            raise SystemExit("the knobs changed nothing, or the scores are not finite")
        regimes = {"base": partial(model.score, rows, {}), "mixed": partial(model.score, rows, settings)}
        times = in_turn(regimes, chosen.rounds, base.device)
        tokens = sum(row.packed_length for row in rows)
        results.append(
            {
                "rows": len(rows),
                "tokens": tokens,
                "tokens_per_second": Spread.of([tokens / s for s in times["mixed"]]).model_dump(),
                "base_tokens_per_second": Spread.of([tokens / s for s in times["base"]]).model_dump(),
                "ratio": ratios(times["base"], times["mixed"]),
            }
        )
    emit("scoring_tokens", chosen, results=results)


if __name__ == "__main__":
    main()
