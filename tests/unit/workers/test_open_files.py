import subprocess
import sys

SCRIPT = """
import resource
from workers.open_files import raise_open_files_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))
print(raise_open_files_limit(), resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_soft_limit_becomes_the_hard_one() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "512 (512, 512)"
