"""The page at `/`: its files lie in `page/`, and it reads `/v1/energy/live` like any other client."""
