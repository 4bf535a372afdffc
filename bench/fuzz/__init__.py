"""`python -m bench.fuzz`: hostile requests, by our OpenAPI description and as raw bytes.

Both kinds are seeded; a fault is told with the seed that brings it back.
"""
