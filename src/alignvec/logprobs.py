"""Log-probabilities of replies: all replies to a query in one packed row, so that the prompt is computed once.

A row is `prompt[:-1]`, then for every reply a segment `prompt[-1] + reply`. The attention mask lets a segment see the
prompt and itself only, and its positions go on from the prompt's, so each reply is scored as if it stood alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignvec.errors import DataError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class EncodedReplies:
    """Token ids of one prompt and of its replies; each reply ends with the end-of-turn token."""

    prompt: tuple[int, ...]
    replies: tuple[tuple[int, ...], ...]

    @property
    def packed_length(self) -> int:
        """Tokens in the packed row."""
        return len(self.prompt) - 1 + sum(1 + len(reply) for reply in self.replies)


@dataclass(frozen=True)
class PackedBatch:
    """Model inputs for packed rows, and what to read from the outputs.

    Attributes:
        input_ids: [rows, length].
        position_ids: [rows, length].
        attention_mask: [rows, 1, length, length], 0 where attention is allowed and a very negative number elsewhere.
        keep: [kept], positions whose logits are needed by any row.
        targets: [rows, kept], token that follows a kept position, -100 where the row does not need it.
        segment: [rows, kept], index of the reply the target belongs to (0 where there is none).
        counts: [rows, replies], tokens of each reply.
    """

    input_ids: "torch.Tensor"
    position_ids: "torch.Tensor"
    attention_mask: "torch.Tensor"
    keep: "torch.Tensor"
    targets: "torch.Tensor"
    segment: "torch.Tensor"
    counts: "torch.Tensor"


def encode_prompt(tokenizer: Any, chat: Sequence[Mapping[str, str]]) -> list[int]:
    """Token ids of a chat (messages with role and content) in the chat template, up to where the reply begins.

    Raises:
        DataError: if it holds half a surrogate pair.
    """
    return _encode(tokenizer, chat, add_generation_prompt=True)


def encode_replies(
    tokenizer: Any,
    query: str,
    replies: Sequence[str],
    *,
    max_length: int,
    before: Sequence[Mapping[str, str]] = (),
) -> EncodedReplies:
    """Tokenise a query with replies to it, each as the chat template renders it, cut after its end-of-turn token.

    Args:
        max_length: most tokens a prompt with one reply may have.
        before: turns of the chat that come before the query.

    Raises:
        DataError: if a prompt with its reply is longer than that, or holds half a surrogate pair.
    """
    asked = [*before, {"role": "user", "content": query}]
    prompt = encode_prompt(tokenizer, asked)
    encoded = [_encode(tokenizer, [*asked, {"role": "assistant", "content": reply}]) for reply in replies]
    shared = min(_shared_prefix(prompt, full) for full in encoded)
    tails = tuple(_until_end_of_turn(full[shared:], tokenizer.eos_token_id) for full in encoded)
    longest = shared + max(map(len, tails))
    if longest > max_length:
        start = " ".join(query.split())[:60]
        raise DataError(
            f"the query {start!r} with its reply has {longest} tokens, more than the {max_length} allowed; shorten it"
        )
    return EncodedReplies(tuple(prompt[:shared]), tails)


def pack(
    encoded: Sequence[EncodedReplies], *, pad_id: int, dtype: "torch.dtype", device: "torch.device"
) -> PackedBatch:
    """Build the model inputs for rows that have the same number of replies.

    Args:
        encoded: one entry a row.
        pad_id: token id to pad with (its value has no effect).
        dtype: of the attention mask; the model's.
        device: where the tensors go.
    """
    import torch

    length = max(row.packed_length for row in encoded)
    rows, replies = len(encoded), len(encoded[0].replies)
    ids = torch.full((rows, length), pad_id)
    positions = torch.zeros((rows, length), dtype=torch.long)
    owner = torch.full((rows, length), -2)  # -2 padding, -1 prompt, else the reply's index
    following = torch.full((rows, length), -100)
    counts = torch.zeros((rows, replies), dtype=torch.long)
    for r, row in enumerate(encoded):
        stem = len(row.prompt) - 1
        ids[r, :stem] = torch.tensor(row.prompt[:-1], dtype=torch.long)
        positions[r, :stem] = torch.arange(stem)
        owner[r, :stem] = -1
        start = stem
        for s, reply in enumerate(row.replies):
            end = start + 1 + len(reply)
            ids[r, start:end] = torch.tensor((row.prompt[-1], *reply))
            positions[r, start:end] = torch.arange(stem, stem + 1 + len(reply))
            owner[r, start:end] = s
            following[r, start : end - 1] = torch.tensor(reply)
            counts[r, s] = len(reply)
            start = end
    keep = (following != -100).any(dim=0).nonzero().squeeze(1)
    tensors = (ids, positions, keep, following[:, keep], owner[:, keep].clamp(min=0), counts)
    ids, positions, keep, targets, segment, counts = (t.to(device) for t in tensors)
    return PackedBatch(ids, positions, _mask(owner.to(device), dtype), keep, targets, segment, counts)


def _mask(owner: "torch.Tensor", dtype: "torch.dtype") -> "torch.Tensor":
    """Where attention is allowed, [rows, 1, length, length], made on the device that needs it: it is the largest."""
    import torch

    length = owner.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=owner.device).tril()
    same = owner[:, :, None] == owner[:, None, :]
    visible = causal & (same | (owner[:, None, :] == -1))
    return torch.zeros(visible.shape, dtype=dtype, device=owner.device).masked_fill(~visible, torch.finfo(dtype).min)[
        :, None
    ]


def reply_logprobs(model: Any, batch: PackedBatch) -> "torch.Tensor":
    """Summed log-probability of every reply, [rows, replies], in nats, float32; differentiable."""
    return sum_logprobs(kept_logits(model, batch), batch)


def kept_logits(model: Any, batch: PackedBatch) -> "torch.Tensor":
    """Logits of the positions that predict a reply token, [rows, kept, vocabulary], float32; differentiable.

    No other position goes through the language-model head.
    """
    output = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        logits_to_keep=batch.keep,
        use_cache=False,
    )
    logits: torch.Tensor = output.logits.float()
    return logits


def sum_logprobs(logits: "torch.Tensor", batch: PackedBatch) -> "torch.Tensor":
    """Summed log-probability of every reply, [rows, replies], in nats, from what `kept_logits` gives."""
    import torch

    nll = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), ignore_index=-100, reduction="none"
    ).view_as(batch.targets)
    sums = torch.zeros(batch.counts.shape, dtype=torch.float32, device=nll.device)
    return sums.scatter_add(1, batch.segment, -nll)


def _encode(tokenizer: Any, chat: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = False) -> list[int]:
    text: str = tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=add_generation_prompt)
    try:
        text.encode()
    except UnicodeEncodeError as error:  # such as Python makes of bytes on a command line that are no UTF-8
        raise DataError(
            f"the text has {text[error.start]!r}, half a surrogate pair, so it is no Unicode text; write it as UTF-8"
        ) from None
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _shared_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def _until_end_of_turn(ids: Sequence[int], end: int) -> tuple[int, ...]:
    if end in ids:
        return tuple(ids[: len(ids) - 1 - list(reversed(ids)).index(end) + 1])
    return (*ids, end)
