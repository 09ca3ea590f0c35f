"""How many processors there are to use."""

from __future__ import annotations

import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2: microseconds in each period, "200000 100000" or "max 100000"


def usable_cores() -> int:
    """Cores this process may use, at least 1. In a container they can be fewer than the machine has: by the cores that
    it is bound to, or by a limit on its time. More threads than that would wait for each other."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _limit() or cores)


def _limit() -> int | None:
    """Cores that the limit on processor time is worth, rounded up; None without one."""
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):  # another system, "max", or another format
        return None
