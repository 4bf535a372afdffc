"""The meter inside a vLLM OpenAI server, loaded through vLLM's public extension points.

    vllm serve MODEL --enable-logging-iteration-details --middleware metering.vllm_plugin.EnergyMiddleware

The stat logger (an entry point) turns engine steps into energy; the middleware tells it of requests and writes the
energy block into responses. Both run in the API server's process and meet in its `MeterSession`.
"""

from metering.vllm_plugin.middleware import EnergyMiddleware

__all__ = ["EnergyMiddleware"]
