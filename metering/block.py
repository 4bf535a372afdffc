"""The energy block: what a caller is told about one request. Field names are explained in docs/energy-block.md."""

import json
from dataclasses import dataclass
from typing import Any, Final

from metering.counter import MICROJOULES_PER_JOULE

JOULES_PER_KILOWATT_HOUR: Final = 3_600_000
ATTRIBUTION_METHOD: Final = "step_prorated"


@dataclass(frozen=True, slots=True)
class RequestEnergy:
    """One request's energy, in integer microjoules, and what it is to be compared with.

    `unknown_reason` is set where the counter was silent for part of the request: what was booked to it is then not all.
    `device_microjoules` is everything the device spent while the request was in flight. `outcome` is `completed` or
    `aborted`.
    """

    request_id: str
    outcome: str
    prefill_microjoules: int
    decode_microjoules: int
    components_microjoules: dict[str, int]
    device_microjoules: int
    duration_seconds: float
    prompt_tokens: int
    output_tokens: int
    source: str
    measured: bool
    uncertainty_ratio: float | None
    unknown_reason: str | None = None

    @property
    def microjoules(self) -> int:
        return self.prefill_microjoules + self.decode_microjoules

    def to_block(self) -> dict[str, Any]:
        """The `energy` object of a response. Joules carry all six decimals, so that sums stay exact."""
        if self.unknown_reason is not None:
            return unknown_energy_block(self.unknown_reason)
        joules = self.microjoules / MICROJOULES_PER_JOULE
        per_token = round(joules / self.output_tokens, 9) if self.output_tokens else None
        watts = round(joules / self.duration_seconds, 3) if self.duration_seconds > 0 else None
        share = min(1.0, round(self.microjoules / self.device_microjoules, 6)) if self.device_microjoules > 0 else None
        return {
            "energy_joules": joules,
            "energy_kwh": joules / JOULES_PER_KILOWATT_HOUR,
            "prefill_joules": self.prefill_microjoules / MICROJOULES_PER_JOULE,
            "decode_joules": self.decode_microjoules / MICROJOULES_PER_JOULE,
            "joules_per_output_token": per_token,
            "avg_power_watts": watts,
            "duration_seconds": round(self.duration_seconds, 6),
            "components_joules": {
                name: energy / MICROJOULES_PER_JOULE for name, energy in self.components_microjoules.items()
            },
            "source": self.source,
            "measured": self.measured,
            "uncertainty_ratio": None if self.uncertainty_ratio is None else round(self.uncertainty_ratio, 4),
            "attribution_method": ATTRIBUTION_METHOD,
            "attribution_ratio": share,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
        }


def unknown_energy_block(reason: str) -> dict[str, Any]:
    """The block of a request whose energy nobody measured: null, and why. Never zero."""
    return {"energy_joules": None, "source": None, "measured": False, "reason": reason}


def encode_block(block: dict[str, Any]) -> bytes:
    """The block as compact JSON."""
    return json.dumps(block, separators=(",", ":")).encode()
