"""How every benchmark is run: equality proved first, compile apart from run, medians of interleaved runs, peak memory.

An area of the benchmark is a file beside this one with a function `cases(quick) -> list[Case]` (and `gpu_cases(quick)`
where it has rows for a GPU). A case is one piece of work and the programs that do it: ours, straightforward JAX, the
peer, and the bound, which is the forward and backward passes that the method needs at the rate at which the same model
reaches them outside of any method.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

OURS, PLAIN, PEER, BOUND, OTHER = "jaxplain", "plain JAX", "peer", "bound", "other"
PACKAGES = "jax jaxlib flax optax numpy torch captum zennit quantus shap keras scikit-learn".split()  # noqa: SIM905


@dataclasses.dataclass(frozen=True)
class Program:
    """One way to do a case's work.

    name: what it is; run: does the work once and returns what came out; role: one of `OURS`, `PLAIN`, `PEER`, `BOUND`
    and `OTHER`; result: from what came out to the arrays that all programs must agree on, None where it computes
    something else (a bound, which runs the same passes); scale: the run is so many times less work than the case, so
    its time is multiplied; most: how many timed runs at most, for peers that take minutes.
    """

    name: str
    run: Callable[[], Any]
    role: str = OTHER
    result: Callable[[Any], Any] | None = lambda out: out
    scale: float = 1.0
    most: int = 1000


@dataclasses.dataclass(frozen=True)
class Case:
    """One piece of work. Its first program is ours, and what the others' times are compared with.

    tolerance: how far results may lie apart, as a part of the largest entry; prove: a further proof, run first, that
    returns a line for the reader or raises; examples: how many examples the work explains; targets: by a program's name
    or by a role (then its fastest program), the largest quotient of our time and its time that the project asks for.
    """

    name: str
    programs: Sequence[Program]
    tolerance: float = 1e-4
    examples: int = 1
    prove: Callable[[], str] | None = None
    targets: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of one program, times in seconds; `first` is the first call, mostly compilation."""

    area: str
    case: str
    program: str
    role: str
    first: float
    median: float
    low: float
    high: float
    rounds: int
    examples: int
    peak_bytes: int | None
    difference: float | None


def installed(name: str) -> bool:
    """Whether an optional peer can be imported."""
    return importlib.util.find_spec(name) is not None


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one call, to the end of its work on the device, and what it returned."""
    start = time.perf_counter()
    out = jax.block_until_ready(run())
    return time.perf_counter() - start, out


def measure(area: str, case: Case, rounds: int) -> list[Row]:
    """Prove that the programs of a case agree, then time them in turns."""
    if case.prove is not None:
        print(f"  {case.prove()}", flush=True)
    jax.clear_caches()  # so that first calls compile
    first, outs = {}, {}
    for program in case.programs:
        first[program.name], outs[program.name] = timed(program.run)
    differences = _differences(case, outs)
    outs.clear()
    peaks = {program.name: peak_bytes(program.run) for program in case.programs}
    times: dict[str, list[float]] = {program.name: [] for program in case.programs}
    for index in range(rounds):
        turn = index % len(case.programs)
        for program in (*case.programs[turn:], *case.programs[:turn]):
            if index < program.most:
                times[program.name].append(timed(program.run)[0] * program.scale)
    return [
        Row(
            area,
            case.name,
            program.name,
            program.role,
            first[program.name],
            statistics.median(times[program.name]),
            min(times[program.name]),
            max(times[program.name]),
            len(times[program.name]),
            case.examples,
            peaks[program.name],
            differences.get(program.name),
        )
        for program in case.programs
    ]


def _differences(case: Case, outs: dict[str, Any]) -> dict[str, float]:
    """How far each program's result is from ours, as a part of the largest entry; raises beyond the tolerance."""
    compared = [(p.name, jax.tree.map(np.asarray, p.result(outs[p.name]))) for p in case.programs if p.result]
    if not compared:
        return {}
    (_, ours), *others = compared
    differences = {}
    for name, result in others:
        pairs = list(zip(jax.tree.leaves(ours), jax.tree.leaves(result), strict=True))
        size = max(float(np.abs(np.asarray(a, np.float64)).max()) for a, _ in pairs)
        apart = max(float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max()) for a, b in pairs)
        differences[name] = apart / size if size else apart
        if not differences[name] <= case.tolerance:  # NaN too
            raise AssertionError(
                f"{case.name}: {name} is {differences[name]:.1e} of the largest entry away from ours, and "
                f"{case.tolerance:.1e} is allowed: they do not compute the same, so their times mean nothing."
            )
    return differences


def peak_bytes(run: Callable[[], Any]) -> int | None:
    """The most memory that one call adds: of the GPU where there is one, else of the process; None if unknown."""
    device = jax.devices()[0]
    gc.collect()
    if device.platform != "cpu":
        jax.block_until_ready(run())
        return int((device.memory_stats() or {}).get("peak_bytes_in_use", 0)) or None
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier runs left to the allocator does not hide what this takes
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        before = _status("VmRSS")
        jax.block_until_ready(run())
        return max(0, _status("VmHWM") - before)
    except (OSError, AttributeError):
        return None


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "device": str(jax.devices()[0].device_kind),
        "platform": jax.default_backend(),
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": versions,
    }


def verdicts(case: Case, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Our time divided by that of each program with a target and the fastest of each role."""
    pairs = [(row, case.targets[row.program]) for row in rows[1:] if row.program in case.targets]
    for role in dict.fromkeys(row.role for row in rows[1:]):
        best = min((row for row in rows if row.role == role), key=lambda row: row.median)
        pairs += [(best, case.targets.get(role))] if best.program not in case.targets else []
    found = []
    for best, target in pairs:
        quotient = rows[0].median / best.median
        found.append(
            {
                "case": case.name,
                "against": best.program,
                "role": best.role,
                "quotient": quotient,
                "target": target,
                "met": None if target is None else quotient <= target,
            }
        )
    return found


HEAD = f"{'':58s}{'first call':>11s}{'median':>12s}{'spread':>20s}{'memory':>11s}{'against ours':>14s}"


def show(rows: Sequence[Row], found: Sequence[dict[str, Any]]) -> None:
    """Print the table of one case."""
    print(f"{rows[0].area}: {rows[0].case}")
    for row in rows:
        memory = "" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.0f} MB"
        spread = f"{1e3 * row.low:.1f} to {1e3 * row.high:.1f}"
        print(
            f"  {row.program[:55]:56s}{row.first:9.2f} s{1e3 * row.median:9.1f} ms{spread:>17s} ms{memory:>11s}"
            f"{row.median / rows[0].median:12.2f} x"
        )
    for verdict in found:
        if verdict["target"] is not None:
            word = "met" if verdict["met"] else "MISSED"
            print(
                f"    ours / {verdict['against']}: {verdict['quotient']:.2f}, asked for {verdict['target']:.2f}: {word}"
            )
    print(flush=True)


def run(
    areas: dict[str, Sequence[Case]],
    rounds: int,
    kept: Callable[[dict[str, Any]], None] = lambda results: None,
    limit: float = float("inf"),
) -> dict[str, Any]:
    """Run all cases; what `results.json` holds.

    Args:
        areas: The cases of each area, the most important first.
        rounds: Timed runs of every program.
        kept: Called with the results so far after every case.
        limit: Seconds after which no further case is begun.
    """
    print(HEAD)
    start = time.monotonic()
    results: dict[str, Any] = {"machine": machine(), "rounds": rounds, "rows": [], "verdicts": [], "failures": []}
    results["left_out"] = []
    for area, case in [(area, case) for area, cases in areas.items() for case in cases]:
        if time.monotonic() - start > limit:
            results["left_out"].append(f"{area}: {case.name}")
            continue
        try:
            measured = measure(area, case, rounds)
        except Exception as error:  # a proof that fails, or a program that does not run, costs its own case only
            results["failures"].append({"area": area, "case": case.name, "error": f"{type(error).__name__}: {error}"})
            print(f"{area}: {case.name}\n  FAILED: {type(error).__name__}: {error}\n", flush=True)
        else:
            judged = verdicts(case, measured)
            show(measured, judged)
            results["rows"] += [dataclasses.asdict(row) for row in measured]
            results["verdicts"] += [{"area": area, **verdict} for verdict in judged]
        kept(results)
    return results


def write(results: dict[str, Any], folder: Path) -> None:
    """Write `results.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")


def save(results: dict[str, Any], folder: Path) -> None:
    """Write `results.json` and `results.png`."""
    from jaxplain import plot

    write(results, folder)
    times: dict[str, dict[str, tuple[float, float, float]]] = {}
    for row in results["rows"]:
        times.setdefault(f"{row['area']}: {row['case']}", {})[row["program"]] = (row["median"], row["low"], row["high"])
    where = results["machine"]
    title = f"{where['processor']}, {where['cores']} cores, jax {where['versions']['jax']}"
    plot.timings(times, title=title).savefig(folder / "results.png", dpi=150)


def script(area: str, cases: Callable[[bool], list[Case]], description: str) -> None:
    """The command line of one area: `python bench/AREA.py [--quick]`."""
    import argparse

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller work")
    quick = parser.parse_args().quick
    raise SystemExit(bool(run({area: cases(quick)}, 3 if quick else 15)["failures"]))
