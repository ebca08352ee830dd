"""The listwise loss and its gradients against TRL's own pairwise DPO trainer on the same weights and texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from alignvec import models
from alignvec.data.pairs import parse_order, preference_pairs
from alignvec.data.schema import PreferenceRow
from alignvec.logprobs import encode_replies
from alignvec.train.dpo import score_base
from alignvec.train.listwise import ListwiseCollator, ListwiseDPOTrainer, preference_loss

BETA = 0.1
Kept = Sequence[tuple[str, str, str]]
"""Rows of two replies: query, chosen, rejected."""


def arguments(folder: Path, losses: dict[str, float], batch: int) -> Any:
    from trl.trainer.dpo_config import DPOConfig

    return DPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        loss_type=list(losses),
        loss_weights=list(losses.values()),
        beta=BETA,
        gradient_checkpointing=False,
        bf16=False,
        report_to=[],
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )


def adapter() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=3, lora_alpha=3, target_modules="all-linear", task_type="CAUSAL_LM")


def randomise(model: Any) -> None:
    """Give every factor of the adapter a fixed random value, so that the model differs from its reference."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)


def loss_and_gradients(trainer: Any) -> tuple[float, dict[str, torch.Tensor]]:
    randomise(trainer.model)
    (inputs,) = list(trainer.get_train_dataloader())
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    gradients = {n: w.grad.detach().clone() for n, w in trainer.model.named_parameters() if w.grad is not None}
    return loss.item(), gradients


def by_trl(
    tiny_folder: Path, out: Path, rows: Sequence[PreferenceRow], order: str, losses: dict[str, float], kept: Kept = ()
) -> Any:
    """TRL's trainer on (prompt, chosen, rejected) texts; TRL itself adds the end-of-turn token."""
    from trl.trainer.dpo_trainer import DPOTrainer

    base = models.load(str(tiny_folder), device="cpu")
    pairs = [(p.query, p.chosen, p.rejected) for p in preference_pairs(rows, parse_order(order))] + [*kept]
    prompts = [
        base.tokenizer.apply_chat_template(
            [{"role": "user", "content": query}], tokenize=False, add_generation_prompt=True
        )
        for query, _, _ in pairs
    ]
    texts = {"prompt": prompts, "chosen": [c for _, c, _ in pairs], "rejected": [r for _, _, r in pairs]}
    trainer = DPOTrainer(
        model=base.model,
        args=arguments(out, losses, len(pairs)),
        train_dataset=Dataset.from_dict(texts),
        processing_class=base.tokenizer,
        peft_config=adapter(),
    )
    assert not trainer.precompute_ref_logps
    return loss_and_gradients(trainer)


def by_alignvec(
    tiny_folder: Path, out: Path, rows: Sequence[PreferenceRow], order: str, losses: dict[str, float], kept: Kept = ()
) -> Any:
    base = models.load(str(tiny_folder), device="cpu")
    ranked = parse_order(order)
    encoded = [
        encode_replies(base.tokenizer, row.query, [row.responses[v] for v in ranked.levels], max_length=512)
        for row in rows
    ]
    encoded += [encode_replies(base.tokenizer, query, both, max_length=512) for query, *both in kept]
    level_pairs = [(ranked.levels.index(c), ranked.levels.index(r)) for c, r in ranked.level_pairs()]
    columns = {
        "prompt": [row.prompt for row in encoded],
        "replies": [row.replies for row in encoded],
        "reference": score_base(base, encoded, 1),
        "pairs": [level_pairs for _ in rows] + [[(0, 1)] for _ in kept],
    }
    trainer = ListwiseDPOTrainer(
        model=base.model,
        args=arguments(out, losses, len(encoded)),
        train_dataset=Dataset.from_dict(columns),
        processing_class=base.tokenizer,
        data_collator=ListwiseCollator(base.tokenizer.pad_token_id, torch.float32),
        peft_config=adapter(),
    )
    return loss_and_gradients(trainer)


def assert_alike(found: tuple[float, dict[str, torch.Tensor]], trls: tuple[float, dict[str, torch.Tensor]]) -> None:
    (loss, gradients), (expected_loss, expected) = found, trls
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    assert set(gradients) == set(expected)
    assert len(gradients) == 2 * 14  # two factors for each of seven linear layers in two blocks
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        assert scale > 0
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-3, atol=1e-3 * scale)


@pytest.mark.parametrize(
    ("order", "losses"),
    [
        ("expert>generic>avoidance", {"sigmoid": 1.0}),
        ("expert>generic>avoidance", {"ipo": 1.0}),
        ("expert>generic>avoidance", {"sigmoid": 1.0, "sft": 0.5}),
        ("expert>generic>avoidance", {"ipo": 0.25, "sft": 1.0}),
        ("avoidance>generic=expert", {"sigmoid": 1.0, "sft": 1.0}),
    ],
    ids=["sigmoid", "ipo", "sigmoid+sft", "ipo+sft", "two-ranks"],
)
def test_loss_and_gradients_are_trls(
    tiny_folder: Path, tmp_path: Path, rows: list[PreferenceRow], order: str, losses: dict[str, float]
) -> None:
    expected = by_trl(tiny_folder, tmp_path / "trl", rows[:2], order, losses)
    assert_alike(by_alignvec(tiny_folder, tmp_path / "alignvec", rows[:2], order, losses), expected)


@pytest.mark.parametrize(("loss", "times"), [("sigmoid", 3), ("ipo", 3), ("sft", 1)])
def test_rows_of_fewer_replies_share_a_batch_with_the_others(
    tiny_folder: Path, tmp_path: Path, rows: list[PreferenceRow], loss: str, times: int
) -> None:
    """A row of one pair weighs as much as one of three: for TRL it is there three times."""
    losses = {loss: 1.0}
    order = "expert>generic>avoidance"
    kept = [("Name a bird.", "A wren, say.", "Take a dose."), ("Name a fish.", "Cod.", "Ask a doctor about fish.")]
    expected = by_trl(tiny_folder, tmp_path / "trl", rows[:1], order, losses, kept * times)
    assert_alike(by_alignvec(tiny_folder, tmp_path / "alignvec", rows[:1], order, losses, kept), expected)


def test_the_losses_have_their_closed_forms() -> None:
    scores = torch.tensor([[-3.0, -8.0], [-5.0, -4.0]])
    reference = torch.tensor([[-4.0, -6.0], [-5.0, -6.0]])
    counts = torch.tensor([[2, 4], [5, 1]])
    pairs = torch.tensor([(0, 1), (2, 3)])  # of each of two rows the first reply over the second
    margins = torch.tensor([(-3 + 4) - (-8 + 6), (-5 + 5) - (-4 + 6)], dtype=torch.float64)
    per_token = torch.tensor([1 / 2 - (-2) / 4, 0 / 5 - 2 / 1], dtype=torch.float64)
    expected = {
        "sigmoid": -torch.log(1 / (1 + torch.exp(-0.5 * margins))).mean().item(),
        "ipo": ((per_token - 1.0) ** 2).mean().item(),
        "sft": (3 + 5) / (2 + 5),
    }
    for name, value in expected.items():
        found = preference_loss(scores, reference, counts, pairs, {name: 1.0}, 0.5)
        assert found.item() == pytest.approx(value, rel=1e-6)
    both = preference_loss(scores, reference, counts, pairs, {"sigmoid": 2.0, "sft": 0.5}, 0.5)
    assert both.item() == pytest.approx(2 * expected["sigmoid"] + 0.5 * expected["sft"], rel=1e-6)


@pytest.mark.parametrize("name", ["sigmoid", "ipo"])
def test_a_rows_weight_does_not_depend_on_how_rows_are_split_into_batches(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    scores, reference = torch.randn(2, 2, 3, generator=generator)
    counts = torch.ones(2, 3)
    first, second = torch.tensor([(0, 1), (0, 2), (1, 2)]), torch.tensor([(0, 1)])

    def loss(rows: slice, pairs: torch.Tensor) -> float:
        return preference_loss(scores[rows], reference[rows], counts[rows], pairs, {name: 1.0}, 0.5).item()

    together = loss(slice(2), torch.cat([first, second + 3]))
    apart = loss(slice(1), first), loss(slice(1, 2), second)
    assert together == pytest.approx(sum(apart) / 2) and apart[0] != pytest.approx(apart[1])


def test_a_model_equal_to_its_reference_loses_log_two_a_pair() -> None:
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    pairs = torch.tensor([(3 * row + c, 3 * row + r) for row in range(4) for c, r in ((0, 1), (0, 2), (1, 2))])
    loss = preference_loss(scores, scores, torch.ones(4, 3), pairs, {"sigmoid": 1.0}, 0.3)
    assert loss.item() == pytest.approx(0.6931471805599453, rel=1e-6)
