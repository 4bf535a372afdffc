"""Grafana's dashboards, built from code: `python -m deploy.grafana` writes them, `--check` fails on stale files."""
