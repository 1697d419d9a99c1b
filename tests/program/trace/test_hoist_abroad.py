"""Explanations around functions of each call: copied, from threads, with constants on a device, with scalars."""

import copy
import gc
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import explain_batch, explain_dataset, gradient
from shared.tables import halves

X = jnp.ones((2, 3))
ROOT = Path(__file__).parents[3]


class Scaled:
    def __init__(self, weight):
        self.weight = np.full(3, weight, np.float32)

    def __call__(self, x):
        return (x * self.weight).sum()


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda e: pickle.loads(pickle.dumps(e)), "copy": copy.copy}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_another_object(how):
    e = gradient(Scaled(2.0))
    explain_batch(e, X)
    assert "_named" in e.__dict__
    made = COPIES[how](e)
    assert not [name for name in made.__dict__ if name.startswith("_")]
    if how != "copy":
        made.score.value.weight = np.full(3, 5.0, np.float32)
        np.testing.assert_array_equal(explain_batch(made, X), jnp.full((2, 3), 5.0))


def test_an_id_that_is_used_again_is_another_functions():
    e = gradient(Scaled(2.0))
    explain_batch(e, X)
    kept = pickle.dumps(e)
    del e
    gc.collect()
    others = [gradient(Scaled(9.0)) for _ in range(50)]
    for other in others:
        explain_batch(other, X)
    np.testing.assert_array_equal(explain_batch(pickle.loads(kept), X), jnp.full((2, 3), 2.0))


@pytest.mark.parametrize(
    "scalars", [(np.float32(0.7), 0.7), (0.7, np.float32(0.7)), (np.int32(3), 3), (3, np.int32(3))]
)
@pytest.mark.sampled(2)
def test_a_python_number_gives_way_and_a_numpy_scalar_does_not(scalars):
    x = np.full((2, 3), 1.1, np.float16)

    def apply(p, x):
        return jnp.tanh(x * p["s"])

    for s in scalars:
        f = jaxplain.logit(apply, {"s": s})
        result = explain_dataset(gradient(f), (x, np.zeros(2, int)), out="memory", progress=False).explanations
        expected = jax.jit(jax.vmap(f))(x, jnp.zeros(2, int))
        np.testing.assert_array_equal(np.asarray(result["score"], np.float32), np.asarray(expected, np.float32))


@pytest.mark.slow
def test_threads_explain_one_function_in_new_shapes():
    weight, errors = jnp.arange(200.0), []
    e = gradient(lambda x: (x * weight[: x.shape[0]]).sum())
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def explain(count):
        for n in range(1, 6):
            try:
                found = explain_batch(e, jnp.ones((count, n)))
                np.testing.assert_array_equal(found, jnp.broadcast_to(weight[None, :n], (count, n)))
            except BaseException as error:
                errors.append(repr(error))

    threads = [threading.Thread(target=explain, args=(1 + k,)) for k in range(8)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not errors


DEVICES = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax, jax.numpy as jnp, numpy as np
from jaxplain import explain_batch, explain_dataset, gradient
W = jax.device_put(jnp.ones((3, 100)), jax.devices()[0])
f = lambda x: jnp.tanh(x @ W).sum()
X = jnp.ones((4, 3))
mesh = jax.make_mesh((4,), ("data",))
spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
expected = jax.vmap(jax.grad(f))(X)
e = gradient(f)
for where in (jax.devices()[3], spread, jax.devices()[0], jax.devices()[2]):
    np.testing.assert_allclose(explain_batch(e, jax.device_put(X, where)), expected, rtol=1e-6)
keys = jax.device_put(jax.random.split(jax.random.key(1), 64), jax.devices()[0])
g = lambda x: (x * jax.vmap(jax.random.normal)(keys).sum()).sum()
want = jax.vmap(jax.grad(g))(X)
np.testing.assert_allclose(explain_batch(gradient(g), jax.device_put(X, jax.devices()[3])), want, rtol=1e-6)
found = explain_dataset(e, np.asarray(X), mesh=mesh, out="memory", progress=False).explanations["attribution"]
np.testing.assert_allclose(found, expected, rtol=1e-6)
print("done")
"""


@pytest.mark.slow
def test_constants_that_are_committed_go_where_the_inputs_are():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    run = subprocess.run([sys.executable, "-c", DEVICES], env=environment, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "done", run.stderr[-2000:]


@pytest.mark.parametrize("activation", halves([jax.nn.relu, jnp.tanh, lambda v: v**2]))
def test_equinox_modules_with_functions_among_their_leaves(activation):
    mlp = equinox.nn.MLP(3, "scalar", 4, 1, activation=activation, key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, 3))
    expected = jax.vmap(jax.grad(lambda x: mlp(x)))(x)
    np.testing.assert_allclose(explain_batch(gradient(mlp), x), expected, rtol=1e-5)
    np.testing.assert_allclose(explain_batch(jaxplain.saliency(mlp), x), abs(expected), rtol=1e-5)
    found = explain_batch(jaxplain.lrp(mlp, jaxplain.relevance.epsilon()), x)
    assert np.isfinite(found).all()
