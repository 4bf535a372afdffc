"""*Fleet energy*: where the watts go, what a token costs, and how much of it is measured."""

from deploy.grafana import variables
from deploy.grafana.layout import Board, Row
from deploy.grafana.panels import GREEN, ORANGE, RED, Label, bars, number, over_time, rows
from deploy.grafana.promql import MODEL, Query, increase, of_models, or_zero, rate, ratio, recent, series, total

_ENERGY = "wattline_energy_joules_total"
_OUTPUT = ("wattline_tokens_total", MODEL, 'kind="output"')
# What the estimate for round-robin is of: neither loading nor what no request can own.
_COMPARED = 'account=~"prefill|decode|idle"'
_UNOWNED = 'account="unattributed"'
_OF_REQUESTS = 'account=~"prefill|decode"'


def board() -> Board:
    """The dashboard."""
    return Board(
        "wattline-fleet-energy",
        "Wattline: fleet energy",
        "Watts by worker, joules by account, the idle share, joules per output token, savings and carbon.",
        (variables.datasource(), variables.job(), variables.model()),
        (_at_a_glance(), _power(), _efficiency(), _carbon(), _measurement()),
    )


def _at_a_glance() -> Row:
    energy, output = increase(_ENERGY, MODEL), increase(*_OUTPUT)
    idle = increase(_ENERGY, MODEL, 'account="idle"')
    measured = of_models(series("wattline_worker_measured"))
    return Row(
        "At a glance, over the range shown",
        (
            number(
                "Power now",
                "What the chosen models' workers draw now, as far as they can tell.",
                "watt",
                Query(total(of_models(series("wattline_power_watts")))),
            ),
            number(
                "Energy",
                "All energy of the range shown: requests, idling, loading, and what no request can own.",
                "joule",
                Query(total(energy)),
            ),
            number(
                "Energy per output token",
                "All energy, idling included, over the output tokens of the range shown.",
                "joule",
                Query(ratio(energy, output)),
                decimals=3,
            ),
            number(
                "Idle share",
                "Energy spent while no request ran. Parking idle workers lowers it.",
                "percentunit",
                Query(ratio(idle, energy)),
                steps=((None, GREEN), (0.3, ORANGE), (0.6, RED)),
            ),
            number(
                "Saved in the last hour",
                "What the same requests are estimated to have cost under round-robin, with every worker awake and "
                "taking turns, less what requests and idling did cost, as a share of that estimate; all models. Absent "
                "until power curves are learned.",
                "percentunit",
                Query(f"avg({series('wattline:energy_saved_ratio:rate1h')})"),
                steps=((None, RED), (0, GREEN)),
            ),
            number(
                "Workers measured",
                "The share of workers whose energy hardware counters tell. The others' is estimated or unknown.",
                "percentunit",
                Query(f"avg(max by (job, instance, worker) ({measured}))"),
                steps=((None, ORANGE), (1, GREEN)),
            ),
        ),
    )


def _power() -> Row:
    watts = of_models(series("wattline_power_watts"))
    return Row(
        "Power and energy",
        (
            over_time(
                "Power by worker",
                "Present power of each worker, all components together.",
                "watt",
                Query(total(watts, "instance", "worker"), "{{instance}} {{worker}}"),
                is_stacked=True,
            ),
            over_time(
                "Power by component",
                "Present power of GPUs, processors and memory.",
                "watt",
                Query(total(watts, "component"), "{{component}}"),
                is_stacked=True,
            ),
            over_time(
                "Joules a second by account",
                "What the energy went to. The accounts add up to the hardware counters, less what is in flight.",
                "watt",
                Query(total(rate(_ENERGY, MODEL), "account"), "{{account}}"),
                is_stacked=True,
            ),
            bars(
                "Energy by account",
                "The joules of the range shown, by what they went to.",
                "joule",
                Query(total(increase(_ENERGY, MODEL), "account"), "{{account}}"),
                span=6,
            ),
            over_time(
                "Idle share",
                "The share of energy that was spent while no request ran, by model.",
                "percentunit",
                Query(ratio(rate(_ENERGY, MODEL, 'account="idle"'), rate(_ENERGY, MODEL), "model"), "{{model}}"),
                span=6,
            ),
        ),
    )


def _efficiency() -> Row:
    energy, output = rate(_ENERGY, MODEL), rate(*_OUTPUT)
    elsewhere = rate("wattline_round_robin_energy_joules_total", MODEL)
    # A server that has no estimate yet has nothing to be compared with.
    compared = f"({rate(_ENERGY, MODEL, _COMPARED)} and on (job, instance, model) {elsewhere})"
    return Row(
        "Efficiency",
        (
            over_time(
                "Joules per output token by model",
                "All energy over output tokens, and that of requests alone. Between them are idling and loading.",
                "joule",
                Query(ratio(energy, output, "model"), "{{model}}, all energy"),
                Query(ratio(rate(_ENERGY, MODEL, _OF_REQUESTS), output, "model"), "{{model}}, requests alone"),
            ),
            over_time(
                "Energy in flight",
                "What requests that have not ended have used so far. It is in no account yet.",
                "joule",
                Query(total(series("wattline_energy_in_flight_joules", MODEL), "model"), "{{model}}"),
            ),
            over_time(
                "Spent, and estimated for round-robin",
                "Joules a second of requests and idling, beside what the same requests are estimated to have cost with "
                "every worker awake and taking turns.",
                "watt",
                Query(total(compared, "model"), "{{model}}, spent"),
                Query(total(elsewhere, "model"), "{{model}}, estimated for round-robin"),
            ),
            over_time(
                "Saved by model",
                "The share saved of the round-robin estimate. Below zero, round-robin would have been cheaper.",
                "percentunit",
                Query(f"1 - {ratio(compared, elsewhere, 'model')}", "{{model}}"),
            ),
        ),
    )


def _carbon() -> Row:
    grams = ("wattline_carbon_g_co2eq_total", MODEL)
    return Row(
        "Carbon",
        (
            number(
                "Emissions",
                "Grams of CO2 equivalent of the range shown, of requests whose energy and grid were known.",
                "massg",
                Query(total(increase(*grams))),
            ),
            over_time(
                "Grid carbon intensity",
                "The intensity that requests are counted with, by who says so. Absent while it is not known.",
                "suffix: gCO2eq/kWh",
                Query(series("wattline_grid_carbon_intensity_gco2perkwh"), "{{instance}} {{source}}"),
                span=10,
            ),
            over_time(
                "Emissions by model",
                "Grams of CO2 equivalent an hour.",
                "suffix: g/h",
                Query(f"3600 * {total(rate(*grams), 'model')}", "{{model}}"),
                span=10,
            ),
            over_time(
                "Age of the intensity",
                "How old the value in use is. A fixed intensity has no age, and shows nothing here.",
                "s",
                Query(series("wattline_grid_carbon_age_seconds"), "{{instance}}"),
                span=24,
            ),
        ),
    )


def _measurement() -> Row:
    measured = of_models(series("wattline_worker_measured"))
    return Row(
        "How well it is measured",
        (
            over_time(
                "Unattributed share",
                "Energy that no request can own and that was not spent idling or loading. It should stay near zero.",
                "percentunit",
                Query(ratio(rate(_ENERGY, MODEL, _UNOWNED), rate(_ENERGY, MODEL), "model"), "{{model}}"),
            ),
            over_time(
                "Workers measured and not",
                "Measured: a hardware counter is read. Not measured: the energy is estimated or unknown.",
                "short",
                Query(total(measured), "measured"),
                Query(total(f"1 - {measured}"), "not measured"),
                is_stacked=True,
            ),
            rows(
                "Workers and their meters",
                "What each worker's energy is read from, and whether that is hardware.",
                (Label("instance", "Server"), Label("worker", "Worker"), Label("source", "Source")),
                Query(f"max by (instance, worker, source) ({measured})", "Measured", "bool_yes_no"),
                span=12,
            ),
            over_time(
                "Faults of hardware counters",
                "Counters that went backwards, stood still or jumped, over the rate interval. Each began a new epoch.",
                "short",
                Query(
                    or_zero(total(recent("wattline_energy_counter_faults_total"), "instance", "worker", "fault")),
                    "{{instance}} {{worker}} {{fault}}",
                ),
            ),
            over_time(
                "Unattributed energy",
                "Joules a second that no request can own, by worker.",
                "watt",
                Query(total(rate(_ENERGY, MODEL, _UNOWNED), "instance", "worker"), "{{instance}} {{worker}}"),
                span=24,
            ),
        ),
    )
