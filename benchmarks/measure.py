"""What all benchmarks share: the machine in words, medians, Markdown tables, and a process to measure."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LIBRARIES = ("faceunits", "torch", "onnxruntime", "numpy", "av", "numba")


def heading(title: str, *, notes: Sequence[str] = ()) -> str:
    """Title, machine, versions, and how loaded the machine was: figures mean little without."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    lines = [
        f"## {title}", "",
        f"- machine: {_processor()}, {os.cpu_count()} logical CPUs, {platform.system()} {platform.machine()}",
        f"- versions: Python {platform.python_version()}, " + ", ".join(f"{k} {v}" for k, v in found.items()),
        f"- commit: {_commit()}; load before the run: {os.getloadavg()[0]:.1f}",
        *(f"- {note}" for note in notes), "",
    ]  # fmt: skip
    return "\n".join(lines)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table; numbers are shown with three significant digits."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_shown(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of every figure over the runs."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def race(entries: Mapping[str, Callable[[], object]], *, rounds: int, warm: int = 2) -> dict[str, float]:
    """Median CPU milliseconds (all threads of this process) of each entry, run in turns.

    Process time rather than the clock: other programs on the machine then disturb less.
    """
    for entry in entries.values():
        for _ in range(warm):
            entry()
    spent: dict[str, list[float]] = {name: [] for name in entries}
    for _ in range(rounds):
        for name, entry in entries.items():
            start = time.process_time()
            entry()
            spent[name].append(1e3 * (time.process_time() - start))
    return {name: statistics.median(values) for name, values in spent.items()}


def worker(
    python: str | Path, script: str, *args: str, environment: Mapping[str, str] = {}
) -> dict[str, Any]:
    """The JSON that a worker prints last, with `start_s`, from here to its first row.

    A worker calls `first()` after its first row and `report(...)` at its end.
    """
    began = time.time()
    done = subprocess.run(
        [python, HERE / script, *args], capture_output=True, text=True, env=os.environ | dict(environment)
    )
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
    out: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    out["start_s"] = out.pop("first_at") - began
    return out


class Stopwatch:
    """Inside a worker: counts from the first row on, so that start-up and work are told apart."""

    def __init__(self) -> None:
        self.rows = self.before = 0

    def row(self, count: int = 1) -> None:
        """One more row is done, or several at once: the work of the first ones counts as start-up."""
        self.rows += count
        if self.rows == count:
            self.first_at, self.wall, self.user = time.time(), time.perf_counter(), os.times().user
            self.before = count

    def report(self, **more: Any) -> None:
        """Print what `worker` reads."""
        if self.rows == self.before:
            raise SystemExit(f"expected a longer clip; got {self.rows} frames, all of them at once")
        rest = self.rows - self.before
        wall, user = time.perf_counter() - self.wall, os.times().user - self.user
        figures = {
            "frames": self.rows, "cpu_ms": 1e3 * user / rest, "fps": rest / wall,
            "peak_mb": peak_mb(), "first_at": self.first_at,
        }  # fmt: skip
        print(json.dumps(figures | more))


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB.

    Not `ru_maxrss` on Linux: there a new process inherits that of its parent.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    import resource

    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
