"""What moves between eight simulated devices while a dataset is explained: a program of its own."""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import re

import jax
import numpy as np
from jax.sharding import AxisType

from jaxplain import aggregate, explain_dataset
from jaxplain.dataset import driver, fold
from shared import dataset_cases as cases

PARAMS, X, Y = cases.arrays()
MOVES = re.compile(r"\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\b(?=\()")


def moves(compiled):
    """The operations of a compiled program that move values between devices, counted."""
    found = MOVES.findall(compiled.as_text())
    return {name: found.count(name) for name in set(found)}


def main() -> None:
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    for make in (cases.deterministic, cases.random):
        record = driver.as_record(make(PARAMS), target=None, reduce=None, prepare=None, dtype=None, whole=True)
        _, sample = driver.first_rows(driver.as_source((X, Y)))
        devices = driver.Devices(mesh)
        plan = driver.Plan(devices.place(record), jax.random.key(0), devices, sample)
        assert moves(plan.compiled(16)) == {}, make.__name__
    seen = []
    update = fold._update_in_place

    def noted(*given):
        seen.append(moves(update.lower(*given).compile()))
        return update(*given)

    fold._update_in_place = noted
    settings = {"mesh": mesh, "batch_size": 16, "aggregate": aggregate.moments(10), "progress": False}
    with jax.transfer_guard_device_to_device("disallow"):
        found = explain_dataset(cases.deterministic(PARAMS), (X, Y), **settings)
    assert set(seen[0]) == {"all-reduce"}, seen[0]  # sums of the batch's parts
    assert seen[0]["all-reduce"] <= len(jax.tree.leaves(found.aggregate)) + 1
    alone = explain_dataset(cases.deterministic(PARAMS), (X, Y), **{**settings, "mesh": None})
    np.testing.assert_allclose(found.aggregate.mean, alone.aggregate.mean, rtol=1e-4, atol=1e-5)
    print("done", flush=True)


if __name__ == "__main__":
    main()
