from scheduler.targets import LatencyTargets
from server.latency_targets import describe_targets, latency_targets


def test_a_cpu_is_not_held_to_what_a_gpu_can_do() -> None:
    assert latency_targets("cpu", None, None) == LatencyTargets(5.0, 0.5)
    assert latency_targets("cuda", None, None) == latency_targets("auto", None, None) == LatencyTargets(1.0, 0.05)


def test_what_the_operator_set_holds_everywhere() -> None:
    assert latency_targets("cpu", 0.2, None) == LatencyTargets(0.2, 0.5)
    assert latency_targets("cuda", None, 0.01) == LatencyTargets(1.0, 0.01)


def test_the_terminal_is_told_with_units() -> None:
    assert describe_targets(LatencyTargets(1.0, 0.05)) == "p99 TTFT 1 s, p99 TPOT 0.05 s"
