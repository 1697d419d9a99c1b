"""What must not matter to what is said of concepts: batches, devices, a second call."""

import inspect
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from jaxplain import concept
from shared.compiling import FLAGS
from shared.concept_calls import CALLS, ELSEWHERE, equal, setting, takes

FAMILY = ("jaxplain.concept.vector.", "jaxplain.concept.cluster.")
QUICK = ("concept_vectors", "tcav", "concept_regions", "spray", "prototypes")


def test_every_public_function_is_in_this_sweep():
    functions = [getattr(concept, name) for name in concept.__all__ if inspect.isfunction(getattr(concept, name))]
    public = {each.__name__ for each in functions if each.__module__.startswith(FAMILY)}
    assert {name.split()[0] for name in CALLS} | ELSEWHERE == public


def sweep(names):
    """Of each function whether batches matter; how many results were compared."""
    s, compared = setting(), 0
    for name in names:
        right = CALLS[name](s)
        equal(CALLS[name](s), right, f"{name} again", bits=True)
        compared += 1
        if takes(name, "batch_size"):
            equal(CALLS[name](s, batch_size=5), right, f"{name}, in batches")
            compared += 1
    return compared


@pytest.mark.filterwarnings("ignore:tcav_t_test")
@pytest.mark.slow
def test_batches_do_not_matter_in_a_sample():
    assert sweep(QUICK) == 9


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:tcav_t_test")
def test_batches_do_not_matter():
    assert sweep([name for name in CALLS if name not in QUICK]) >= 20


DEVICES = """
    import sys, warnings
    import jax
    from jax.sharding import AxisType, NamedSharding, PartitionSpec
    from shared.concept_calls import CALLS, equal, setting

    warnings.filterwarnings("ignore", message="tcav_t_test")
    assert jax.device_count() == 4
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    one, shared = setting(), setting(place=lambda a: jax.device_put(a, rows))
    assert len(shared.rows.sharding.device_set) == 4
    for name in sys.argv[1:]:
        equal(CALLS[name](shared), CALLS[name](one), name)
        print(name, flush=True)
    other = setting(place=lambda a: jax.device_put(a, jax.devices()[2]))
    equal(CALLS["concept_vectors"](other), CALLS["concept_vectors"](one), "another device", bits=True)
"""


@pytest.mark.slow
def test_devices_do_not_matter():
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    flags = f"--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0 {FLAGS}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DEVICES), *CALLS],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.split("\n")[:-1] == list(CALLS)
