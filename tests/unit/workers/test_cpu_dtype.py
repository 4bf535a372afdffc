from pathlib import Path

import pytest

from workers.cpu_dtype import dtype_arguments


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse2 avx avx2 f16c\nbugs\t: x\n", ("--dtype", "float32")),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512bw\n", ()),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx_vnni avx_ne_convert\n", ()),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", ()),
        ("", ()),
    ],
)
def test_float32_only_on_x86_without_fast_bfloat16(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(text)
    assert dtype_arguments(cpuinfo) == expected


def test_an_unknown_processor_keeps_the_models_own_format(tmp_path: Path) -> None:
    assert dtype_arguments(tmp_path / "missing") == ()
