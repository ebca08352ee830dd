"""Reading a chat completion as servers really write it: more lenient than the API's own schema."""

from typing import Any

from pydantic import BaseModel, ValidationError


class UnusableError(Exception):
    """An answer came, but not one that can be used.

    Attributes:
        cause: a kind of fault, to be counted.
    """

    def __init__(self, cause: str, detail: str = "") -> None:
        super().__init__(f"{cause}: {detail}" if detail else cause)
        self.cause = cause


class _Message(BaseModel):
    content: str | list[Any] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Completion(BaseModel):
    """What is used of a chat completion; everything else in it is passed over.

    Attributes:
        alignment: what a server with knobs says of those that it applied.
    """

    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None
    alignment: Any = None

    @property
    def text(self) -> str:
        """The first choice's message, stripped; parts that are no text are passed over."""
        content = self.choices[0].message.content
        if isinstance(content, list):
            content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        return (content or "").strip()

    @property
    def finish_reason(self) -> str:
        """Why it ended, `unknown` if the endpoint does not say."""
        return self.choices[0].finish_reason or "unknown"


def read_completion(content: bytes) -> Completion:
    """Parse the body of an answer.

    Raises:
        UnusableError: if it is no completion, or says that something went wrong.
    """
    try:
        completion = Completion.model_validate_json(content)
    except ValidationError:
        raise UnusableError("unusable JSON", " ".join(content[:60].decode(errors="replace").split())) from None
    if completion.error is not None:
        said = completion.error.get("message") if isinstance(completion.error, dict) else completion.error
        raise UnusableError("error in the answer", " ".join(str(said).split())[:200])
    if not completion.choices:
        raise UnusableError("unusable JSON", "no choices")
    return completion
