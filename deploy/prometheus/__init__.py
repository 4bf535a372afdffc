"""Prometheus' configuration, recording rules and alerts, with what checks them."""
