"""Starts the meter while the engine is still loading, so that loading has an account of its own."""

import multiprocessing
import os

from metering.vllm_plugin.session import METER_VARIABLE, process_session


def start_loading_account() -> None:
    """Called by vLLM in each of its processes; only the API server of a metered worker acts on it.

    Without `WATTLINE_METER` (vLLM used for something else on this machine) nothing happens here, and the meter
    starts with the stat logger instead.
    """
    if METER_VARIABLE in os.environ and multiprocessing.parent_process() is None:
        process_session()
