"""Where a server without keys may listen."""

from ipaddress import IPv6Address, ip_address

from server.errors import SettingError


def check_listening(host: str, *, has_keys: bool, is_insecure: bool) -> None:
    """Whoever reaches a server without keys may use it, so it listens on this machine alone unless told otherwise.

    Raises:
        SettingError: there is no key, `host` can be reached from other machines, and nobody said that this is meant.
    """
    if not (has_keys or is_insecure or is_loopback(host)):
        raise SettingError(
            f"host = {host!r}: without a key, anyone who reaches this address could use the server; expected a loopback"
            " address such as 127.0.0.1, a key (wattline keys create), or --insecure"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`. Of names only localhost: what others mean may change."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
