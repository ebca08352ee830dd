"""A router: how likely a prompt is a domain's business, so that a domain's knob acts on its prompts only.

The features are the base model's own hidden states, averaged over the tokens of the prompt in its chat template; there
is no second model. Each domain has a logistic regression of its own, so a prompt may belong to several domains, or to
none. A ramp turns a probability into the share of a knob that acts: all of it where the router is sure enough, exactly
none where a prompt is another domain's business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel as Record
from pydantic import ConfigDict, Field, ValidationError, field_validator

from alignvec.errors import VectorError
from alignvec.files import atomic_folder
from alignvec.logprobs import encode_prompt
from alignvec.models import BaseModel
from alignvec.steer.knobs import Knobs

CARD, WEIGHTS = "router.json", "router.safetensors"
Array = npt.NDArray[np.float64]
BATCH = 16


class RouterCard(Record):
    """What a router is, and how often it is right; stored as `router.json`.

    Attributes:
        base: fingerprint of the base model whose hidden states it reads.
        domains: names of the domains.
        layers: numbers of the layers whose outputs are averaged, from 1; their averages stand one after the other.
        ramp: probability up to which a knob does not act, and the one from which it acts in full; between them its
            share rises evenly. (0, 1) is plain multiplication by the probability.
        measured: figures on prompts it was not trained on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str
    domains: tuple[str, ...] = Field(min_length=1)
    layers: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    ramp: tuple[float, float] = (0.0, 1.0)
    measured: dict[str, Any] = Field(default_factory=dict)

    @field_validator("ramp")
    @classmethod
    def _rises(cls, ramp: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= ramp[0] < ramp[1] <= 1:
            raise ValueError("a ramp rises from a lower to a higher probability")
        return ramp


@dataclass(frozen=True)
class Router:
    """Probabilities of domains.

    Attributes:
        card: what it is.
        weight: [domains, layers × width].
        bias: [domains].
    """

    card: RouterCard
    weight: Array
    bias: Array

    def probabilities(self, base: BaseModel, prompts: Sequence[str]) -> Array:
        """How likely each prompt is each domain's business, [prompts, domains].

        Args:
            base: the base model, with every knob at 0.
            prompts: what users wrote.
        """
        return self.from_features(joined_layers(layer_features(base, prompts, self.card.layers)))

    def from_features(self, pooled: Array) -> Array:
        """The same from averaged hidden states, [prompts, layers × width]."""
        return sigmoid(pooled @ self.weight.T + self.bias)

    def turn(self, knobs: Knobs, probabilities: Mapping[str, float], domains: Mapping[str, str]) -> dict[str, float]:
        """A setting for one prompt: of each knob the share that acts on it.

        Args:
            knobs: the setting.
            probabilities: of each domain.
            domains: domain of each vector; a vector whose domain the router does not know is turned in full.
        """
        shares = {domain: float(acting(np.array(p), self.card.ramp)) for domain, p in probabilities.items()}
        turned = {name: value * shares.get(domains.get(name, name), 1.0) for name, value in knobs.items()}
        return {name: value + 0.0 for name, value in turned.items()}  # −0 becomes 0


def sigmoid(values: Array) -> Array:
    """Probabilities of log-odds, without overflow."""
    found: Array = 1.0 / (1.0 + np.exp(-np.maximum(values, -60.0)))
    return found


def acting(probabilities: Array, ramp: tuple[float, float]) -> Array:
    """Share of a knob that acts at each probability."""
    low, high = ramp
    found: Array = np.clip((probabilities - low) / (high - low), 0.0, 1.0)
    return found


def joined_layers(pooled: Array) -> Array:
    """Averages of several layers, [layers, prompts, width], one after the other, [prompts, layers × width]."""
    found: Array = np.concatenate(list(pooled), axis=1)
    return found


def layer_features(base: BaseModel, prompts: Sequence[str], layers: Sequence[int]) -> Array:
    """Hidden states behind some layers, averaged over the tokens of each prompt, [layers, prompts, width].

    A prompt that is longer than the context is cut.
    """
    import torch

    tokenizer = base.tokenizer
    chats = [[{"role": "user", "content": text}] for text in prompts]
    encoded = [encode_prompt(tokenizer, chat)[: base.context_length] for chat in chats]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    found = np.zeros((len(layers), len(prompts), base.model.config.hidden_size))
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        longest = max(len(encoded[i]) for i in rows)
        ids = torch.tensor([encoded[i] + [tokenizer.pad_token_id] * (longest - len(encoded[i])) for i in rows])
        mask = torch.tensor([[1] * len(encoded[i]) + [0] * (longest - len(encoded[i])) for i in rows])
        with torch.no_grad():
            states = base.model.model(
                input_ids=ids.to(base.device), attention_mask=mask.to(base.device), output_hidden_states=True
            ).hidden_states
        for place, layer in enumerate(layers):
            shown = mask.unsqueeze(-1).to(states[layer].device)
            pooled = (states[layer].float() * shown).sum(dim=1) / shown.sum(dim=1)  # bfloat16 would round the sums
            found[place, rows] = pooled.double().cpu().numpy()
    return found


def save_router(router: Router, folder: Path) -> None:
    """Write a router; an existing one is replaced as a whole.

    Raises:
        StorageError: if it cannot be written.
    """
    from safetensors.numpy import save_file

    with atomic_folder(folder) as staging:
        save_file(
            {"weight": router.weight.astype(np.float32), "bias": router.bias.astype(np.float32)}, staging / WEIGHTS
        )
        (staging / WEIGHTS).chmod(0o644)  # the library leaves it readable by its owner alone
        (staging / CARD).write_text(router.card.model_dump_json(indent=1) + "\n", encoding="utf-8")


def load_router(folder: Path, base_fingerprint: str | None = None) -> Router:
    """Read a router.

    Args:
        folder: with `router.json` and `router.safetensors`.
        base_fingerprint: of the base it will be used on; None skips the check.

    Raises:
        VectorError: if there is none, it is damaged, or it belongs to another base.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        card = RouterCard.model_validate_json((folder / CARD).read_bytes())
        tensors = load_file(folder / WEIGHTS)
        weight, bias = tensors["weight"].astype(np.float64), tensors["bias"].astype(np.float64)
    except FileNotFoundError:
        raise VectorError(f"no router in {folder} ({CARD} and {WEIGHTS}); make one with alignvec route") from None
    except (OSError, ValidationError, SafetensorError, KeyError) as error:
        raise VectorError(f"{folder}: damaged router ({str(error).splitlines()[0]}); make it again") from None
    if (
        weight.shape[0] != len(card.domains)
        or bias.shape != (len(card.domains),)
        or not (np.isfinite(weight).all() and np.isfinite(bias).all())
    ):
        raise VectorError(f"{folder}: the router's weights do not fit its card; make it again")
    if base_fingerprint is not None and card.base != base_fingerprint:
        raise VectorError(f"{folder}: this router reads the hidden states of another base model; make one for this one")
    return Router(card, weight, bias)
