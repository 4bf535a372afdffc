"""One adapter per energy source; each gives counters (`metering.counter.EnergyCounter`) and chooses nothing."""
