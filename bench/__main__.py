"""Run the benchmark: one table, `results.json` and a figure.

    python -m bench [--quick] [--device cpu|gpu] [--only NAME ...] [--limit SECONDS] [--output FOLDER]

A case whose proof fails, or that does not run, is told and the others go on; the exit code is 1 then. What was measured
is written after every case.

Peers (torch, captum, zennit, quantus, shap, keras: the extra `[bench]`) are timed where they are installed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
from pathlib import Path
from types import ModuleType


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Time jaxplain, plain JAX, peers and bounds.")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and smaller work: a check, not a measurement"
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where JAX (and torch) compute")
    parser.add_argument("--only", nargs="+", default=[], help="areas, or AREA/PART for cases with PART in their name")
    parser.add_argument("--rounds", type=int, help="timed runs of every program")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="where results are written")
    parser.add_argument("--limit", type=float, help="seconds after which no case is begun (a GPU: 420)")
    options = parser.parse_args()
    # Callbacks of the host compute on its processor, which therefore has to be there beside the GPU.
    os.environ["JAX_PLATFORMS"] = "cuda,cpu" if options.device == "gpu" else "cpu"
    _need_device(options.device)
    from bench import harness

    modules, wanted = _modules(), [text.partition("/")[::2] for text in options.only]
    if unknown := {area for area, _ in wanted} - set(modules):
        parser.error(f"there is no {', '.join(sorted(unknown))}; areas are {', '.join(modules)}")
    areas = {}
    for name, module in modules.items():
        make = getattr(module, "cases" if options.device == "cpu" else "gpu_cases", None)
        parts = [part for area, part in wanted if area == name] if wanted else [""]
        if make is not None and parts:
            areas[name] = [case for case in make(options.quick) if any(part in case.name for part in parts)]
    limit = options.limit or (420 if options.device == "gpu" else float("inf"))
    results = harness.run(
        areas,
        options.rounds or (3 if options.quick else 15),
        lambda results: harness.write({**results, "quick": options.quick}, options.output),
        limit,
    )
    harness.save({**results, "quick": options.quick}, options.output)
    missed = [verdict for verdict in results["verdicts"] if verdict["met"] is False]
    print(
        f"{len(results['rows'])} rows in {options.output / 'results.json'}; {len(missed)} targets missed, "
        f"{len(results['failures'])} cases failed, {len(results['left_out'])} not begun"
    )
    raise SystemExit(bool(results["failures"]))


def _modules() -> dict[str, ModuleType]:
    """The areas: all other files of this folder."""
    import bench

    names = sorted(info.name for info in pkgutil.iter_modules(bench.__path__))
    modules = {n: importlib.import_module(f"bench.{n}") for n in names if n not in ("__main__", "harness")}
    return {
        name: module for name, module in modules.items() if hasattr(module, "cases") or hasattr(module, "gpu_cases")
    }


def _need_device(device: str) -> None:
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the second where no plug-in for CUDA is installed
        text = f"python -m bench: JAX finds no {device} here. Install jax[cuda12] on a machine with one. {error}"
        raise SystemExit(text.strip()) from error


if __name__ == "__main__":
    main()
