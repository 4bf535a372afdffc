import pytest

from server.host_gpus import hardware_class, parse_gpus

LISTING = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa-1)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-aabb-2)
GPU 2: NVIDIA A100-SXM4-80GB (UUID: GPU-cccc-3)
  MIG 1g.10gb     Device  0: (UUID: MIG-dddd)
"""


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100"),
        ("NVIDIA H200", "h100"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA GB200", "b200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA GeForce RTX 4090", "unknown"),
        ("NVIDIA L4", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_product_name_tells_the_class(name: str, found: str) -> None:
    assert hardware_class(name) == found


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, "unknown"),
        ("0", "h100"),
        ("0,1", "h100"),
        ("2", "a100"),
        ("1,2", "unknown"),
        ("7", "unknown"),
        ("GPU-cc", "a100"),
        ("GPU-aa", "unknown"),
        ("MIG-dddd", "unknown"),
        ("-1", "unknown"),
    ],
)
def test_a_worker_is_of_the_class_of_all_gpus_it_sees(visible: str | None, found: str) -> None:
    assert parse_gpus(LISTING).hardware_of(visible) == found


def test_gpus_are_counted_by_their_lines() -> None:
    assert parse_gpus(LISTING).indices() == ["0", "1", "2"]
    assert parse_gpus("").indices() == []
    assert parse_gpus("GPU 0: odd").indices() == ["0"]
    assert parse_gpus("").hardware_of(None) == "unknown"
