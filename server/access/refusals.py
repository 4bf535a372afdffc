"""What a refused caller is told: OpenAI's codes, and when to come back."""

import math
from datetime import UTC, datetime

from metering.counter import MICROJOULES_PER_JOULE
from server.access.energy_budget import BudgetState
from server.access.rate_window import WINDOW_SECONDS, RateLimit
from server.api_error import ApiError

_SHOWN_CHARACTERS = 100
# Nobody knows when a running request ends; OpenAI's clients lengthen the pause by themselves.
_CONCURRENCY_RETRY_SECONDS = 1


def cross_site() -> ApiError:
    """For a page from elsewhere in the browser of somebody who may use a server without keys."""
    message = "without a key, pages of other sites may not ask this server: make a key (wattline keys create) for them"
    return ApiError(403, message, "cross_site")


def invalid_key() -> ApiError:
    """For a key that is missing, malformed, unknown, wrong, expired or revoked: which of them it is stays ours."""
    return ApiError(
        401,
        "a valid API key is needed: send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`",
        "invalid_api_key",
        headers={"www-authenticate": "Bearer"},
    )


def model_not_allowed(model: str) -> ApiError:
    """Said of models that do not exist too, so that nothing is learned of those that do."""
    return ApiError(
        403, f"model: {model[:_SHOWN_CHARACTERS]!r} is not open to this key's tenant", "model_not_allowed", "model"
    )


def too_many_at_once(limit: int) -> ApiError:
    """The tenant has as many requests in flight as it may."""
    return ApiError(
        429,
        f"as many requests of this tenant run as may at once, {limit}; try again when one has ended",
        "rate_limit_exceeded",
        headers={"Retry-After": str(_CONCURRENCY_RETRY_SECONDS)},
    )


def limit_reached(limit: RateLimit, unit: str, cost: int, now_seconds: float) -> ApiError:
    """Too many requests or tokens in the last minute; a request larger than the limit is not to be tried again."""
    seconds = limit.seconds_until(cost, now_seconds)
    if math.isinf(seconds):
        return ApiError(
            429,
            f"the request counts as {cost} {unit}, more than the {limit.amount} {unit} per minute of this tenant",
            "rate_limit_exceeded",
            headers={"Retry-After": str(WINDOW_SECONDS), "x-should-retry": "false"},
        )
    retry_seconds = int(seconds) + 1
    return ApiError(
        429,
        f"this tenant's limit of {limit.amount} {unit} per minute is reached; try again in {retry_seconds} s",
        "rate_limit_exceeded",
        headers={"Retry-After": str(retry_seconds)},
    )


def budget_spent(budget: BudgetState, now_unix_seconds: float) -> ApiError:
    """No joules left in this period. OpenAI's clients would try again within seconds, for nothing."""
    renews = datetime.fromtimestamp(budget.renews_unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return ApiError(
        429,
        f"this tenant's energy budget of {budget.limit_microjoules / MICROJOULES_PER_JOULE:g} J per {budget.period} is"
        f" spent ({budget.spent_microjoules / MICROJOULES_PER_JOULE:.3f} J); it renews at {renews}",
        "energy_budget_exceeded",
        headers={
            "Retry-After": str(max(1, math.ceil(budget.renews_unix_seconds - now_unix_seconds))),
            "x-should-retry": "false",
        },
    )
