"""A process of two, slow at reading, that may be killed: `python one_of_two_processes.py PROCESS PORT FOLDER`."""

from __future__ import annotations

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.pop("XLA_FLAGS", None)

import sys
import time

import jax
import numpy as np

from jaxplain import explain_dataset, gradient
from jaxplain.aggregate import moments

HEARTBEAT = 10
"""Seconds without a sign of life after which a process is given up; JAX's own value is 100."""


class Slow:
    """Examples of which each takes a moment."""

    def __len__(self):
        return 160

    def __getitem__(self, i):
        time.sleep(0.02)
        return np.full(3, i, np.float32)


def main() -> None:
    process, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    jax.distributed.initialize(
        f"127.0.0.1:{port}", num_processes=2, process_id=process, heartbeat_timeout_seconds=HEARTBEAT
    )
    e = gradient(lambda x: (x**2).sum())
    explain_dataset(e, Slow(), batch_size=4, out=folder, aggregate=moments(), progress=False)
    print("done", flush=True)


if __name__ == "__main__":
    main()
