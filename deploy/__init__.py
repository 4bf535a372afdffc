"""What surrounds a running server: images, charts, units, Prometheus' configuration, Grafana's dashboards."""
