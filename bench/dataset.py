"""The dataset driver against the bare compiled call, and its cost and memory against the number of examples.

First the driver's attributions are proved equal to those of `explain_batch` over the same batches. Then, interleaved:

* throughput of the driver (to a folder with everything known of each example, to arrays, aggregates only) against a
  loop over the bare compiled call, which neither writes nor copies anything to the host. Expected: at least 0.95 (so at
  most 1.05 of the loop's time).
* seconds and peak memory of the driver for 1,000 to 100,000 synthetic examples that are made as they are read, each
  number in a process of its own. Expected: seconds grow in proportion, memory stays flat.

    python bench/dataset.py [--quick] [--linear]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, too

import jax
import jax.numpy as jnp
import numpy as np

import jaxplain
from bench.harness import BOUND, OURS, Case, Program, run, timed
from jaxplain.aggregate import moments
from jaxplain.models import cnn

BATCH = 64


def explanation(steps: int) -> Any:
    """Integrated gradients of a small convolutional network at 28x28."""
    module = cnn(10, widths=(8, 16), dense=32)
    params = module.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    return jaxplain.integrated_gradients(jaxplain.logit(partial(module.apply, train=False), params), steps=steps)


def examples(count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.random((count, 28, 28, 1), np.float32), generator.integers(0, 10, count).astype(np.int32)


def bare(e: Any, x: np.ndarray, y: np.ndarray) -> list[Any]:
    """A loop over the compiled call; nothing is copied back."""
    starts = range(0, len(x) - BATCH + 1, BATCH)
    return [jaxplain.explain_batch(e, x[i : i + BATCH], y[i : i + BATCH], values=False) for i in starts]


def throughput(count: int, steps: int, most: int) -> Case:
    """The driver to everything that it writes to, against the loop."""
    count -= count % BATCH
    e, data, folder = explanation(steps), examples(count), tempfile.TemporaryDirectory()
    drive = partial(jaxplain.explain_dataset, e, data, batch_size=BATCH, progress=False)
    number = iter(range(10_000))

    def to_folder(**settings: Any) -> Any:
        return drive(out=f"{folder.name}/{next(number)}", **settings)

    def attribution(result: Any) -> Any:
        return np.asarray(result.explanations["attribution"])

    programs = [
        Program("driver to a folder", to_folder, OURS, attribution, most=most),
        Program(
            "driver to a folder, with aggregates", lambda: to_folder(aggregate=moments(10)), result=None, most=most
        ),
        Program("driver to arrays", lambda: drive(out="memory"), result=attribution, most=most),
        Program("driver, aggregates only", lambda: drive(aggregate=moments(10)), result=None, most=most),
        Program("bare compiled call, in a loop", lambda: bare(e, *data), BOUND, np.concatenate, most=most),
    ]
    return Case(f"{count} images, {steps} steps", programs, 1e-4, count, targets={BOUND: 1 / 0.95})


def cases(quick: bool) -> list[Case]:
    return [throughput(1000 if quick else 10_000, 32, 3)]


class Synthetic:
    """Examples made as they are read, so that none are held."""

    def __init__(self, count: int) -> None:
        self._count, self._row = count, np.random.default_rng(0).random((1000, 64), np.float32)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.int32]:
        return self._row[i % 1000], np.int32(i % 10)


def dense(params: Any, x: Any) -> Any:
    return jnp.tanh(x @ params["first"]) @ params["second"]


def one_size(count: int) -> dict[str, float]:
    """Seconds, and growth of the peak memory (MiB) after a first small run, for `count` examples."""
    generator = np.random.default_rng(1)
    shapes = {"first": (64, 256), "second": (256, 10)}
    params = {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    e = jaxplain.integrated_gradients(jaxplain.logit(dense, params), steps=16)
    with tempfile.TemporaryDirectory() as folder:
        drive = partial(jaxplain.explain_dataset, e, batch_size=256, aggregate=moments(10), progress=False)
        drive(Synthetic(2048), out=f"{folder}/first")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds, _ = timed(lambda: drive(Synthetic(count), out=f"{folder}/all"))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "grown": (after - before) / 1024, "peak": after / 1024}


def linear(counts: list[int]) -> None:
    print(f"\n{'examples':>10s}{'seconds':>10s}{'a thousand':>13s}{'peak memory':>14s}{'grown by':>12s}")
    for count in counts:
        command = [sys.executable, str(Path(__file__)), "--one", str(count)]
        result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        each = 1000 * result["seconds"] / count
        print(
            f"{count:10d}{result['seconds']:8.2f} s{each:11.4f} s{result['peak']:10.0f} MiB{result['grown']:8.1f} MiB",
            flush=True,
        )


def sizes(quick: bool) -> Iterator[int]:
    yield from (1000, 10_000) if quick else (1000, 10_000, 30_000, 100_000)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the dataset driver.")
    parser.add_argument("--quick", action="store_true", help="1,000 images and 3 rounds instead of 10,000 and 5")
    parser.add_argument("--linear", action="store_true", help="only cost and memory against the number of examples")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(one_size(options.one)))
        return
    if not options.linear:
        run({"dataset": cases(options.quick)}, 3 if options.quick else 5)
    linear(list(sizes(options.quick)))


if __name__ == "__main__":
    main()
