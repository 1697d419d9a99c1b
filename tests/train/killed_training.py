"""A training run that is killed again and again: `python tests/train/killed_training.py FOLDER KILLS SEED`.

JAX is imported once and each run is a fork made before any device is used.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from jaxplain import train
from jaxplain.train import aside, checkpoint  # noqa: F401

EPOCHS = 80
SNAPSHOTS = (0, 3, 4, 100, 217, 320)


def fit(folder: str) -> None:
    import jax
    import optax

    generator = np.random.default_rng(0)
    x = generator.normal(size=(24, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    params = {"key": np.full((3, 2), 0.1, np.float32), "value": np.zeros(2, np.float32)}
    found = train.fit(
        lambda params, x: x @ params["key"] + params["value"][None],
        params,
        (x, y),
        key=jax.random.key(1),
        optimizer=optax.adam(0.05),
        batch_size=7,
        epochs=EPOCHS,
        validation=(x, y),
        checkpoint=folder,
        resume=True,
        progress=False,
        snapshots=SNAPSHOTS,
    )
    assert found.snapshots is not None
    leaves = jax.tree.leaves(
        (found.params, found.state.params, found.state.opt_state, found.history, tuple(found.snapshots))
    )
    np.savez(f"{folder}.npz", *map(np.asarray, leaves))


def start(folder: str) -> int:
    process = os.fork()
    if process == 0:
        try:
            fit(folder)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return process


def epochs(folder: str) -> int:
    found = [path.name for path in Path(folder).glob("epoch_*")]
    return max((int(name.removeprefix("epoch_")) for name in found), default=0)


def kill_once(folder: str, dice: random.Random) -> bool:
    """Kill a run at a chance moment, after it has begun an epoch or (one time in five) at any moment before."""
    process, begin, before = start(folder), time.monotonic(), epochs(folder)
    early = dice.random() < 0.2
    limit = dice.uniform(0.0, 3.0) if early else 60.0
    while time.monotonic() - begin < limit and (early or epochs(folder) <= before):
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        time.sleep(0.0005)
    time.sleep(dice.uniform(0.0, 0.03))
    os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1] == signal.SIGKILL


def main() -> None:
    folder, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    dice = random.Random(seed)
    killed = sum(kill_once(f"{folder}/killed", dice) for _ in range(kills))
    print(f"killed {killed} times, after {epochs(f'{folder}/killed')} epochs", flush=True)
    for name in ("killed", "whole"):
        assert os.waitpid(start(f"{folder}/{name}"), 0)[1] == 0, name


if __name__ == "__main__":
    main()
