"""A run killed at each STRIDE-th step of its end: `python tests/dataset/killed_at_the_end.py FOLDER STRIDE`.

JAX is imported once and each run is a fork made before any device is used.
"""

from __future__ import annotations

import os
import signal
import sys

import numpy as np

from jaxplain import explain_dataset, gradient
from jaxplain.aggregate import moments
from jaxplain.dataset import driver, folder, store
from shared import dataset_cases as cases

BATCH = 8


def explain(path: str, data) -> None:
    import jax

    found = explain_dataset(
        gradient(lambda x, label: (x**3).sum() * (label + 1)),
        data,
        batch_size=BATCH,
        out=path,
        aggregate=moments(cases.CLASSES),
        progress=False,
    )
    np.savez(f"{path}.npz", *[np.asarray(leaf) for leaf in jax.tree.leaves(found.aggregate)])


def stream():
    _, x, y = cases.arrays()
    for start in range(0, len(x), 10):
        yield x[start : start + 10], y[start : start + 10]


def killed_at(step: int) -> None:
    """Count the steps from the last chunk on, and die at one of them."""
    steps, ending = [0], [False]

    def counted(real):
        def call(*args, **settings):
            if ending[0]:
                steps[0] += 1
                if steps[0] == step:
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **settings)

        return call

    def ends(real):
        def call(*args, **settings):
            ending[0] = True
            return real(*args, **settings)

        return call

    driver.Writer.close = ends(driver.Writer.close)
    store.os.replace = counted(os.replace)
    store._resized = counted(store._resized)
    folder.write_group = counted(folder.write_group)


def forked(act) -> int:
    process = os.fork()
    if process == 0:
        try:
            act()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(process, 0)[1]


def main() -> None:
    root = sys.argv[1]
    assert forked(lambda: explain(f"{root}/whole", stream())) == 0
    step, stride = 1, int(sys.argv[2])
    while forked(lambda step=step: (killed_at(step), explain(f"{root}/{step}", stream()))) == signal.SIGKILL:
        assert forked(lambda step=step: explain(f"{root}/{step}", stream())) == 0, step
        print(step, flush=True)
        step += stride


if __name__ == "__main__":
    main()
