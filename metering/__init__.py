"""Measuring energy: hardware counters, their attribution to requests, and the vLLM plugin.

Knows nothing of the rest of Wattline, so that it installs and runs alone beside vLLM.
"""
