"""Attention over a packed row on the CPU: each request's tokens look at its own keys only.

`sdpa` of transformers' continuous batching multiplies every query with the keys of all requests and masks most of them
away; the work grows with the square of the batch. Here it grows with the batch.
"""

from typing import Any

import torch
from torch.nn import functional

PACKED = "alignvec_packed"
"""Name under which transformers finds this attention."""


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    cache: Any = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of packed requests, [1, tokens, heads, width], with their keys and values in a paged cache.

    Args:
        module: the attention layer.
        query: [1, heads, tokens, width].
        key: of the new tokens, [1, key heads, tokens, width].
        value: as the keys.
        attention_mask: must be None; the lengths in `kwargs` say which token may see which.
        scaling: of the products.
        cache: transformers' `PagedAttentionCache`.
        sliding_window: how far back a token sees, if the layer limits it.
        **kwargs: cumulative lengths and cache indices, see transformers' `PagedAttentionArgs`.
    """
    key, value = cache.update(key_states=key, value_states=value, layer_idx=module.layer_idx, kwargs=kwargs)
    queries, keys = kwargs["cu_seq_lens_q"].tolist(), kwargs["cu_seq_lens_k"].tolist()
    out = torch.empty_like(query)
    for start, end, first, last in zip(queries, queries[1:], keys, keys[1:], strict=False):
        q, k, v = query[:, :, start:end], key[:, :, first:last], value[:, :, first:last]
        out[:, :, start:end] = _attention(q, k, v, scaling, sliding_window)
    return out.transpose(1, 2), None


def register() -> None:
    """Make the attention known to transformers; may be called again."""
    from transformers import AttentionInterface

    AttentionInterface.register(PACKED, packed_attention)


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, window: int | None
) -> torch.Tensor:
    """One request's attention; its last query sees all keys, each earlier one a key less."""
    heads, new, old = query.shape[1], query.shape[2], key.shape[2] - query.shape[2]
    if new == 1:  # heads that share keys are queries of one head: no copy of the keys
        grouped = query.reshape(1, key.shape[1], heads // key.shape[1], -1)
        return functional.scaled_dot_product_attention(grouped, key, value, scale=scaling).reshape(query.shape)
    if old or (window is not None and window < new):
        mask = torch.ones(new, old + new, dtype=torch.bool, device=query.device).tril(old)
        if window is not None:
            mask = mask.triu(old - window + 1)
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scaling, enable_gqa=True
        )
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)
