import re
from html.parser import HTMLParser

import pytest

from server.ledger.summary import Summary, SummaryGroup, SummaryQuery, Totals
from server.report.page import html_report

SPENT = Totals(requests=3, completed_requests=3, output_tokens=9, measured_microjoules=4_500_000)
HOSTILE = "<script>alert('x')</script>"


def answers(*, days: list[str], tenant: str = "research", model: str = "llama") -> "Answers":
    return Answers(days, tenant, model)


class Answers:
    """A ledger in which every day, tenant and model spent the same."""

    def __init__(self, days: list[str], tenant: str, model: str) -> None:
        self.values = {"day": days, "hour": [f"{day}T05:00Z" for day in days], "model": [model], "tenant": [tenant]}
        self.values["month"] = sorted({day[:7] for day in days})
        self.asked: list[SummaryQuery] = []

    def __call__(self, query: SummaryQuery) -> Summary:
        self.asked.append(query)
        first, *rest = query.by
        groups = [(value, *(self.values[name][0] for name in rest)) for value in self.values[first]]
        return Summary(query, tuple(SummaryGroup(key, SPENT) for key in groups))


def page(ask: Answers, query: SummaryQuery | None = None) -> str:
    query = query or SummaryQuery(("tenant", "model"))
    return html_report(ask(query), ask, 1_767_268_800.0)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    html = page(answers(days=["2026-01-01", "2026-01-05"]))
    assert not re.search(r"(src|href)=|url\(|@import|https?://", html)
    assert html.count("<svg") == 2
    assert "4.5 J" in html
    assert "2026-01-01 12:00 UTC" in html


def test_names_are_escaped() -> None:
    html = page(answers(days=["2026-01-01"], tenant=HOSTILE, model=HOSTILE))
    assert "<script" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize(
    ("days", "dimension", "instants"),
    [
        (["2026-01-01"], "hour", 1),
        (["2026-01-01", "2026-01-31"], "day", 31),
        (["2025-11-30", "2026-03-31"], "month", 5),
    ],
)
def test_time_is_told_in_steps_that_suit_its_length(days: list[str], dimension: str, instants: int) -> None:
    ask = answers(days=days)
    html = page(ask)
    assert f"Energy per {dimension}, by model" in html
    labels = re.findall(r'text-anchor="middle">([^<]+)<', html)
    assert 1 <= len(labels) <= 12
    assert len(labels) >= min(instants, 2)


def test_a_page_of_nothing_says_so() -> None:
    html = page(answers(days=[]))
    assert html.count("No energy was recorded.") == 1


def test_every_tag_is_closed() -> None:
    open_tags: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag != "meta":
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

        def handle_startendtag(self, tag: str, attrs: object) -> None: ...

    Tags().feed(page(answers(days=["2026-01-01", "2026-01-05"])))
    assert open_tags == []
