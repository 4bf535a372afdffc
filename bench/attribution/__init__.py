"""How right is the energy each request is told? Our meter and two other rules against Shapley values.

A simulated engine batches requests in virtual time and spends power by a model that knows what any part of a batch
would have cost alone. `python -m bench.attribution` runs the whole study; docs/attribution-benchmark.md explains it.
Needs numpy, which the engine's requirements bring.
"""
