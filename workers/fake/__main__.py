"""Command line of the fake engine: `python -m workers.fake --port 8001`."""

import argparse
from pathlib import Path

from workers.fake.server import Listen, die_with_parent, run
from workers.fake.settings import FakeSettings


def main() -> None:
    """Reads the arguments and serves until told to stop."""
    arguments = _parser().parse_args()
    if arguments.die_with_parent:
        die_with_parent()
    settings = FakeSettings(
        model=arguments.model,
        max_model_len=arguments.max_model_len,
        prefill_tokens_per_second=arguments.prefill_tokens_per_second,
        decode_tokens_per_second=arguments.decode_tokens_per_second,
        tokens_per_write=arguments.tokens_per_write,
        startup_seconds=arguments.startup_seconds,
        idle_watts=arguments.idle_watts,
        active_watts=arguments.active_watts,
    )
    run(settings, Listen(arguments.uds, arguments.host, arguments.port or 0))


def _parser() -> argparse.ArgumentParser:
    defaults = FakeSettings()
    parser = argparse.ArgumentParser(prog="python -m workers.fake", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--uds", type=Path, metavar="PATH", help="listen on this unix socket")
    where.add_argument("--port", type=int, help="listen on this TCP port")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--model", default=defaults.model)
    parser.add_argument("--max-model-len", type=int, default=defaults.max_model_len, metavar="TOKENS")
    for flag, default, text in (
        ("--prefill-tokens-per-second", defaults.prefill_tokens_per_second, "0 is instant"),
        ("--decode-tokens-per-second", defaults.decode_tokens_per_second, "of each sequence, 0 is instant"),
        ("--startup-seconds", defaults.startup_seconds, "time until it listens"),
        ("--idle-watts", defaults.idle_watts, "power while nothing runs"),
        ("--active-watts", defaults.active_watts, "power while loading or while a request runs"),
    ):
        parser.add_argument(flag, type=_not_negative, default=default, metavar="N", help=text)
    parser.add_argument(
        "--tokens-per-write",
        type=int,
        default=defaults.tokens_per_write,
        metavar="N",
        help="of an instant stream, 0 is as many as the socket takes",
    )
    parser.add_argument("--die-with-parent", action="store_true", help="stop when the parent process ends")
    return parser


def _not_negative(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, not {text!r}")
    return value


if __name__ == "__main__":
    main()
