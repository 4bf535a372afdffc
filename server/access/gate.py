"""The way in: who asks, and whether the request may go on. Decides from memory alone, without any input or output.

Only the first sight of a tenant asks the ledger, and `replace_keys` does that ahead, on the thread that found the key.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from server.access import refusals
from server.access.admission import Admission
from server.access.caller import Caller
from server.access.cross_site import is_cross_site
from server.access.energy_budget import BudgetState, EnergySpending, SpentSince
from server.access.key import StoredKey
from server.access.key_ring import KeyRing
from server.access.limit_headers import limit_headers
from server.access.rate_window import WindowStorage
from server.access.tenant_account import Refusal, TenantAccount
from server.access.tenants import ANONYMOUS, OTHERS, UNLIMITED, TenantSettings
from server.api_error import ApiError
from server.service_tier import asked_tier

_NO_TENANTS: Final[Mapping[str, TenantSettings]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TenantUsage:
    """A tenant as metrics show it. Refusals count since the start of the server.

    `unknown_energy_requests` is how many requests ended whose energy nobody has told: budgets count them as nothing.
    """

    tenant: str
    running: int
    refusals: Mapping[Refusal, int]
    unknown_energy_requests: int
    budgets: tuple[BudgetState, ...]


class Gate:
    """Identifies callers and admits their requests, within limits that may be replaced at any time.

    `spent_since` is asked for the present day and month of each tenant once; `clock` is monotonic.
    `is_local`: only this machine reaches us.
    """

    def __init__(
        self,
        tenants: Mapping[str, TenantSettings],
        spent_since: SpentSince,
        clock: Callable[[], float],
        unix_clock: Callable[[], float],
        *,
        is_local: bool = False,
    ) -> None:
        self._ring = KeyRing()
        self._spent_since = spent_since
        self._clock = clock
        self._unix_clock = unix_clock
        self._is_local = is_local
        self._windows = WindowStorage()
        self._accounts: dict[str, TenantAccount] = {}
        self._settings: Mapping[str, TenantSettings] = _NO_TENANTS
        self._others = UNLIMITED
        self.invalid_keys = 0
        self.replace_tenants(tenants)
        self._account(ANONYMOUS)

    @property
    def has_keys(self) -> bool:
        """Whether callers need a key: since the first was made, and from then on."""
        return not self._ring.is_open

    def replace_tenants(self, tenants: Mapping[str, TenantSettings]) -> None:
        """Go by these settings from now on. What is counted, spent and in flight stays so."""
        self._settings, self._others = dict(tenants), tenants.get(OTHERS, UNLIMITED)

    def replace_keys(self, keys: Iterable[StoredKey]) -> None:
        """Accept these keys from now on, and no others. May be called from another thread.

        What their tenants have spent is read first, so that no request waits for it or is admitted without it.
        """
        keys = list(keys)
        now_unix_seconds = self._unix_clock()
        for key in keys:
            if key.state(now_unix_seconds) == "active":
                self._account(key.tenant)
        self._ring.replace(keys)

    def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """Who asks, by lower-case headers.

        Raises:
            ApiError: 401, the same whatever is wrong with the key; 403 where none is needed and a page from elsewhere
                asks.
        """
        if self._ring.is_open:
            if is_cross_site(headers, is_local=self._is_local):
                raise refusals.cross_site()
            return Caller(self._account(ANONYMOUS).tenant)
        key = self._ring.find(headers, self._unix_clock())
        if key is None:
            self.invalid_keys += 1
            raise refusals.invalid_key()
        return Caller(self._account(key.tenant).tenant, key.key_id)

    def admit(
        self,
        caller: Caller,
        model: str,
        tier_name: str | None,
        prompt_tokens_estimate: int,
        now_seconds: float,
        now_unix_seconds: float,
    ) -> Admission:
        """Let a request in. It counts from now on; one that is refused counts for nothing.

        Tokens are taken as estimated, and corrected when the request is settled: more than the limit can be used by
        what those in flight take beyond their estimates. Energy is not known before it is spent: more than a budget
        can be used by what is in flight when it ends.

        Raises:
            ApiError: 403 for a model that is not the tenant's; 429 for a limit or budget that is used up, with when
                to come back.
        """
        account = self._account(caller.tenant.name)
        tenant = account.tenant
        if not tenant.may_use(model):
            account.refusals[Refusal.MODEL] += 1
            raise refusals.model_not_allowed(model)
        remaining = account.spending.least_remaining(now_unix_seconds)
        if remaining is not None and remaining[0] == 0:
            budget = account.spending.spent_budget(now_unix_seconds)
            raise self._refusal(account, Refusal.ENERGY, refusals.budget_spent(budget, now_unix_seconds))
        concurrent = tenant.settings.concurrent_requests
        if concurrent is not None and account.running >= concurrent:
            raise self._refusal(account, Refusal.CONCURRENCY, refusals.too_many_at_once(concurrent))
        tokens = max(1, prompt_tokens_estimate)
        self._take(account, tokens, now_seconds)
        return Admission(
            account,
            tenant.tier(asked_tier(tier_name)),
            None if remaining is None else remaining[0],
            None if account.token_limit is None else tokens,
            now_seconds,
            self._clock,
            self._unix_clock,
        )

    def usage(self) -> Iterator[TenantUsage]:
        """Every tenant seen so far: those of keys, and the anonymous one."""
        now_unix_seconds = self._unix_clock()
        for name, account in list(self._accounts.items()):
            yield TenantUsage(
                name,
                account.running,
                dict(account.refusals),
                account.unknown_energy_requests,
                tuple(account.spending.budgets(now_unix_seconds)),
            )

    def _take(self, account: TenantAccount, tokens: int, now_seconds: float) -> None:
        """Count one request and its tokens, or neither."""
        requests, limit = account.request_limit, account.token_limit
        if requests is not None and not requests.take(1, now_seconds):
            error = refusals.limit_reached(requests, "requests", 1, now_seconds)
            raise self._refusal(account, Refusal.REQUESTS, error)
        if limit is not None and not limit.take(tokens, now_seconds):
            if requests is not None:
                requests.correct(1, now_seconds, 0, now_seconds)
            error = refusals.limit_reached(limit, "tokens", tokens, now_seconds)
            raise self._refusal(account, Refusal.TOKENS, error)

    def _refusal(self, account: TenantAccount, reason: Refusal, error: ApiError) -> ApiError:
        """Count the refusal, and tell in its headers what is left."""
        account.refusals[reason] += 1
        return error.with_headers(limit_headers(account, self._clock(), self._unix_clock()))

    def _account(self, name: str) -> TenantAccount:
        account = self._accounts.get(name)
        if account is None:
            spending = EnergySpending(name, self._spent_since, self._unix_clock())
            account = self._accounts.setdefault(name, TenantAccount(name, spending, self._windows))
        settings = self._settings.get(name, self._others)
        if account.tenant.settings is not settings:
            account.adopt(settings)
        return account
