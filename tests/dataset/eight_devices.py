"""The driver on eight simulated devices, in a process of its own: `python tests/dataset/eight_devices.py FOLDER`."""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import sys

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxplain import explain_dataset
from shared import dataset_cases as cases

PARAMS, X, Y = cases.arrays()
KEY = jax.random.key(3)


def explain(e, batch_size, mesh=None, out="memory"):
    return explain_dataset(
        e, (X, Y), key=KEY, batch_size=batch_size, mesh=mesh, out=out, aggregate=cases.aggregate(), progress=False
    )


def compare(found, expected, exact, tolerance=1e-5):
    for name in ("attribution", "score", "prediction", "target"):
        a, b = np.asarray(found.explanations[name]), np.asarray(expected.explanations[name])
        np.testing.assert_allclose(a, b, rtol=0, atol=0 if exact else tolerance, err_msg=name)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found.aggregate, expected.aggregate
    )


def spread(mesh):
    """Parameters divided over the mesh's axis 'model'."""
    first = NamedSharding(mesh, PartitionSpec(None, "model"))
    second = NamedSharding(mesh, PartitionSpec("model", None))
    return {"first": jax.device_put(PARAMS["first"], first), "second": jax.device_put(PARAMS["second"], second)}


def main() -> None:
    jax.config.update("jax_numpy_rank_promotion", "raise")
    assert jax.device_count() == 8
    for make in (cases.deterministic, cases.random, cases.adaptive):
        # Two examples on each device, as on the one.
        expected = explain(make(PARAMS), 2)
        flat = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
        compare(explain(make(PARAMS), 15, flat), expected, exact=make is not cases.adaptive, tolerance=1e-3)
        mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit, AxisType.Explicit))
        with jax.set_mesh(mesh):
            compare(explain(make(spread(mesh)), 8, mesh), expected, exact=False, tolerance=1e-3)
        print("equal:", make.__name__, flush=True)
    automatic = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto))
    e = cases.deterministic(spread(automatic))
    compare(explain(e, 8, automatic, out=sys.argv[1]), explain(cases.deterministic(PARAMS), 2), exact=False)
    compare(explain(cases.deterministic(PARAMS), 2, out=sys.argv[1]), explain(e, "auto", automatic), exact=False)
    for axes in (("a", "b"), ("rows", "model")):
        with pytest.raises(ValueError, match="name the one over which batches are divided 'data'"):
            explain(e, 8, jax.make_mesh((4, 2), axes))
    print("done", flush=True)


if __name__ == "__main__":
    main()
