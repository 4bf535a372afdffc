"""Who may ask, for what, how often and for how many joules."""
