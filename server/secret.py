"""Settings that are never shown: not in logs, not in complaints about them."""

from typing import Annotated, Any

from pydantic import BeforeValidator, SecretStr


def _as_secret(value: Any) -> Any:  # noqa: ANN401  # whatever the operator wrote
    """Whatever was written is the secret: a complaint about its type would quote it."""
    return value if isinstance(value, SecretStr) else SecretStr(str(value))


Secret = Annotated[SecretStr, BeforeValidator(_as_secret)]
