"""Keys in the ledger's database."""

from collections.abc import Hashable, Sequence
from typing import Any

from sqlalchemy import Column, Engine, case, func, insert, or_, select, update

from server.access.key import Ending, StoredKey
from server.ledger.tables import api_keys


class DatabaseKeyStore:
    """The table `api_keys`, which must exist. Safe to use from several threads and processes at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def keys(self) -> Sequence[StoredKey]:
        statement = select(*(api_keys.c[name] for name in StoredKey.__slots__)).order_by(
            api_keys.c.created_unix_seconds, api_keys.c.key_id
        )
        with self._engine.connect() as connection:
            return [StoredKey(*row) for row in connection.execute(statement)]

    def version(self) -> Hashable:
        """Keys are added and ended, never taken away or changed otherwise, so sums tell."""
        expires, revoked = api_keys.c.expires_unix_seconds, api_keys.c.revoked_unix_seconds
        statement = select(
            func.count(), func.count(expires), func.sum(expires), func.count(revoked), func.sum(revoked)
        ).select_from(api_keys)
        with self._engine.connect() as connection:
            return tuple(connection.execute(statement).one())

    def write(self, new: StoredKey | None = None, ending: Ending | None = None) -> None:
        with self._engine.begin() as connection:
            if new is not None:
                values = {name: getattr(new, name) for name in StoredKey.__slots__}
                connection.execute(insert(api_keys).values(values))
            if ending is not None:
                column: Column[Any] = (
                    api_keys.c.revoked_unix_seconds if ending.is_revoked else api_keys.c.expires_unix_seconds
                )
                at = ending.at_unix_seconds
                earlier = case((or_(column.is_(None), column > at), at), else_=column)
                connection.execute(update(api_keys).where(api_keys.c.key_id == ending.key_id).values({column: earlier}))
