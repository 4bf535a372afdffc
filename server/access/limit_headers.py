"""Response headers that tell a tenant what is left: OpenAI's for limits, ours for joules."""

import math
from typing import Final

from metering.counter import MICROJOULES_PER_JOULE
from server.access.energy_budget import Period
from server.access.rate_window import RateLimit
from server.access.tenant_account import TenantAccount
from server.asgi import Headers

ENERGY_REMAINING: Final = b"x-wattline-energy-budget-remaining-joules"
ENERGY_PERIOD: Final = b"x-wattline-energy-budget-period"
_REQUESTS: Final = (b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests")
_TOKENS: Final = (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens")


_PERIODS: Final = {period: period.value.encode("ascii") for period in Period}


def limit_headers(account: TenantAccount, now_seconds: float, now_unix_seconds: float) -> Headers:
    """What is left of every limit and of the tightest budget the tenant has; nothing of what is not limited."""
    headers: Headers = []
    if account.request_limit is not None:
        _add(headers, account.request_limit, _REQUESTS, now_seconds)
    if account.token_limit is not None:
        _add(headers, account.token_limit, _TOKENS, now_seconds)
    remaining = account.spending.least_remaining(now_unix_seconds)
    if remaining is not None:
        microjoules, period = remaining
        headers.append((ENERGY_REMAINING, b"%.6f" % (microjoules / MICROJOULES_PER_JOULE)))
        headers.append((ENERGY_PERIOD, _PERIODS[period]))
    return headers


def _add(headers: Headers, limit: RateLimit, names: tuple[bytes, bytes, bytes], now_seconds: float) -> None:
    remaining, reset_seconds = limit.remaining(now_seconds)
    headers.append((names[0], limit.amount_text))
    headers.append((names[1], b"%d" % remaining))
    # A duration as OpenAI writes them. Rounded up: who comes back then finds it so.
    headers.append((names[2], b"%.1fs" % (math.ceil(reset_seconds * 10) / 10)))
