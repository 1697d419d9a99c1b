"""Retraining over devices and from a folder: the driver takes it as it takes an explanation."""

import os
import subprocess
import sys
import textwrap

import pytest

from shared.compiling import FLAGS

CODE = """
    import sys, warnings
    import jax, jax.numpy as jnp, numpy as np, optax
    from jaxplain import explain_dataset, influence, train

    jax.config.update("jax_numpy_rank_promotion", "raise")
    assert jax.device_count() == 8

    def network(params, x):
        return jnp.tanh(x @ params["a"]) @ params["b"]

    x = jax.random.normal(jax.random.key(1), (12, 2))
    a, b = (jax.random.normal(jax.random.key(k), s) for k, s in ((2, (2, 3)), (3, (3, 2))))
    run = train.training_run(
        network, {"a": a, "b": b}, (x, (x[:, 0] > 0).astype(int)), key=jax.random.key(0), epochs=2, batch_size=4,
        optimizer=optax.sgd(0.5),
    )
    queries = influence.query_scores(network, (x[:2] + 0.3, jnp.array([0, 1])))
    masks = np.asarray(influence.random_masks(jax.random.key(4), 19, 12))
    whole = np.asarray(influence.retrain(run, masks, queries))
    e = influence.retraining(run, queries)

    def scores(**settings):
        found = explain_dataset(e, masks, progress=False, **settings)
        return np.asarray(found.explanations["attribution"])

    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    shared = scores(out=sys.argv[1], batch_size=8, mesh=mesh)
    np.testing.assert_allclose(shared, whole, rtol=1e-5, atol=1e-6)
    again = scores(out=sys.argv[1], batch_size=8, mesh=mesh)  # nothing is trained again: what is there is read
    assert (again == shared).all()
    print("equal")
"""


@pytest.mark.slow
def test_retraining_is_shared_over_devices_and_written_by_the_driver(tmp_path):
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count=8 {FLAGS}",
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CODE), str(tmp_path / "scores")],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["equal"]
