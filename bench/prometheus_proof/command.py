"""Command line of the proof."""

import argparse
import contextlib
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.children import ended_by_sigterm
from bench.prometheus_proof.prometheus import AS_SHIPPED, is_installed
from bench.prometheus_proof.report import lines, markdown
from bench.prometheus_proof.server import fake_engines, scraped_server
from bench.prometheus_proof.study import HURRIED, prove

_UNTOLD_BY_FAKES: Final = "wattline_worker_kv_cache_usage_ratio"
_ENGINE_ARGUMENTS: Final = ("--max-model-len", "1024")


def main() -> None:
    """Read the arguments, prove, print, and fail where something did not come back."""
    parser = argparse.ArgumentParser(prog="python -m bench.prometheus_proof", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of load")
    parser.add_argument("--as-shipped", action="store_true", help="no hurry: wants ten minutes of load and more")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--fake", action="store_true", help="two fake engines in place of a real one")
    where.add_argument("--worker-url", action="append", help="attach to a running engine")
    parser.add_argument("--engine-args", default=shlex.join(_ENGINE_ARGUMENTS), help="for the engine that is started")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args()
    if not is_installed():
        sys.exit("Prometheus is not installed (Debian's package is called prometheus)")
    with ended_by_sigterm(), contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wattline-proof-")))
        urls = stack.enter_context(fake_engines(folder)) if options.fake else options.worker_url or []
        arguments = [part for url in urls for part in ("--worker-url", url)]
        engine_arguments = () if urls else shlex.split(options.engine_args)
        server = stack.enter_context(scraped_server(folder, arguments, engine_arguments))
        proof = prove(server, folder, options.seconds, AS_SHIPPED if options.as_shipped else HURRIED, _say)
    print("\n".join(markdown(proof) if options.markdown else lines(proof)))
    # A fake engine has no KV cache, and says so by not telling of one.
    faults = [fault for fault in proof.faults if not (options.fake and _UNTOLD_BY_FAKES in fault)]
    if faults:
        sys.exit("\n".join(["", *faults]))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
