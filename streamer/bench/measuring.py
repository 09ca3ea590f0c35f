"""Clocks and memory of this process, and things measured in turns."""

from __future__ import annotations

import gc
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from streamer.bench.figures import Sample
from streamer.cpus import usable_cores
from streamer.version import version

_STATM = Path("/proc/self/statm")
_CPUINFO = Path("/proc/cpuinfo")


def in_turns(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Sample]:
    """Median milliseconds of a call, and its processor time; in turns, so that a busy moment of the machine meets all
    of them."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    costs = dict.fromkeys(contenders, 0.0)
    for _ in range(rounds):
        for name, run in contenders.items():
            began, cpu = time.perf_counter(), time.process_time()
            run()
            times[name].append(time.perf_counter() - began)
            costs[name] += time.process_time() - cpu
    return {name: Sample(1e3 * median(values), 1e6 * costs[name] / rounds) for name, values in times.items()}


def rate_since(began: float, cpu: float, count: int) -> tuple[float, float]:
    """So many things a second, and microseconds of a processor for each. `began`: by the performance counter; `cpu`:
    the process's time then."""
    return count / (time.perf_counter() - began), 1e6 * (time.process_time() - cpu) / count


def resident_after_collection() -> int:
    """The same, once garbage is collected."""
    gc.collect()
    return resident()


def resident() -> int:
    """Bytes of this process in memory now; the peak where the system does not tell."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return peak()


def peak() -> int:
    """The most bytes that this process had in memory."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def machine() -> dict[str, Any]:
    """What a figure is worth nothing without. `load`: programs that wanted a processor in the last minute."""
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "version": version(),
    }


def _processor() -> str:
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
