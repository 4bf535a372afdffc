"""The energy-aware scheduler measured on real engines: the same arrivals under each policy in turn."""
