"""A stand-in for an inference engine: OpenAI's HTTP interface, made-up tokens, conserved made-up energy.

Tests and benchmarks start it as its own process (`python -m workers.fake`), so that what talks to it meets
a real socket, real back-pressure and real disconnects. It knows nothing of the rest of Wattline.
"""
