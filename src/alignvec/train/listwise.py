"""DPO over all replies of a query at once: TRL's trainer and losses, each reply scored once, not once a pair.

Three replies make three pairs, six sequences in TRL's pairwise batches; here they make one packed row (see
`alignvec.logprobs`). The losses are TRL's, value for value (tests/train compares them).
"""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.nn import functional
from trl.trainer.dpo_trainer import DPOTrainer

from alignvec.logprobs import EncodedReplies, PackedBatch, pack, reply_logprobs


class ListwiseCollator:
    """Packs dataset rows `{prompt, replies, reference}` into a batch."""

    def __init__(self, pad_id: int, dtype: torch.dtype) -> None:
        self.pad_id = pad_id
        self.dtype = dtype

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """The tensors of a `PackedBatch`, and `reference` [rows, replies]."""
        encoded = [EncodedReplies(tuple(r["prompt"]), tuple(map(tuple, r["replies"]))) for r in rows]
        batch = pack(encoded, pad_id=self.pad_id, dtype=self.dtype, device=torch.device("cpu"))
        return {**vars(batch), "reference": torch.tensor([r["reference"] for r in rows])}


class ListwiseDPOTrainer(DPOTrainer):
    """TRL's `DPOTrainer` for packed rows.

    Args:
        pairs: (chosen, rejected) indices into a row's replies.
        kwargs: as for `DPOTrainer`; the data collator must be a `ListwiseCollator` and the dataset must have columns
            prompt, replies and reference (summed log-probabilities under the base).
    """

    def __init__(self, *, pairs: Sequence[tuple[int, int]], **kwargs: Any) -> None:
        self._chosen = torch.tensor([c for c, _ in pairs])
        self._rejected = torch.tensor([r for _, r in pairs])
        super().__init__(**kwargs)

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["prompt", "replies", "reference"]  # type: ignore[assignment]

    def _compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool) -> torch.Tensor:
        reference = inputs["reference"]
        batch = PackedBatch(**{k: v for k, v in inputs.items() if k != "reference"})
        scores = reply_logprobs(model, batch)
        loss = preference_loss(
            scores,
            reference,
            batch.counts,
            self._chosen.to(scores.device),
            self._rejected.to(scores.device),
            dict(zip(self.loss_types, self.loss_weights, strict=True)),
            self.beta,
        )
        self._record(model, scores.detach(), reference, batch.counts)
        return loss

    def _record(self, model: Any, scores: torch.Tensor, reference: torch.Tensor, counts: torch.Tensor) -> None:
        mode = "train" if model.training else "eval"
        rewards = self.beta * (scores - reference)
        per_token = (scores - reference) / counts
        chosen, rejected = self._chosen.to(scores.device), self._rejected.to(scores.device)
        margins = rewards[:, chosen] - rewards[:, rejected]
        values = {
            "rewards/margins": margins,
            "rewards/accuracies": (margins > 0).float(),
            "rewards/chosen": rewards[:, chosen],
            "rewards/rejected": rewards[:, rejected],
            "margins_per_token": per_token[:, chosen] - per_token[:, rejected],
            "nll/chosen": -(scores / counts)[:, chosen],
        }
        for name, value in values.items():
            self._metrics[mode][name].append(self.accelerator.gather(value).mean().item())


def preference_loss(
    scores: torch.Tensor,
    reference: torch.Tensor,
    counts: torch.Tensor,
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    weights: dict[str, float],
    beta: float,
) -> torch.Tensor:
    """Weighted sum of losses, each the mean over all pairs of all rows.

    Args:
        scores: [rows, replies], summed log-probabilities under the model in training.
        reference: [rows, replies], the same under the base.
        counts: [rows, replies], tokens of each reply.
        chosen: [pairs], index of the chosen reply.
        rejected: [pairs], index of the rejected reply.
        weights: loss name (`sigmoid`, `ipo`, `sft`) to weight.
        beta: β of the sigmoid loss (Rafailov et al. 2023, eq. 7), τ of IPO (Azar et al. 2023, eq. 17) on
            log-ratios averaged over tokens, as TRL has it.
    """
    ratios = scores - reference
    per_token = ratios / counts
    losses = {
        "sigmoid": lambda: -functional.logsigmoid(beta * (ratios[:, chosen] - ratios[:, rejected])).mean(),
        "ipo": lambda: ((per_token[:, chosen] - per_token[:, rejected] - 1 / (2 * beta)) ** 2).mean(),
        "sft": lambda: -scores[:, chosen].sum() / counts[:, chosen].sum(),
    }
    return torch.stack([weight * losses[name]() for name, weight in weights.items()]).sum()
