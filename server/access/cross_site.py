"""Whether a page of somebody else's asks, through the browser of one of our users.

Where there are no keys, whoever reaches the server may use it; a page from elsewhere that is open in a browser on this
machine reaches it too, and would spend energy, though it could not read the answer. Browsers say from which page a
request comes (RFC 6454, section 7); who is no browser says nothing.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from server.access.listening import is_loopback


def is_cross_site(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """By lower-case headers: whether they name a page on the web that neither we nor this machine have served.

    Programs that show pages of their own (editors, extensions) have schemes of their own.
    """
    origin = host = None
    for name, value in headers:
        if name == b"origin":
            origin = value
        elif name == b"host":
            host = value
    if origin is None:
        return False
    if origin == b"null":  # a page that may not say whose it is
        return True
    try:
        page = urlsplit(origin.decode("latin-1"))
        if page.scheme not in {"http", "https"} or is_loopback(page.hostname or ""):
            return False
    except ValueError:
        return True
    return host is None or page.netloc.lower() != host.decode("latin-1").lower()
