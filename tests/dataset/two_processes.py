"""The driver in two processes that meet over loopback: `python tests/dataset/two_processes.py PROCESS PORT FOLDER`."""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
os.environ["JAX_PLATFORMS"] = "cpu"

import sys

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxplain import explain_dataset
from shared import dataset_cases as cases

PROCESS, PORT, FOLDER = int(sys.argv[1]), sys.argv[2], sys.argv[3]
PARAMS, X, Y = cases.arrays()
BATCH = 12


def explain(e, name, data=(X, Y), **settings):
    return explain_dataset(
        e, data, key=jax.random.key(3), out=f"{FOLDER}/{name}", progress=False, **{"batch_size": BATCH, **settings}
    )


def stream():
    for start in range(0, len(X), 10):
        yield X[start : start + 10], Y[start : start + 10]


def spread(mesh):
    """Parameters of which each process holds a half."""

    def put(value, *axes):
        sharding = NamedSharding(mesh, PartitionSpec(*axes))
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    return {"first": put(PARAMS["first"], None, "model"), "second": put(PARAMS["second"], "model")}


def main() -> None:
    jax.distributed.initialize(f"127.0.0.1:{PORT}", num_processes=2, process_id=PROCESS)
    found = explain(cases.random(PARAMS), "random", aggregate=cases.aggregate())
    np.savez(f"{FOLDER}/aggregate-{PROCESS}.npz", *[np.asarray(leaf) for leaf in jax.tree.leaves(found.aggregate)])
    with pytest.raises(ValueError, match="model parameters"):
        explain(cases.random({**PARAMS, "first": PARAMS["first"] + 1}), "random")
    model_across = Mesh(np.array(jax.devices()).reshape(2, 2).T, ("data", "model"))
    explain(cases.deterministic(spread(model_across)), "model_across", stream(), mesh=model_across, batch_size="auto")
    explain(cases.adaptive(PARAMS), "adaptive")
    print("done", flush=True)


if __name__ == "__main__":
    main()
