"""OpenAI's service tiers, as the scheduler understands them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PRIORITY: Final = "priority"
DEFAULT: Final = "default"
FLEX: Final = "flex"

TIERS: Final[Mapping[str, int]] = MappingProxyType({PRIORITY: 0, DEFAULT: 1, FLEX: 2})
"""Every tier and its rank; of requests that wait, a lower rank goes first."""
