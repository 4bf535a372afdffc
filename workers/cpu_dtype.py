"""Which number format an engine computes in on this machine's processor, where the model's own would be slow.

Checkpoints come in bfloat16. oneDNN, which vLLM's CPU build multiplies with, has fast bfloat16 kernels for AVX-512 and
for AVX-NE-CONVERT only (oneDNN Developer Guide, "Data Types"); elsewhere on x86 it falls back to a reference loop. On
an AVX2-only AMD EPYC sixteen rows took 461 ms in bfloat16 and 10 ms in float32.
"""

from pathlib import Path
from typing import Final

_CPUINFO: Final = Path("/proc/cpuinfo")
_FAST_BFLOAT16: Final = frozenset({"avx512f", "avx_ne_convert"})


def dtype_arguments(cpuinfo: Path = _CPUINFO) -> tuple[str, ...]:
    """Arguments for vLLM on the CPU: `--dtype float32` where bfloat16 is slow, none where it is not or nobody knows.

    `cpuinfo` is a file in the form of Linux's /proc/cpuinfo. It lists `flags` on x86 alone: other processors keep the
    model's own format.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), None)
    if flags is None or _FAST_BFLOAT16 & set(flags):
        return ()
    return ("--dtype", "float32")
