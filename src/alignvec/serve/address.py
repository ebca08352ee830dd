"""Addresses of this machine."""

import ipaddress
import socket
from pathlib import Path

from alignvec.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether a host, by name or by number, is this machine seen from itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def require_loopback(host: str, policy: Path | None) -> None:
    """Check that a server without a policy is reached from this machine only.

    Raises:
        ConfigError: if it would be reached from others.
    """
    if policy is None and not is_loopback(host):
        raise ConfigError(
            f"without a policy everything is allowed, so the server binds to loopback only, not to {host}; "
            "give --policy, or leave out --host"
        )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket of this address: a taken port is told before a model is loaded.

    Raises:
        ConfigError: if the address is taken or not this machine's.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        # Two sockets may be bound with SO_REUSEADDR as long as neither listens: only listening says who is first.
        bound.listen(0)
    except (OSError, OverflowError) as error:
        cause = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot serve at {host} port {port}: {cause}; choose another --port or --host") from None
    return bound
