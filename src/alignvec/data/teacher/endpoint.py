"""Where a teacher or judge is, and how it is treated."""

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from alignvec.errors import ConfigError


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible endpoint.

    Attributes:
        url: base URL; `/v1` is added to a bare host.
        in_flight: most requests at once.
        timeout: seconds that one attempt may take from the first byte sent to the last received.
        attempts: tries of one request; those that were turned away for a rate limit do not count.
        key_variable: environment variable with the API key; without it, the endpoint gets a placeholder.
        role: `teacher` or `judge`; names the options in what the user is told.
    """

    url: str
    in_flight: int = 16
    timeout: float = 120.0
    attempts: int = 6
    key_variable: str | None = "OPENAI_API_KEY"
    role: str = "teacher"

    @property
    def base_url(self) -> str:
        """The URL that paths such as `/chat/completions` are added to.

        Raises:
            ConfigError: if it is no http(s) URL.
        """
        try:
            parts = urlsplit(self.url)
            valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise ConfigError(
                f"{self.role} URL {self.url!r} is not an http(s) URL; write it like http://127.0.0.1:8000/v1"
            )
        return self.url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")

    @property
    def shown(self) -> str:
        """The base URL without a user's name and password."""
        parts = urlsplit(self.base_url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def refuse_secret(self, key_option: str) -> None:
        """Refuse a URL with a user's name or password, for results that keep the URL or the command.

        Args:
            key_option: names the environment variable with the key.

        Raises:
            ConfigError: if there is one, or the URL is none.
        """
        if self.shown != self.base_url:
            raise ConfigError(
                f"--{self.role}-url has a user's name or password, which results would keep; put the key into an "
                f"environment variable and name that with {key_option}"
            )

    @property
    def key(self) -> str:
        """The API key.

        Raises:
            ConfigError: if it has characters that no key has.
        """
        key = (os.environ.get(self.key_variable, "") if self.key_variable else "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ConfigError(f"the key in ${self.key_variable} has characters that no key has; set it anew")
        return key or "none"

    def same_server(self, other: "Endpoint") -> bool:
        """Whether two endpoints are on one server, so that the key of one may be sent to the other."""
        mine, theirs = urlsplit(self.base_url), urlsplit(other.base_url)
        return (mine.scheme, mine.netloc) == (theirs.scheme, theirs.netloc)
