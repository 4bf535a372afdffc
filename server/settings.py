"""Every setting of the server: defaults, then the TOML file, then `WATTLINE_…` variables, then the command line."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, ValidationInfo, field_validator
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
from server.errors import SettingError

# Read by other parts: the model store, the meter, the front end's own workers.
_OTHER_VARIABLES: Final = frozenset(
    {
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


class Settings(BaseSettings):
    """What an operator may choose. Seconds, watts, bytes and counts as the names say.

    Latency targets that are None are chosen for the device. `stall_seconds` is how long an engine that runs requests
    may make no token before it is taken to hang.
    """

    model_config = SettingsConfigDict(env_prefix="WATTLINE_", extra="forbid", frozen=True)

    model: str = DEFAULT_MODEL
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8000, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=256)
    device: Literal["auto", "cuda", "cpu"] = "auto"
    worker_urls: Annotated[tuple[str, ...], NoDecode] = ()
    policy: str = DEFAULT_POLICY
    slo_ttft_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    slo_tpot_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    flex_wait_seconds: float = Field(default=300.0, ge=0, allow_inf_nan=False)
    min_workers: int = Field(default=1, ge=0)
    power_cap_watts: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    stall_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    meter: str = "auto"
    max_running_requests: int = Field(default=256, ge=1)
    max_queued_requests: int = Field(default=1024, ge=0)
    queue_timeout_seconds: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    engine_args: Annotated[tuple[str, ...], NoDecode] = ()

    @field_validator("worker_urls", mode="before")
    @classmethod
    def _split_urls(cls, value: Any) -> Any:  # noqa: ANN401  # whatever the operator wrote
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("worker_urls")
    @classmethod
    def _check_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not _is_http_url(url) and (not url.startswith("unix:/") or url == "unix:/"):
                raise ValueError(f"{url!r} is neither an http:// or https:// URL nor unix:/PATH")
        origins = tuple(url.rstrip("/").removesuffix("/v1") for url in urls)
        if len(set(origins)) < len(origins):
            raise ValueError("the same worker is named twice, and its energy would count twice")
        return origins

    @field_validator("policy")
    @classmethod
    def _check_policy(cls, policy: str) -> str:
        if policy not in POLICIES:
            *others, last = map(repr, POLICIES)
            raise ValueError(f"input should be {', '.join(others)} or {last}")
        return policy

    @field_validator("min_workers")
    @classmethod
    def _check_min_workers(cls, min_workers: int, info: ValidationInfo) -> int:
        """The fields it is compared with stand above it; one that was wrong itself is missing here."""
        workers = len(info.data.get("worker_urls") or ()) or info.data.get("workers")
        if workers is not None and min_workers > workers:
            raise ValueError(f"input should be at most the number of workers, which is {workers}")
        return min_workers

    @field_validator("meter")
    @classmethod
    def _check_meter(cls, meter: str) -> str:
        try:
            check_meter_setting(meter)
        except MeterSettingError as error:
            raise ValueError(EXPECTED_METERS) from error
        return meter

    @field_validator("engine_args", mode="before")
    @classmethod
    def _split_args(cls, value: Any) -> Any:  # noqa: ANN401  # whatever the operator wrote
        return tuple(value.split()) if isinstance(value, str) else value


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
    return sorted(name for name in environ if name.startswith("WATTLINE_") and name not in known)


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        if parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            return False
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number, or brackets that hold no address
        return False


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
        key = ".".join(str(part) for part in problem["loc"]) or "settings"
        if problem["type"] == "extra_forbidden":
            problems.append(f"{key}: there is no such setting")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{key} = {problem['input']!r}: {message[:1].lower()}{message[1:]}")
    return "; ".join(problems)
