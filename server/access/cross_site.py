"""Whether a page of somebody else's asks, through the browser of one of our users.

Where there are no keys, whoever reaches the server may use it; a page from elsewhere that is open in a browser on this
machine reaches it too. Browsers say from which page a request comes (RFC 6454, section 7); who is no browser says
nothing. A page whose own name comes to mean our address (DNS rebinding) is told by that name.
"""

from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from server.access.listening import is_loopback


def is_cross_site(headers: Iterable[tuple[bytes, bytes]], *, is_local: bool) -> bool:
    """By lower-case headers: whether they name a page on the web that neither we nor this machine have served.

    Programs that show pages of their own (editors, extensions) have schemes of their own. `is_local`: we listen on this
    machine alone, where nobody has a reason to call us by a name that the world can give away.
    """
    origin = host = None
    for name, value in headers:
        if name == b"origin":
            origin = value
        elif name == b"host":
            host = value
    own = None if host is None else _address("//", host)
    if is_local and host is not None and (own is None or _is_of_the_world(own.hostname or "")):
        return True
    if origin is None:
        return False
    if origin == b"null":  # a page that may not say whose it is
        return True
    page = _address("", origin)
    if page is None:
        return True
    if page.scheme not in {"http", "https"} or is_loopback(page.hostname or ""):
        return False
    return own is None or page.netloc.lower() != own.netloc.lower()


def _address(prefix: str, value: bytes) -> SplitResult | None:
    try:
        address = urlsplit(prefix + value.decode("latin-1"))
        _ = address.hostname
    except ValueError:
        return None
    return address


def _is_of_the_world(name: str) -> bool:
    """Whether it is a name that its owner can give any address: one with a dot in it, beside `.localhost`'s."""
    name = name.rstrip(".")
    return "." in name and not (is_loopback(name) or name.endswith(".localhost"))
