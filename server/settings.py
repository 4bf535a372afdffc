"""Every setting of the server: defaults, then the TOML file, then `WATTLINE_…` variables, then the command line."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from metering.choice import EXPECTED as EXPECTED_METERS
from metering.choice import check_meter_setting
from metering.errors import MeterSettingError
from scheduler.policy import POLICIES
from server.access.tenants import Tenants
from server.carbon.settings import CarbonSettings
from server.errors import SettingError
from server.ledger.settings import LedgerSettings, Outage, PendingRows, RetentionDays, Synchronous, WaitSeconds
from server.model_settings import (
    Device,
    EngineArgs,
    GpusPerWorker,
    MinWorkers,
    ModelSettings,
    ServedName,
    Workers,
    WorkerUrls,
    check_each_once,
)
from server.operations_settings import OperationsSettings

# Read by other parts: the model store, the meter, the front end's own workers, `wattline top`.
_OTHER_VARIABLES: Final = frozenset(
    {
        "WATTLINE_API_KEY",
        "WATTLINE_CACHE_DIR",
        "WATTLINE_WORKER_URL",
        "WATTLINE_WORKER_ID",
        "WATTLINE_ESTIMATE_IDLE_WATTS_PER_VCPU",
        "WATTLINE_ESTIMATE_MAX_WATTS_PER_VCPU",
        "WATTLINE_RAPL_ROOT",
        "WATTLINE_ENGINES_ON_HOST",
    }
)
DEFAULT_MODEL: Final = "smollm2"
DEFAULT_POLICY: Final = "energy"
# The short form, for one model. With [[models]] each table has its own.
_OF_ONE_MODEL: Final = (
    "model",
    "served_name",
    "worker_urls",
    "workers",
    "min_workers",
    "gpus_per_worker",
    "engine_args",
)


class Settings(OperationsSettings):
    """What an operator may choose. Seconds, watts, bytes and counts as the names say.

    One model is described by settings of this class, several by `models`; `all_models` is either. Latency targets that
    are None are chosen for the device. `stall_seconds` is how long an engine that runs requests may make no token
    before it is taken to hang.
    """

    model_config = SettingsConfigDict(env_prefix="WATTLINE_", env_nested_delimiter="__", extra="forbid", frozen=True)

    model: str = DEFAULT_MODEL
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8000, ge=0, le=65535)
    workers: Workers = 1
    device: Device = "auto"
    worker_urls: WorkerUrls = ()
    served_name: ServedName | None = None
    gpus_per_worker: GpusPerWorker | None = None
    policy: str = DEFAULT_POLICY
    slo_ttft_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    slo_tpot_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    flex_wait_seconds: float = Field(default=300.0, ge=0, allow_inf_nan=False)
    min_workers: MinWorkers = 1
    power_cap_watts: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    stall_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    meter: str = "auto"
    max_running_requests: int = Field(default=256, ge=1)
    max_queued_requests: int = Field(default=1024, ge=0)
    queue_timeout_seconds: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    engine_args: EngineArgs = ()
    models: Annotated[tuple[ModelSettings, ...], NoDecode] = ()
    insecure: bool = False
    tenants: Tenants = Field(default_factory=dict)
    ledger_url: str | None = None
    ledger_retention_days: RetentionDays = None
    ledger_synchronous: Synchronous = "normal"
    ledger_outage: Outage = "serve"
    ledger_wait_seconds: WaitSeconds = 2.0
    ledger_max_pending_rows: PendingRows = 100_000
    carbon: CarbonSettings = CarbonSettings()

    @field_validator("policy")
    @classmethod
    def _check_policy(cls, policy: str) -> str:
        if policy not in POLICIES:
            *others, last = map(repr, POLICIES)
            raise ValueError(f"input should be {', '.join(others)} or {last}")
        return policy

    @field_validator("meter")
    @classmethod
    def _check_meter(cls, meter: str) -> str:
        try:
            check_meter_setting(meter)
        except MeterSettingError as error:
            raise ValueError(EXPECTED_METERS) from error
        return meter

    @field_validator("models", mode="before")
    @classmethod
    def _read_json(cls, value: Any) -> Any:  # noqa: ANN401  # whatever the operator wrote
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError("input should be a JSON array with an object for each model") from error

    @model_validator(mode="after")
    def _check_models(self) -> Self:
        beside = [key for key in _OF_ONE_MODEL if key in self.model_fields_set]
        if self.models and beside:
            raise ValueError(f"{', '.join(beside)}: beside [[models]] these belong into each of its tables")
        check_each_once(url for model in self.models for url in model.worker_urls)
        return self

    def ledger(self) -> LedgerSettings:
        """Those of the ledger."""
        return LedgerSettings(**{name: getattr(self, name) for name in LedgerSettings.model_fields})

    def all_models(self) -> tuple[ModelSettings, ...]:
        """The models to serve, each with its device."""
        if self.models:
            return tuple(
                model if model.device is not None else model.model_copy(update={"device": self.device})
                for model in self.models
            )
        given = {"served_name": self.served_name, "min_workers": self.min_workers, "device": self.device}
        if self.worker_urls:
            return (ModelSettings.model_validate(given | {"worker_urls": self.worker_urls}),)
        started = {"workers": self.workers, "gpus_per_worker": self.gpus_per_worker, "engine_args": self.engine_args}
        return (ModelSettings.model_validate(given | {"name": self.model} | started),)


def load_settings(overrides: dict[str, Any], config_file: Path | None = None) -> Settings:
    """Settings from all their sources; `overrides` come from the command line, where None means not given.

    Raises:
        SettingError: a setting is unknown or its value is not acceptable, or the file cannot be read.
    """
    if config_file is not None and not config_file.is_file():
        raise SettingError(f"config = {str(config_file)!r}: there is no such file")
    overrides = {**_spelt_in_the_singular(os.environ), **{k: v for k, v in overrides.items() if v is not None}}
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return _with_file(config_file)(**given)
    except ValidationError as error:
        raise SettingError(_explain(error)) from error
    except (ValueError, OSError, RecursionError) as error:  # tomllib's decode error, or a file that cannot be read
        raise SettingError(f"config = {str(config_file)!r}: {error}") from error


def _spelt_in_the_singular(environ: Mapping[str, str]) -> dict[str, Any]:
    """The option is --worker-url, so the variable may be too."""
    one = environ.get("WATTLINE_WORKER_URL")
    return {"worker_urls": one} if one and "WATTLINE_WORKER_URLS" not in environ else {}


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """`WATTLINE_…` variables that set nothing: most likely misspelt."""
    known = {f"WATTLINE_{name.upper()}" for name in Settings.model_fields} | _OTHER_VARIABLES
    return sorted(name for name in environ if name.startswith("WATTLINE_") and name.partition("__")[0] not in known)


def _with_file(config_file: Path | None) -> type[Settings]:
    """pydantic-settings takes its sources from the class; this one also reads the operator's file."""

    class FileSettings(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the library's signature
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
            if config_file is not None:
                sources = (*sources, TomlConfigSettingsSource(settings_cls, toml_file=config_file))
            return sources

    return FileSettings


def _explain(error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        if problem["type"] == "extra_forbidden":
            problems.append(f"{key}: there is no such setting")
        elif isinstance(problem["input"], dict):  # a rule about several keys, which its message names
            problems.append(f"{key}: {message}" if key else message)
        else:
            problems.append(f"{key} = {problem['input']!r}: {message}")
    return "; ".join(problems)
