"""DPO over all replies of a query at once: TRL's trainer and losses, each reply scored once, not once a pair.

Three replies make three pairs, six sequences in TRL's pairwise batches; here they make one packed row (see
`alignvec.logprobs`). The losses are TRL's, value for value, where every row makes as many pairs (tests/train compares
them); else rows count alike in whatever batch they stand, as pairs do in TRL's.
"""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.nn import functional
from trl.trainer.dpo_trainer import DPOTrainer

from alignvec import processes
from alignvec.logprobs import EncodedReplies, PackedBatch, pack, reply_logprobs
from alignvec.train.batches import OwnBatches, OwnLoader

_NOTHING = {"prompt": (0, 0), "replies": ((0,), (0,)), "reference": (0.0, 0.0), "pairs": ((0, 1),)}
"""A row as small as can be, so that a process without rows goes through the model with the others."""


class ListwiseCollator:
    """Packs dataset rows `{prompt, replies, reference, pairs}` into a batch; their numbers of replies may differ."""

    def __init__(self, pad_id: int, dtype: torch.dtype) -> None:
        self.pad_id = pad_id
        self.dtype = dtype

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """The tensors of a `PackedBatch`, `reference` [rows, replies], and `pairs` as `preference_loss` wants them.

        A row of fewer replies than another gets empty ones, which no pair names. `share` is the batch's weight in its
        optimiser step: 1, or 0 for the batch without rows that a process takes part with when it has none left.
        """
        share = float(bool(rows))
        rows = rows or [_NOTHING]
        most = max(len(row["replies"]) for row in rows)
        missing = [most - len(row["replies"]) for row in rows]
        encoded = [
            EncodedReplies(tuple(row["prompt"]), (*map(tuple, row["replies"]), *[()] * short))
            for row, short in zip(rows, missing, strict=True)
        ]
        batch = pack(encoded, pad_id=self.pad_id, dtype=self.dtype, device=torch.device("cpu"))
        reference = [[*row["reference"], *[0.0] * short] for row, short in zip(rows, missing, strict=True)]
        pairs = [(i * most + c, i * most + r) for i, row in enumerate(rows) for c, r in row["pairs"]]
        beside = {"reference": reference, "pairs": pairs, "share": share}
        return {**vars(batch), **{name: torch.tensor(value) for name, value in beside.items()}}


class ListwiseDPOTrainer(DPOTrainer):
    """TRL's `DPOTrainer` for packed rows.

    Takes the arguments of `DPOTrainer`; the data collator must be a `ListwiseCollator` and the dataset must have
    columns prompt, replies, reference (summed log-probabilities under the base) and pairs ((chosen, rejected) indices
    into the row's replies).

    Attributes:
        reference_beside: compute the reference in each step, with the factors off, instead of taking the dataset's.
    """

    reference_beside = False

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["prompt", "replies", "reference", "pairs"]  # type: ignore[assignment]

    def get_train_dataloader(self) -> Any:
        """The trainer's own loader; of several processes the share of each of the same micro-batches."""
        if processes.count() == 1:
            return super().get_train_dataloader()
        rows: Any = self.train_dataset
        batches = OwnBatches(len(rows), self.args.per_device_train_batch_size, self.args.seed)
        return OwnLoader(rows, batches, self.data_collator)

    def get_batch_samples(self, *arguments: Any) -> tuple[list[dict[str, torch.Tensor]], Any]:
        """The micro-batches of a step, each with the weight that makes the mean over all processes that of one.

        The trainer takes the mean over a process's micro-batches, and then over processes.
        """
        batches, items = super().get_batch_samples(*arguments)
        if processes.count() > 1:
            own = torch.stack([batch["share"] for batch in batches])
            total = self.accelerator.gather(own.to(self.args.device)).sum().cpu()
            for batch in batches:
                batch["share"] *= len(batches) * processes.count() / total
        return batches, items

    def _compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool) -> torch.Tensor:
        reference, pairs, share = (inputs.pop(name) for name in ("reference", "pairs", "share"))
        batch = PackedBatch(**inputs)
        if self.reference_beside:
            with torch.no_grad(), self.accelerator.unwrap_model(model).disable_adapter():
                reference = reply_logprobs(model, batch)
        scores = reply_logprobs(model, batch)
        weights = dict(zip(self.loss_types, self.loss_weights, strict=True))
        loss = share * preference_loss(scores, reference, batch.counts, pairs, weights, self.beta)
        self._record(model, scores.detach(), reference, batch.counts, pairs, share)
        return loss

    def _record(
        self,
        model: Any,
        scores: torch.Tensor,
        reference: torch.Tensor,
        counts: torch.Tensor,
        pairs: torch.Tensor,
        share: torch.Tensor,
    ) -> None:
        mode = "train" if model.training else "eval"
        chosen, rejected = pairs.unbind(dim=1)
        rewards = (self.beta * (scores - reference)).flatten()
        per_token = ((scores - reference) / counts).flatten()
        margins = rewards[chosen] - rewards[rejected]
        values = {
            "rewards/margins": margins,
            "rewards/accuracies": (margins > 0).float(),
            "rewards/chosen": rewards[chosen],
            "rewards/rejected": rewards[rejected],
            "margins_per_token": per_token[chosen] - per_token[rejected],
            "nll/chosen": -(scores / counts).flatten()[chosen],
        }
        own = torch.stack([share, *(value.mean() for value in values.values())])
        for weight, *means in self.accelerator.gather(own[None]).tolist():
            if weight:
                for name, mean in zip(values, means, strict=True):
                    self._metrics[mode][name].append(mean)


def preference_loss(
    scores: torch.Tensor,
    reference: torch.Tensor,
    counts: torch.Tensor,
    pairs: torch.Tensor,
    weights: dict[str, float],
    beta: float,
) -> torch.Tensor:
    """Weighted sum of losses; of `sigmoid` and `ipo` the mean over each row's pairs, then over rows.

    So a row has the same weight however rows are split into batches. `sft` is the mean over the tokens of the chosen
    replies of all pairs, as TRL has it.

    Args:
        scores: [rows, replies], summed log-probabilities under the model in training.
        reference: [rows, replies], the same under the base.
        counts: [rows, replies], tokens of each reply; 0 where a row has no such reply.
        pairs: [pairs, 2], places of the chosen and the rejected reply, counted row after row: row · replies + reply.
        weights: loss name (`sigmoid`, `ipo`, `sft`) to weight.
        beta: β of the sigmoid loss (Rafailov et al. 2023, eq. 7), τ of IPO (Azar et al. 2023, eq. 17) on
            log-ratios averaged over tokens, as TRL has it.
    """
    chosen, rejected = pairs.unbind(dim=1)
    ratios = (scores - reference).flatten()
    per_token = ratios / counts.flatten().clamp(min=1)  # 0 / 0 would make every gradient NaN
    row = chosen // scores.shape[1]
    shares = 1 / row.bincount()[row]  # of each pair in its row
    shares = shares / shares.sum()
    losses = {
        "sigmoid": lambda: -(shares * functional.logsigmoid(beta * (ratios[chosen] - ratios[rejected]))).sum(),
        "ipo": lambda: (shares * (per_token[chosen] - per_token[rejected] - 1 / (2 * beta)) ** 2).sum(),
        "sft": lambda: -scores.flatten()[chosen].sum() / counts.flatten()[chosen].sum(),
    }
    return torch.stack([weight * losses[name]() for name, weight in weights.items()]).sum()
