"""Settings every test runs under.

Most of the suite's time is compiling. Tests check values, so they compile without optimizations; what checks speed,
memory or bits is marked `optimized` and compiles as users do. On a machine with a GPU, `JAX_PLATFORMS=cuda,cpu pytest`
runs what applies there: what is a fact of the CPU backend is marked `cpu`.
"""

import collections
import functools
import gc
import os
import pathlib
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # nor do programs that tests start touch the user's folder

import jax
import pytest
from jax._src import compiler

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)
if jax.default_backend() != "cpu":
    # Tolerances are those of float32 products; a GPU multiplies in TF32 unless it is told, a TPU in bfloat16.
    jax.config.update("jax_default_matmul_precision", "highest")

# Scripts for environments with torch, and programs that tests start: the latter change how many devices JAX sees.
collect_ignore_glob = ["peers/*", "dataset/eight_*.py", "dataset/*_processes.py", "*/killed*.py"]

QUICK = {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 11) else {}
"""The CPU compiler's former way to write fused loops takes two thirds of the time; jaxlib 0.11 has it no more."""


MEMORY = 3 * 2**30
"""Bytes of a process beyond which compiled programs are forgotten: thousands of tests keep theirs otherwise."""


MAPS = 30_000
"""Mappings of memory beyond which they are forgotten, too: a program holds a hundred, and Linux gives a process 65,530,
without which the compiler does not survive."""

gc.set_threshold(50_000, 20, 50)  # traced programs are millions of objects, and few of them cycles

EVERY = 8
"""Tests between two counts, which read a line for each mapping."""

_level = {"optimized": False, "memory": MEMORY, "maps": MAPS, "tests": 0}


def _compile_quickly(options):
    """JAX's options for the compiler, with `QUICK` where a test does not ask for optimizations."""

    @functools.wraps(options)
    def quick(*args, env_options_overrides=None, **settings):
        if not _level["optimized"]:
            env_options_overrides = {**QUICK, **(env_options_overrides or {})}
        return options(*args, env_options_overrides=env_options_overrides, **settings)

    return quick


compiler.get_compile_options = _compile_quickly(compiler.get_compile_options)


@pytest.fixture(autouse=True)
def _compiler_level(request):
    """Compile with optimizations where a test asks for it; programs of the other level are forgotten."""
    wanted = request.node.get_closest_marker("optimized") is not None
    if wanted != _level["optimized"]:
        jax.clear_caches()
        jax.config.update("jax_disable_most_optimizations", not wanted)
        _level["optimized"] = wanted
    yield
    _level["tests"] += 1
    if _resident() > _level["memory"] or (_level["tests"] % EVERY == 0 and _mappings() > _level["maps"]):
        jax.clear_caches()
        _level["memory"] = max(MEMORY, 3 * _resident() // 2)  # what stays is not the programs'
        _level["maps"] = max(MAPS, 3 * _mappings() // 2)


def _resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    pages = pathlib.Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") if pages.exists() else 0


def _mappings() -> int:
    """How many mappings of memory this process has; 0 where the system does not say."""
    maps = pathlib.Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.exists() else 0


def pytest_runtest_setup(item):
    """Begin no long test after `LONG_TESTS_UNTIL` (seconds of the epoch), and say that it did not run."""
    until = float(os.environ.get("LONG_TESTS_UNTIL", "inf"))
    if item.get_closest_marker("long") and time.time() > until:
        pytest.skip("NOT RUN: the time for long tests is over on this machine")


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items):
    """Leave cases of a sampled test to other runs, keep tests of one compiler level together, skip other platforms.

    `sampled(n)` runs every n-th case of a parametrized test in the quick suite, and half of the others in the slow and
    in the long one each (what is slow by itself stays that); of the examples in docstrings, which compile a program
    each, every third is quick.
    """
    counts = collections.Counter()
    examples = [item for item in items if isinstance(item, pytest.DoctestItem)]
    for place, item in enumerate(examples):
        if place % 3:
            item.add_marker(pytest.mark.slow)
    for item in items:
        sampled = item.get_closest_marker("sampled")
        if sampled is not None:
            test = item.nodeid.partition("[")[0]
            turn, rest = divmod(counts[test], sampled.args[0])
            if rest:
                long = (turn + rest) % 2 and not item.get_closest_marker("slow")
                item.add_marker(pytest.mark.long if long else pytest.mark.slow)
            counts[test] += 1
    items.sort(key=lambda item: item.get_closest_marker("optimized") is not None)
    if jax.default_backend() != "cpu":
        for item in items:
            if item.get_closest_marker("cpu"):
                item.add_marker(pytest.mark.skip(reason=f"a fact of the CPU backend; this is {jax.default_backend()}"))
