"""Which metrics an expression reads and which labels its series have, without running it.

It knows what names and labels there are, and finds what can only come back empty: a metric that does not exist, a
label that its metric does not have, a legend that names what the aggregation has dropped.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import promql_parser
from promql_parser import AggModifierType, Expr, LabelModifierType, VectorMatchCardinality

Labels = frozenset[str]
_NONE: Final[Labels] = frozenset()
# Aggregations that choose among series and leave those that they choose as they are.
_CHOOSING: Final = frozenset({"topk", "bottomk"})
_SET_OPERATORS: Final = frozenset({"and", "or", "unless"})
# Functions whose one argument is a number or nothing: their result has no labels.
_WITHOUT_LABELS: Final = frozenset({"vector", "scalar", "time", "pi", "absent", "absent_over_time"})


class QueryError(ValueError):
    """An expression that cannot be what was meant; the message says why."""


def labels_of(expression: str, known: Mapping[str, Labels]) -> Labels:
    """The labels that the expression's series may have. `known` are the metrics there are, each with its labels.

    Raises:
        QueryError: it is no PromQL, or names a metric or a label that does not exist.
    """
    try:
        parsed = promql_parser.parse(expression)
    except ValueError as error:
        raise QueryError(f"no PromQL: {error}") from error
    return _Reader(known).labels(parsed)


class _Reader:
    def __init__(self, known: Mapping[str, Labels]) -> None:
        self._known = known

    def labels(self, node: Expr) -> Labels:
        match node:
            case promql_parser.VectorSelector() | promql_parser.MatrixSelector():
                return self._selected(node)
            case promql_parser.AggregateExpr():
                return self._aggregated(node)
            case promql_parser.BinaryExpr():
                return self._combined(node)
            case promql_parser.Call():
                return self._called(node)
            case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
                return self.labels(node.expr)
        return _NONE  # a number or a text

    def _selected(self, selector: promql_parser.VectorSelector | promql_parser.MatrixSelector) -> Labels:
        node = selector.vector_selector if isinstance(selector, promql_parser.MatrixSelector) else selector
        if node.name is None:
            raise QueryError(f"{node}: a selector without the name of a metric")
        if node.name not in self._known:
            raise QueryError(f"there is no metric {node.name}")
        labels = self._known[node.name]
        _check((matcher.name for matcher in node.matchers.matchers), labels, node.name)
        return labels

    def _aggregated(self, node: promql_parser.AggregateExpr) -> Labels:
        inner = self.labels(node.expr)
        named = _NONE if node.modifier is None else frozenset(node.modifier.labels)
        _check(named, inner, f"the aggregation over {node.expr}")
        if str(node.op) in _CHOOSING:
            return inner
        if node.modifier is None:
            return _NONE
        return named if node.modifier.type == AggModifierType.By else inner - named

    def _combined(self, node: promql_parser.BinaryExpr) -> Labels:
        left, right = self.labels(node.lhs), self.labels(node.rhs)
        modifier = node.modifier
        matching = None if modifier is None else modifier.matching
        if matching is not None and matching.type == LabelModifierType.Include:
            for side, labels in ((node.lhs, left), (node.rhs, right)):
                _check(matching.labels, labels, str(side))
        if str(node.op) in _SET_OPERATORS:
            return left | right if str(node.op) == "or" else left
        if modifier is None or matching is None:
            return left | right  # a scalar has none; two vectors match only where theirs are the same
        brought = frozenset(modifier.group_labels or ())
        if modifier.card == VectorMatchCardinality.ManyToOne:
            return left | brought
        if modifier.card == VectorMatchCardinality.OneToMany:
            return right | brought
        named = frozenset(matching.labels)
        return named if matching.type == LabelModifierType.Include else (left | right) - named

    def _called(self, node: promql_parser.Call) -> Labels:
        found = [self.labels(argument) for argument in node.args]
        name = node.func.name
        if name in _WITHOUT_LABELS:
            return _NONE
        labels = _NONE.union(*found)
        if name == "histogram_quantile":
            _check(("le",), labels, name)
            return labels - {"le"}
        if name in {"label_replace", "label_join"}:
            return labels | {node.args[1].val}
        return labels


def _check(named: Iterable[str], labels: Labels, where: str) -> None:
    if missing := sorted(set(named) - labels):
        raise QueryError(f"{where} has no label {', '.join(missing)}")
