"""What others tell a request. Both look at the time between its arrival and its end, its window, and nothing else.

Both are given the energy truly spent in that window, free of the sensor's errors: what differs is the rule alone.
"""

import numpy as np

from bench.attribution.board import Board
from bench.attribution.power_model import FloatArray
from bench.attribution.trace import Trace


def token_share_joules(trace: Trace, board: Board) -> FloatArray:
    """Mean power over the window × its duration × the request's tokens over all tokens processed in the window.

    As hosted services prorate: a token is a token, whether read or written. Tokens found in a cache do not count, and
    a request is never told more than the device spent meanwhile.
    """
    window = _window_joules(trace, board)
    at = np.array([step.report.ended_at_seconds for step in trace.steps])
    processed = np.concatenate([[0.0], np.cumsum([float(step.members.tokens.sum()) for step in trace.steps])])
    # A step counts to a window by its end; the one an aborted request was last in counts too.
    first = np.searchsorted(at, [plan.arrives_at_seconds for plan in trace.requests], side="right")
    last = np.searchsorted(at, np.array(trace.ended_at_seconds), side="left") + 1
    everybody = processed[np.minimum(last, len(at))] - processed[first]
    own = np.zeros(len(trace.requests))
    for step in trace.steps:
        np.add.at(own, list(step.members.requests), step.members.tokens)
    share = np.divide(own, everybody, out=np.zeros_like(own), where=everybody > 0)
    told: FloatArray = np.minimum(window * share, window)
    return told


def whole_device_joules(trace: Trace, board: Board) -> FloatArray:
    """What the device's counter rose by in the window, as was proposed for Text Generation Inference."""
    return _window_joules(trace, board)


def _window_joules(trace: Trace, board: Board) -> FloatArray:
    arrived = [plan.arrives_at_seconds for plan in trace.requests]
    rise: FloatArray = board.joules(trace.ended_at_seconds) - board.joules(arrived)
    return rise
