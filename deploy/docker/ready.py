"""The image's health check: exit status 0 when the server in this container can serve. Standard library only."""

import http.client
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final

# Less than the check's own timeout, so that the reason is printed before the check is killed.
_TIMEOUT_SECONDS: Final = 4.0


def ready_url(environ: Mapping[str, str]) -> str:
    """Where this container's server answers, by the settings it was given as variables."""
    scheme = "https" if environ.get("WATTLINE_SSL_CERTFILE") else "http"
    return f"{scheme}://127.0.0.1:{environ.get('WATTLINE_PORT') or '8000'}/ready"


def why_not_ready(url: str) -> str | None:
    """None when `url` answers 200, over HTTP or HTTPS, else the reason in a line.

    A certificate may be named in wattline.toml, which is not looked at here; so where one scheme is not understood the
    other is tried.
    """
    scheme, _, rest = url.partition("://")
    other = f"{'http' if scheme == 'https' else 'https'}://{rest}"
    try:
        try:
            _ask(url)
        except (ssl.SSLError, ConnectionResetError, http.client.HTTPException):
            _ask(other)
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code}"
    except (OSError, http.client.HTTPException) as error:
        return f"{url} does not answer: {error}"
    return None


def _ask(url: str) -> None:
    """Raise what is wrong, unless the answer is 200.

    The certificate is not looked at: it names the host that callers know, never this address. Nor is a proxy that the
    environment names: it would ask its own loopback address.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    https = urllib.request.HTTPSHandler(context=context)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)
    try:
        with opener.open(url, timeout=_TIMEOUT_SECONDS) as answer:
            answer.read()
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        raise (error.reason if isinstance(error.reason, OSError) else error) from None


def main() -> int:
    """Say whether it is ready, for `docker inspect`; the exit status is Docker's."""
    reason = why_not_ready(ready_url(os.environ))
    sys.stdout.write(f"{reason or 'ready'}\n")
    return int(reason is not None)


if __name__ == "__main__":
    sys.exit(main())
