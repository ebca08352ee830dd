"""Log-probabilities as OpenAI's API writes them."""

from collections.abc import Sequence
from typing import Any

from alignvec.serve.engine.request import Step
from alignvec.serve.text import REPLACEMENT


def token_bytes(tokenizer: Any, token: int) -> bytes:
    """UTF-8 bytes that a token stands for; of part of a character, that part."""
    piece: str | None = tokenizer.convert_ids_to_tokens(token)
    if piece is None:  # a model may have more logits than its tokenizer has tokens
        return b""
    if "ByteLevel" in str(tokenizer.backend_tokenizer.decoder) and all(letter in _BYTES for letter in piece):
        return bytes(_BYTES[letter] for letter in piece)
    if len(piece) == 6 and piece.startswith("<0x"):
        return bytes.fromhex(piece[3:5])
    text: str = tokenizer.decode([token])
    return text.encode()


def token_text(tokenizer: Any, token: int) -> str:
    """A token as text; part of a character is written `bytes:\\xe2\\x82`."""
    raw = token_bytes(tokenizer, token)
    text = raw.decode(errors="replace")
    return text if REPLACEMENT not in text else "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def chat_logprobs(tokenizer: Any, steps: Sequence[Step]) -> dict[str, Any]:
    """The `logprobs` object of a chat choice; the token that ends a turn is no part of the text, nor of this."""

    def entry(token: int, logprob: float | None) -> dict[str, Any]:
        raw = token_bytes(tokenizer, token)
        return {"token": token_text(tokenizer, token), "logprob": logprob, "bytes": list(raw)}

    content = [
        entry(step.token, step.logprob) | {"top_logprobs": [entry(token, logprob) for token, logprob in step.top]}
        for step in steps
        if step.finish != "stop"
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(tokenizer: Any, steps: Sequence[Step], before: Sequence[Step], top: bool) -> dict[str, Any]:
    """The `logprobs` object of a completion choice.

    Args:
        tokenizer: of the model.
        steps: tokens of the reply, or of the next piece of it.
        before: tokens of the reply before them; what a stop string holds back of the text is not held back of these.
        top: the likeliest tokens were asked for.
    """
    kept = [step for step in steps if step.finish != "stop"]
    tokens = [token_text(tokenizer, step.token) for step in kept]
    offsets, raw = [], b"".join(token_bytes(tokenizer, step.token) for step in before)
    for step in kept:
        offsets.append(len(raw.decode(errors="ignore")))
        raw += token_bytes(tokenizer, step.token)
    likeliest = [{token_text(tokenizer, token): logprob for token, logprob in step.top} for step in kept]
    return {
        "tokens": tokens,
        "token_logprobs": [step.logprob for step in kept],
        "top_logprobs": likeliest if top else None,
        "text_offset": offsets,
    }


def _byte_letters() -> dict[str, int]:
    # GPT-2's table: printable bytes are themselves, the others are moved behind the 256 first characters
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    return table | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_letters()
