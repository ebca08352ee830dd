"""The sampler against the softmax it should draw from."""

import hashlib

import pytest
import torch
from pydantic import ValidationError
from scipy.stats import chi2

from alignvec.steer.sampling import GREEDY, Sampling, logits_processors

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -0.5, 1.5, -1.0, 0.2])
ROWS, STEPS = 50, 200


def draw(sampling: Sampling, prompts: list[list[int]], steps: int) -> torch.Tensor:
    """Sampled tokens, [steps, rows], for logits that never change."""
    process = logits_processors(sampling, prompts, prompt_length=1)
    ids = torch.zeros(len(prompts), 1, dtype=torch.long)
    scores = LOGITS.expand(len(prompts), -1)
    return torch.stack([process(ids, scores.clone()).argmax(dim=-1) for _ in range(steps)])


def assert_drawn_from(tokens: torch.Tensor, probabilities: torch.Tensor) -> None:
    """Pearson's chi-square test at 1e-4; tokens of probability 0 must not occur."""
    counts = torch.bincount(tokens.flatten(), minlength=len(probabilities)).double()
    possible = probabilities > 0
    assert counts[~possible].sum() == 0
    expected = probabilities[possible].double() * tokens.numel()
    statistic = ((counts[possible] - expected) ** 2 / expected).sum().item()
    assert statistic < chi2.ppf(1 - 1e-4, int(possible.sum()) - 1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_tokens_are_drawn_from_the_softmax(temperature: float) -> None:
    sampling = Sampling(temperature=temperature, top_p=1, repetition_penalty=1, seed=1)
    tokens = draw(sampling, [[i] for i in range(ROWS)], STEPS)
    expected = torch.softmax(LOGITS.double() / temperature, dim=-1)
    assert_drawn_from(tokens, expected)
    assert_drawn_from(tokens[0], expected)


def test_successive_tokens_are_independent() -> None:
    tokens = draw(Sampling(temperature=1, top_p=1, repetition_penalty=1, seed=2), [[i] for i in range(ROWS)], STEPS)
    single = torch.softmax(LOGITS.double(), dim=-1)
    pairs = tokens[0::2] * len(LOGITS) + tokens[1::2]
    assert_drawn_from(pairs, torch.outer(single, single).flatten())


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    full = torch.softmax(LOGITS.double(), dim=-1)
    ranked = full.sort(descending=True)
    kept = ranked.indices[: int((ranked.values.cumsum(0) < 0.7).sum()) + 1]
    nucleus = torch.zeros_like(full)
    nucleus[kept] = full[kept] / full[kept].sum()
    assert 1 < len(kept) < len(LOGITS)
    tokens = draw(Sampling(temperature=1, top_p=0.7, repetition_penalty=1), [[i] for i in range(ROWS)], STEPS)
    assert_drawn_from(tokens, nucleus)


def test_rows_of_one_prompt_share_their_noise_and_others_do_not() -> None:
    tokens = draw(Sampling(temperature=1, top_p=1, repetition_penalty=1), [[1, 2], [1, 2], [2, 1]], STEPS)
    assert torch.equal(tokens[:, 0], tokens[:, 1])
    agreement = (tokens[:, 0] == tokens[:, 2]).double().mean().item()
    chance = (torch.softmax(LOGITS.double(), dim=-1) ** 2).sum().item()
    assert agreement == pytest.approx(chance, abs=4 * (chance * (1 - chance) / STEPS) ** 0.5)


def test_another_seed_draws_other_tokens() -> None:
    first, second = (draw(Sampling(top_p=1, seed=seed), [[1]], STEPS) for seed in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first, draw(Sampling(top_p=1, seed=0), [[1]], STEPS))


def test_greedy_takes_the_likeliest_token_every_time() -> None:
    assert (draw(GREEDY, [[1], [2]], 5) == LOGITS.argmax()).all()


@pytest.mark.parametrize("temperature", [1e-300, 1e-46, 1e-40, 1e-30, 1e-29, 1e-10])
@pytest.mark.parametrize("top_p", [0.9, 1.0])
def test_the_least_temperatures_take_the_likeliest_token(temperature: float, top_p: float) -> None:
    process = logits_processors(Sampling(temperature=temperature, top_p=top_p), [[1]], prompt_length=1)
    found = process(torch.zeros(1, 1, dtype=torch.long), LOGITS[None] * 100)
    assert found.argmax() == LOGITS.argmax() and not found.isnan().any()


def test_the_repetition_penalty_counts_the_reply_and_not_the_prompt() -> None:
    process = logits_processors(Sampling(temperature=0, repetition_penalty=2), [[0]], prompt_length=1)
    scores = process(torch.tensor([[0, 5, 6]]), LOGITS[None].clone())[0]
    expected = LOGITS.clone()
    expected[5], expected[6] = LOGITS[5] / 2, LOGITS[6] * 2
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize(
    "values", [{"temperature": -0.1}, {"top_p": 0}, {"top_p": 1.1}, {"max_new_tokens": 0}, {"seeds": 1}]
)
def test_values_that_cannot_work_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(values))):
        Sampling.model_validate(values)


@pytest.mark.parametrize("spread", [0.05, 1.0, 6.0])  # the first has no small nucleus among 4,000 tokens
def test_a_nucleus_is_the_fewest_tokens_that_reach_the_share(spread: float) -> None:
    scores = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0)) * spread
    sampling = Sampling(temperature=1, top_p=0.9, repetition_penalty=1)
    kept = logits_processors(sampling, [[1], [2]], 0)(torch.zeros(2, 0, dtype=torch.long), scores).isfinite()
    for row, mask in zip(scores.double().softmax(-1), kept, strict=True):
        assert row[mask].sum() >= 0.9 - 1e-5 and row[mask].sum() - row[mask].min() < 0.9 + 1e-5
        assert row[mask].min() >= row[~mask].max()


@pytest.mark.parametrize("share", [1e-300, 1e-46, 1e-6])
def test_the_smallest_nucleus_is_the_likeliest_token(share: float) -> None:
    scores = torch.tensor([[0.0, 3.0, 1.0]])
    sampling = Sampling(temperature=1, top_p=share, repetition_penalty=1)
    kept = logits_processors(sampling, [[1]], 0)(torch.zeros(1, 0, dtype=torch.long), scores).isfinite()
    assert kept.tolist() == [[False, True, False]]


def test_a_nucleus_that_reaches_the_share_exactly_has_no_further_token() -> None:
    scores = torch.zeros(1, 4)  # four tokens of a quarter each
    for share, count in ((0.25, 1), (0.5, 2), (0.51, 3), (0.75, 3), (0.76, 4)):
        sampling = Sampling(temperature=1, top_p=share, repetition_penalty=1)
        kept = logits_processors(sampling, [[1]], 0)(torch.zeros(1, 0, dtype=torch.long), scores).isfinite()
        assert kept.sum() == count


def test_without_a_nucleus_the_unlikeliest_token_may_be_drawn() -> None:
    """Its rank is beyond where probabilities add up to 1 in float32."""
    process = logits_processors(Sampling(temperature=1, top_p=1, repetition_penalty=1), [[1]], 0)
    assert process(torch.zeros(1, 0, dtype=torch.long), torch.tensor([[0.0, -30.0, -40.0]])).isfinite().all()


def test_a_key_seeds_the_noise_in_place_of_the_prompt() -> None:
    """The noise is -log of exponential draws of a generator that is seeded by sha256 of seed and tokens."""
    sampling, prompts = Sampling(temperature=1, top_p=1, repetition_penalty=1, seed=3), [[1, 2], [5], [6, 7]]

    def noise(keys: list[list[int]] | None) -> torch.Tensor:
        process = logits_processors(sampling, prompts, prompt_length=2, keys=keys)
        found: torch.Tensor = process(torch.zeros(3, 2, dtype=torch.long), torch.zeros(3, 8))
        return found

    def wanted(text: str) -> torch.Tensor:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
        return -torch.empty(8).exponential_(generator=torch.Generator().manual_seed(seed)).log()

    alone = torch.stack([wanted(text) for text in ("3 [1, 2]", "3 [5]", "3 [6, 7]")])
    assert torch.equal(noise(None), alone) and torch.equal(noise(prompts), alone)
    assert torch.equal(noise([[1, 2], [1, 2], [5]]), alone[[0, 0, 1]])


def test_a_rows_own_seed_replaces_that_of_all() -> None:
    prompts = [[1], [1], [2]]
    scores = LOGITS.expand(3, -1)

    def tokens(sampling: Sampling, seeds: list[int] | None) -> list[list[int]]:
        process = logits_processors(sampling, prompts, prompt_length=1, seeds=seeds)
        ids = torch.zeros(3, 1, dtype=torch.long)
        return torch.stack([process(ids, scores.clone()).argmax(dim=-1) for _ in range(20)]).T.tolist()

    plain = Sampling(temperature=1, top_p=1, repetition_penalty=1, seed=5)
    assert tokens(plain, [5, 5, 5]) == tokens(plain, None)
    first, second, third = tokens(plain, [5, 6, 5])
    other = tokens(plain.model_copy(update={"seed": 6}), None)
    assert (first, second) == (tokens(plain, None)[0], other[1])
    assert first != second
    assert third == tokens(plain, None)[2]
