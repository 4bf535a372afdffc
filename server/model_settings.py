"""What an operator may choose for one model: what is loaded, its name, its workers. Read from a `[[models]]` table."""

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_settings import NoDecode

Device = Literal["auto", "cuda", "cpu"]
MOST_WORKERS: Final = 256
_TWICE: Final = "the same worker is named twice, and its energy would count twice"


def _split_at_commas(value: Any) -> Any:  # noqa: ANN401  # whatever the operator wrote
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _split_at_spaces(value: Any) -> Any:  # noqa: ANN401  # whatever the operator wrote
    return tuple(value.split()) if isinstance(value, str) else value


def _origins(urls: tuple[str, ...]) -> tuple[str, ...]:
    for url in urls:
        if not _is_http_url(url) and (not url.startswith("unix:/") or url == "unix:/"):
            raise ValueError(f"{url!r} is neither an http:// or https:// URL nor unix:/PATH")
    origins = tuple(url.rstrip("/").removesuffix("/v1") for url in urls)
    check_each_once(origins)
    return origins


def _servable(name: str) -> str:
    if not name.isprintable() or name != name.strip():
        raise ValueError("a name that clients can ask for has neither control characters nor spaces around it")
    return name


def check_each_once(origins: Iterable[str]) -> None:
    """Refuse a list that names a worker twice.

    Raises:
        ValueError: it does.
    """
    origins = tuple(origins)
    if len(set(origins)) < len(origins):
        raise ValueError(_TWICE)


def check_min_workers(min_workers: int, info: ValidationInfo) -> int:
    """As a field validator: at most as many as there are workers.

    The fields it is compared with stand above it; one that was wrong itself is missing in `info`.
    """
    workers = len(info.data.get("worker_urls") or ()) or info.data.get("workers")
    if workers is not None and min_workers > workers:
        raise ValueError(f"input should be at most the number of workers, which is {workers}")
    return min_workers


WorkerUrls = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_at_commas), AfterValidator(_origins)]
EngineArgs = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_at_spaces)]
Workers = Annotated[int, Field(ge=1, le=MOST_WORKERS)]
MinWorkers = Annotated[int, Field(ge=0), AfterValidator(check_min_workers)]
GpusPerWorker = Annotated[int, Field(ge=1)]
ServedName = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_servable)]


class ModelSettings(BaseModel):
    """One model. `name` or `path` is what MODEL takes on the command line; with `worker_urls` there is neither.

    None stands for: the server's own `device`; the model's own name; an even share of the GPUs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    path: str | None = None
    served_name: ServedName | None = None
    worker_urls: WorkerUrls = ()
    workers: Workers = 1
    min_workers: MinWorkers = 1
    device: Device | None = None
    gpus_per_worker: GpusPerWorker | None = None
    engine_args: EngineArgs = ()

    @property
    def model(self) -> str | None:
        """What MODEL takes; None where servers are attached."""
        return self.path if self.name is None else self.name

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.worker_urls:
            started_here = self.model_fields_set & {"name", "path", "workers", "engine_args", "gpus_per_worker"}
            if started_here:
                keys = ", ".join(sorted(started_here))
                raise ValueError(f"worker_urls attaches to running servers; {keys} are for engines started here")
        elif (self.name is None) == (self.path is None):
            raise ValueError("expected either name or path, which say what to load, or worker_urls")
        return self


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        if parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            return False
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number, or brackets that hold no address
        return False
