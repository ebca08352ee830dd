"""Addresses of this machine."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a host, by name or by number, is this machine seen from itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
