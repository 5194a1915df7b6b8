from __future__ import annotations

import platform

import pytest
import torch

from detrofit.training.memory import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_freed_memory_is_there_again_without_new_pages():
    import resource

    keep_freed_memory()
    torch.ones(4_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(4_000_000)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < 20_000, "ten times 16 MB are 40,000 pages, and other memory in use moves a block now and then"
