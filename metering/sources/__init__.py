"""One adapter per energy source; each implements `metering.counter.EnergyCounter` and knows nothing of the others."""
