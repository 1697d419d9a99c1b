"""A run that is killed again and again, in a process of its own: `python tests/dataset/killed.py FOLDER KILLS SEED`.

JAX is imported once and each run is a fork made before any device is used, so that a kill costs no import.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from jaxplain import explain_dataset, open_explanations  # noqa: F401
from jaxplain.dataset import driver  # noqa: F401
from shared import dataset_cases as cases

COUNT, BATCH = 240, 4


def explain(folder: str) -> None:
    import jax

    params, x, y = cases.arrays(COUNT)
    e = cases.random(params)
    found = explain_dataset(
        e, (x, y), key=jax.random.key(3), batch_size=BATCH, out=folder, aggregate=cases.aggregate(), progress=False
    )
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(found.aggregate)]
    np.savez(f"{folder}-aggregate.npz", *leaves)


def start(folder: str) -> int:
    process = os.fork()
    if process == 0:
        try:
            explain(folder)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return process


def lines(folder: str) -> int:
    return sum(path.read_bytes().count(b"\n") for path in Path(folder, "jaxplain-run").glob("finished-*.log"))


def kill_once(folder: str, dice: random.Random) -> None:
    """Kill a run some chunks after it began to write, or (one time in five) at any moment before."""
    process, begin, before = start(folder), time.monotonic(), lines(folder)
    early, chunks = dice.random() < 0.2, dice.randrange(1, 4)
    limit = dice.uniform(0.0, 3.0) if early else 60.0
    while time.monotonic() - begin < limit and (early or lines(folder) < before + chunks):
        if os.waitpid(process, os.WNOHANG)[0]:
            return  # it came to its end before
        time.sleep(0.0005)
    time.sleep(dice.uniform(0.0, 0.01))
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    print(f"killed after {time.monotonic() - begin:.2f} s with {lines(folder) - before} more chunks", flush=True)


def main() -> None:
    folder, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    dice = random.Random(seed)
    for _ in range(kills):
        kill_once(f"{folder}/killed", dice)
    done = lines(f"{folder}/killed")
    for name in ("killed", "whole"):
        code = os.waitpid(start(f"{folder}/{name}"), 0)[1]
        assert code == 0, (name, code)
    again = lines(f"{folder}/killed") - COUNT // BATCH
    print(f"{done} chunks were finished before the last run, {again} were explained twice", flush=True)


if __name__ == "__main__":
    main()
