"""What malloc does in a worker with memory that is freed, as the kernel counts it."""

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from benchmark.core.threads import worker_variables

MEASURED = """
import resource, sys, threading
import torch
from benchmark.core.malloc import keep_freed_memory

torch.set_num_threads(1)
if sys.argv[1] == "keep":
    keep_freed_memory()

def use():
    torch.ones(2**23)  # 32 MiB are 8,192 pages

def faults():
    use()
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(4):
        use()
    print((resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before) // 4)

if sys.argv[2] == "first":
    faults()
else:
    thread = threading.Thread(target=faults)
    thread.start()
    thread.join()
"""


def faults(mode: str, thread: str, variables: Mapping[str, str]) -> int:
    command = [sys.executable, "-c", MEASURED, mode, thread]
    return int(subprocess.run(command, check=True, capture_output=True, env=variables).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told")
@pytest.mark.parametrize("thread", ["first", "second"])
def test_freed_memory_is_used_again(thread: str) -> None:
    assert faults("keep", thread, os.environ | worker_variables(1)) < 100
    assert faults("plain", thread, os.environ) > 1000
