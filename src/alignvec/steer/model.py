"""A base model with knobs: one setting for all rows of a batch, or one for each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from alignvec.errors import DataError, KnobError
from alignvec.logprobs import EncodedReplies, encode_prompt, pack, reply_logprobs
from alignvec.merge.inplace import InplaceKnob
from alignvec.models import BaseModel
from alignvec.steer.knobs import Knobs, check_knobs
from alignvec.steer.rowwise import RowwiseModules, split
from alignvec.steer.sampling import Sampling, logits_processors
from alignvec.steer.stacked import StackedLayers, check_rows
from alignvec.vectors.fingerprint import fingerprint, template_hash
from alignvec.vectors.vector import AlignmentVector


class Continuation(NamedTuple):
    """A generated reply.

    Attributes:
        text: of the reply, stripped.
        ended: whether it ended by itself: one that was cut off at the longest length did not.
        tokens: that were generated, the one that ended the turn included; None: not counted.
        finite: whether all its tokens were chosen from finite numbers; knobs that are turned too far leave none.
    """

    text: str
    ended: bool
    tokens: int | None = None
    finite: bool = True


class KnobbedModel:
    """A base model and the vectors whose knobs can be turned on it.

    Low-rank deltas of linear layers, and any deltas of norms, biases and embeddings, go through a gated side path, so
    that rows of one batch may differ. A vector with another delta is rebuilt into the weights as a whole, so rows of
    one batch share its coefficient.

    Args:
        base: the loaded base model.
        vectors: vectors made for it.
        allow_other_base: skip the fingerprint check, to move a vector to another fine-tuning stage on purpose.

    Raises:
        VectorError: if a vector belongs to another base or does not fit the model's tensors.
        KnobError: if two vectors have the same name.
    """

    def __init__(
        self, base: BaseModel, vectors: Sequence[AlignmentVector] = (), *, allow_other_base: bool = False
    ) -> None:
        self.base = base
        self.vectors = {vector.name: vector for vector in vectors}
        if len(self.vectors) < len(vectors):
            raise KnobError("two vectors have the same name; rename one in its card.json, or load one at a time")
        if vectors and not allow_other_base:
            found = fingerprint(base.folder)
            for vector in vectors:
                vector.require_base(found)
                vector.require_template(template_hash(base.tokenizer))
        splits = [split(base.model, vector) for vector in vectors]
        rowwise = [one for found in splits if found is not None for one in found]
        self._low = [one.stacked for one in rowwise]
        self._dense = [p for v, found in zip(vectors, splits, strict=True) if found is None for p in v.parts]
        self._stacked = StackedLayers(base.model, self._low)
        self._rowwise = RowwiseModules(base.model, [one.rowwise for one in rowwise])
        self._inplace = InplaceKnob(dict(base.model.named_parameters()), self._dense) if self._dense else None
        self._turned = False

    @contextmanager
    def knobs(self, rows: Knobs | Sequence[Knobs]) -> Iterator[Any]:
        """Turn the knobs for the calls made inside; afterwards the model is the base again, bit for bit.

        Args:
            rows: one setting for every row, or one for each row of the batches that will be passed.

        Yields:
            The `transformers` model.

        Raises:
            KnobError: if a name is unknown, a coefficient is not finite, contexts are nested, or rows differ in a
                dense vector's coefficient.
        """
        settings = _settings(rows)
        if not settings:
            raise KnobError("no knob setting at all; give one for all rows, or one for each ({} is the base)")
        for setting in settings:
            check_knobs(setting, self.vectors)
        if self._turned:
            raise KnobError("knob contexts cannot be nested; leave one before entering the next")
        dense = [self._dense_gates(setting) for setting in settings]
        if any(gates != dense[0] for gates in dense):
            names = ", ".join(sorted({part.vector for part in self._dense}))
            raise KnobError(
                f"rows of one batch differ in a dense vector ({names}); dense vectors need one coefficient a batch"
            )
        gates = [[part.gate(setting.get(part.vector, 0.0)) for part in self._low] for setting in settings]
        self._turned = True
        try:
            if self._inplace is not None and any(dense[0]):
                self._inplace.turn(dense[0])
            table = torch.tensor(gates, dtype=torch.float32).view(len(settings), len(self._low))
            self._stacked.turn(table)
            self._rowwise.turn(table)
            yield self.base.model
        finally:
            self._stacked.turn(torch.zeros((1, len(self._low))))
            self._rowwise.close()
            if self._inplace is not None and any(dense[0]):
                self._inplace.restore()
            self._turned = False

    def score(self, encoded: Sequence[EncodedReplies], rows: Knobs | Sequence[Knobs]) -> torch.Tensor:
        """Summed log-probability of every reply, [rows, replies], in nats, in one batch.

        Rows that differ in a dense vector are scored one setting after the other.

        Args:
            encoded: one query with its replies a row; every row has as many replies.
            rows: one setting, or one for each row.
        """
        settings = _settings(rows)
        check_rows(len(settings), len(encoded))
        if len(groups := self._groups(settings)) > 1:
            scores = torch.empty(len(encoded), len(encoded[0].replies))
            for group in groups:
                scores[group] = self.score([encoded[i] for i in group], [settings[i] for i in group])
            return scores
        batch = pack(
            encoded, pad_id=self.base.tokenizer.pad_token_id, dtype=self.base.model.dtype, device=self.base.device
        )
        with torch.no_grad(), self.knobs(rows) as model:
            return reply_logprobs(model, batch).cpu()

    def generate(
        self,
        queries: Sequence[str],
        rows: Knobs | Sequence[Knobs],
        sampling: Sampling,
        *,
        streamer: Any = None,
    ) -> list[str]:
        """One reply to every query, in one batch; rows that differ in a dense vector one setting after the other.

        Args:
            queries: one user query a row.
            rows: one setting, or one for each row.
            sampling: how to decode.
            streamer: a `transformers` streamer, for a single row.

        Raises:
            DataError: if a query with the reply does not fit the model's context.
        """
        return self.continue_chats(
            [[{"role": "user", "content": q}] for q in queries], rows, sampling, streamer=streamer
        )

    def continue_chats(
        self,
        chats: Sequence[Sequence[dict[str, str]]],
        rows: Knobs | Sequence[Knobs],
        sampling: Sampling,
        *,
        streamer: Any = None,
    ) -> list[str]:
        """The next assistant turn of every chat; arguments as for `generate`."""
        return [reply.text for reply in self.continuations(chats, rows, sampling, streamer=streamer)]

    def continuations(
        self,
        chats: Sequence[Sequence[dict[str, str]]],
        rows: Knobs | Sequence[Knobs],
        sampling: Sampling,
        *,
        streamer: Any = None,
        combine: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        keys: Sequence[Sequence[int]] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[Continuation]:
        """The next assistant turn of every chat, and whether it ended by itself; other arguments as for `generate`.

        Args:
            combine: makes the logits, [rows, vocabulary], that tokens are sampled from, of the tokens so far and the
                model's logits; it may take those of several rows together.
            keys: token ids that seed each row's sampling noise, so that different chats can share it; default: those
                of the chat itself.
            seeds: each row's seed of sampling; default: that of `sampling` for all.

        Raises:
            KnobError: if rows that are combined differ in a dense vector, or there are not as many keys or seeds as
                chats.
        """
        settings = _settings(rows)
        check_rows(len(settings), len(chats))
        if keys is not None and len(keys) != len(chats):
            raise KnobError(f"{len(keys)} keys of sampling noise for {len(chats)} chats; give one for each")
        if seeds is not None and len(seeds) != len(chats):
            raise KnobError(f"{len(seeds)} seeds for {len(chats)} chats; give one for each")
        if len(groups := self._groups(settings)) > 1:
            if combine is not None:
                raise KnobError("rows that differ in a dense vector cannot be combined; compress it to low rank first")
            replies: dict[int, Continuation] = {}
            for group in groups:
                found = self.continuations(
                    [chats[i] for i in group],
                    [settings[i] for i in group],
                    sampling,
                    keys=None if keys is None else [keys[i] for i in group],
                    seeds=None if seeds is None else [seeds[i] for i in group],
                )
                replies |= zip(group, found, strict=True)
            return [replies[i] for i in range(len(chats))]
        tokenizer = self.base.tokenizer
        prompts = [encode_prompt(tokenizer, chat) for chat in chats]
        longest = max(map(len, prompts))
        if longest + sampling.max_new_tokens > self.base.context_length:
            raise DataError(
                f"a query of {longest} tokens and a reply of up to {sampling.max_new_tokens} do not fit the model's "
                f"context of {self.base.context_length}; shorten the query or --max-new-tokens"
            )
        processors = logits_processors(sampling, prompts, longest, first=combine, keys=keys, seeds=seeds)
        largest: list[torch.Tensor] = []

        def watch(_: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
            largest.append(logits.amax(dim=-1))  # NaN if any is; read at the end, so that no token waits for it
            return logits

        processors.insert(0, watch)
        ids = torch.tensor([[tokenizer.pad_token_id] * (longest - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        with torch.no_grad(), self.knobs(rows) as model:
            output = model.generate(
                input_ids=ids.to(self.base.device),
                attention_mask=mask.to(self.base.device),
                max_new_tokens=sampling.max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                repetition_penalty=1.0,
                logits_processor=processors,
                pad_token_id=tokenizer.pad_token_id,
                streamer=streamer,
            )
        tokens = output[:, longest:].cpu()
        ends = self.base.model.generation_config.eos_token_id  # one, several, or None
        at_end = torch.isin(tokens, torch.tensor([] if ends is None else ends))
        ended = at_end.any(dim=1)
        counts = torch.where(ended, at_end.int().argmax(dim=1) + 1, tokens.shape[1])  # after the end comes padding
        beyond = torch.arange(tokens.shape[1]) >= counts[:, None]
        finite = (torch.stack(largest, dim=1).isfinite().cpu() | beyond).all(dim=1)
        texts = (str(text).strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True))
        return list(map(Continuation, texts, ended.tolist(), counts.tolist(), finite.tolist()))

    def _dense_gates(self, setting: Knobs) -> tuple[float, ...]:
        return tuple(part.gate(setting.get(part.vector, 0.0)) for part in self._dense)

    def _groups(self, settings: Sequence[Knobs]) -> list[list[int]]:
        """Rows that can share a batch: those with the same coefficients of dense vectors."""
        groups: dict[tuple[float, ...], list[int]] = {}
        for i, setting in enumerate(settings):
            groups.setdefault(self._dense_gates(setting), []).append(i)
        return list(groups.values())


def _settings(rows: Knobs | Sequence[Knobs]) -> list[Knobs]:
    return [rows] if isinstance(rows, Mapping) else list(rows)
