"""How many files this process may have open: a stream takes two sockets, and a thousand of them more than is usual."""

import contextlib
import resource
from typing import Final

# Where there is no hard limit; the kernel's own default for the most (fs.nr_open, proc_sys_fs(5)).
_MOST: Final = 1_048_576


def raise_open_files_limit() -> int:
    """Raise the soft limit to the hard one, and return it.

    The usual soft limit of 1,024 is there for programs that use select(2), which event loops have not for long.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # some systems allow less than their hard limit says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
