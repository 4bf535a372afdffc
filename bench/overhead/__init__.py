"""`wattline bench overhead`: what the front end costs, beside the same engine asked directly and beside its peers."""
