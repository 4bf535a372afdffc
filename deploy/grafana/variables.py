"""The dashboards' variables. No datasource is named: whoever imports a dashboard chooses his own."""

from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableOption, VariableRefresh, VariableSort

DATASOURCE: Final = DataSourceRef("prometheus", "${datasource}")
_ALL: Final = VariableOption(selected=True, text=["All"], value=["$__all"])


def datasource() -> dashboard.DatasourceVariable:
    """Which Prometheus to ask."""
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def job() -> dashboard.QueryVariable:
    """Which scrape jobs to look at: all that scrape a Wattline, unless some are chosen."""
    return _choice("job", "Job", "label_values(wattline_build_info, job)")


def model() -> dashboard.QueryVariable:
    """Which models."""
    return _choice("model", "Model", 'label_values(wattline_energy_joules_total{job=~"$job"}, model)')


def tenant() -> dashboard.QueryVariable:
    """Which tenants."""
    return _choice("tenant", "Tenant", 'label_values(wattline_tenant_requests_total{job=~"$job"}, tenant)')


def _choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(_ALL)
    )
