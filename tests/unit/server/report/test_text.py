import csv
import io
import json

from hypothesis import given
from hypothesis import strategies as st

from server.ledger.summary import Summary, SummaryGroup, SummaryQuery, Totals
from server.report.text import csv_report, json_report, shown_joules, table_report

A = Totals(
    requests=1200,
    completed_requests=1190,
    aborted_requests=10,
    prompt_tokens=5000,
    output_tokens=70_000,
    measured_microjoules=1_234_567_890,
    estimated_microjoules=10,
    requests_of_unknown_energy=2,
    output_tokens_of_known_energy=69_000,
    carbon_g_co2eq=0.0514,
    microjoules_without_carbon=500_000,
)
B = Totals(requests=1, completed_requests=1, measured_microjoules=1_500, microjoules_without_carbon=1_500)
SUMMARY = Summary(
    SummaryQuery(("tenant", "model")), (SummaryGroup(("research", "llama"), A), SummaryGroup(("sales", ""), B))
)


def test_a_table_is_aligned_and_ends_with_the_total() -> None:
    assert table_report(SUMMARY) == (
        "tenant    model  requests  prompt tokens  output tokens   energy J  J/output token  g CO2eq\n"
        "--------  -----  --------  -------------  -------------  ---------  --------------  -------\n"
        "research  llama     1,200          5,000         70,000  1,234.568          0.0179    0.051\n"
        "sales     -             1              0              0      0.002               -        -\n"
        "--------  -----  --------  -------------  -------------  ---------  --------------  -------\n"
        "total               1,201          5,000         70,000  1,234.569          0.0179    0.051\n"
        "\n"
        "0.000343 kWh, 100.0% of it measured by hardware\n"
        "10 aborted\n"
        "the energy of 2 request(s) is not known\n"
        "carbon is not known for 0.502 J\n"
    )


def test_a_table_of_nothing() -> None:
    lines = table_report(Summary(SummaryQuery(()), ())).splitlines()
    assert lines[0].startswith("requests  prompt tokens")
    assert lines[2].split() == ["0", "0", "0", "0.000", "-", "-"]
    assert lines[-1] == "0.000000 kWh"


def test_csv_has_a_line_a_group_whose_microjoules_add_up() -> None:
    lines = list(csv.DictReader(io.StringIO(csv_report(SUMMARY))))
    assert [(line["tenant"], line["model"]) for line in lines] == [("research", "llama"), ("sales", "")]
    assert sum(int(line["energy_microjoules"]) for line in lines) == SUMMARY.total.energy_microjoules
    assert lines[1]["carbon_g_co2eq"] == ""


def test_json_has_the_groups_and_the_total() -> None:
    body = json.loads(json_report(SUMMARY))
    assert [group["tenant"] for group in body["groups"]] == ["research", "sales"]
    assert body["groups"][0]["requests"] == {"total": 1200, "completed": 1190, "failed": 0, "refused": 0, "aborted": 10}
    assert body["total"]["energy_joules"] == 1234.5694
    assert body["total"]["measured_joules"] + body["total"]["estimated_joules"] == body["total"]["energy_joules"]
    assert body["groups"][1]["joules_per_output_token"] is None


@given(st.integers(0, 2**63))
def test_joules_are_shown_to_the_millijoule(microjoules: int) -> None:
    shown = int(shown_joules(microjoules).replace(",", "").replace(".", "")) * 1000
    assert abs(shown - microjoules) <= 500
