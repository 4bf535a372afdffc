"""The proof as a table for people."""

from collections.abc import Iterator

from bench.prometheus_proof.answers import Asked
from bench.prometheus_proof.study import Proof


def lines(proof: Proof) -> Iterator[str]:
    """The table of everything that was asked, then the books, then what was changed of the shipped files."""
    widths = [max(len(one.where) for one in proof.asked), max(len(one.what) for one in proof.asked)]
    yield _line(widths, "dashboard or rule", "panel", "series", "a value", "query")
    for one in proof.asked:
        yield _line(widths, one.where, one.what, str(one.series), _value(one), one.expression)
    yield ""
    yield from _summary(proof)


def _summary(proof: Proof) -> Iterator[str]:
    bad = sum(one.fault is not None for one in proof.asked)
    yield f"{len(proof.asked)} queries, {len(proof.asked) - bad} with data, {bad} without"
    told = proof.told
    others = ", ".join(f"{count} of status {status}" for status, count in sorted(told.statuses.items()))
    yield f"{told.answers} answers ({told.unknown} of unknown energy), {told.left} left by their callers, {others}"
    for agreement in proof.agreements:
        figures = ", ".join(f"{who} {joules:.6f} J" for who, joules in agreement.joules.items())
        yield f"{agreement.what}: {figures}; at most {agreement.worst_ratio:.6%} apart"
    if proof.scrape_seconds is not None:
        yield f"slowest scrape: {1000 * proof.scrape_seconds:.1f} ms"
    yield "changed of the shipped configuration: " + "; ".join(proof.substitutions)


def markdown(proof: Proof) -> Iterator[str]:
    """The same for a page of documentation."""
    yield "| dashboard or rule | panel | series | a value | query |"
    yield "|---|---|---:|---|---|"
    for one in proof.asked:
        query = one.expression.replace("|", "\\|")
        yield f"| {one.where} | {one.what} | {one.series} | {_value(one)} | `{query}` |"
    yield ""
    yield from (f"- {line}" for line in _summary(proof))


def _line(widths: list[int], where: str, what: str, series: str, value: str, query: str) -> str:
    return f"{where:<{widths[0]}}  {what:<{widths[1]}}  {series:>6}  {value:<28}  {query}"


def _value(one: Asked) -> str:
    if one.fault is not None:
        return f"FAULT: {one.fault}"
    if one.value is None:
        return one.remark[:28]
    return f"{one.value:.6g}" + (f" ({one.remark.split(';')[0]})" if one.remark else "")
