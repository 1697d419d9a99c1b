"""Training speed: the Keras example (Dense 64 relu, Dense 10 softmax, SGD, 1000x100 data, 10 epochs of batches of 32).

Three programs train the same network on the same data in one process: `jaxplain.fit`, Keras 3 on its JAX backend (as
it comes, and with a whole epoch as one execution, its best setting), and a plain Python loop over a jitted optax step.
First they are proved to do equal work: from the same parameters, through the same batches in the same order, all end
at the same parameters to float precision.

    python bench/train.py [--quick]
"""

from __future__ import annotations

import functools
import os
import pathlib
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # as a script, too
os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.harness import OURS, PEER, PLAIN, Case, Program, installed, script
from jaxplain.data.batching import batch_indices
from jaxplain.models import mlp
from jaxplain.readout.criterion import cross_entropy
from jaxplain.train.fit import fit

EPOCHS, BATCH_SIZE, RATE = 10, 32, 0.01
KEY = jax.random.key(0)
OPTIMIZER = optax.sgd(RATE)


def make_data() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.random((1000, 100), dtype=np.float32)
    return x, np.eye(10, dtype=np.float32)[generator.integers(0, 10, 1000)]


def keras_model(steps_per_execution: int) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((100,)), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10, activation="softmax")]
    )
    model.compile(
        optimizer=keras.optimizers.SGD(RATE),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
    )
    return model


def flax_params(model: Any) -> Any:
    """The weights of the Keras model as variables of `mlp`."""
    first, first_bias, last, last_bias = map(jnp.asarray, model.get_weights())
    return {"params": {"dense_0": {"kernel": first, "bias": first_bias}, "head": {"kernel": last, "bias": last_bias}}}


def orders(count: int) -> list[np.ndarray]:
    """The order in which `fit` visits the examples, epoch by epoch."""
    rows = [batch_indices(jax.random.fold_in(KEY, epoch), count, BATCH_SIZE) for epoch in range(EPOCHS)]
    return [np.asarray(indices)[np.asarray(mask)] for indices, mask in rows]


@jax.jit
def plain_step(params: Any, state: Any, x: Any, y: Any) -> tuple[Any, Any, Any, Any]:
    def objective(params: Any) -> tuple[Any, Any]:
        outputs = MODULE.apply(params, x)
        hits = jnp.mean(jnp.argmax(outputs, -1) == jnp.argmax(y, -1))
        return jnp.mean(jax.vmap(cross_entropy)(outputs, y)), hits

    (loss, hits), gradient = jax.value_and_grad(objective, has_aux=True)(params)
    updates, state = OPTIMIZER.update(gradient, state)
    return optax.apply_updates(params, updates), state, loss, hits


MODULE = mlp(10, widths=(64,))


def plain_loop(params: Any, x: np.ndarray, y: np.ndarray) -> Any:
    state = OPTIMIZER.init(params)
    for order in orders(len(x)):
        for start in range(0, len(x), BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            params, state, _, _ = plain_step(params, state, x[rows], y[rows])
    return params


def prove_equal_work(x: np.ndarray, y: np.ndarray) -> str:
    """Same start, same batches, same end as Keras; raises if not."""
    model = keras_model(1)
    params = flax_params(model)
    ours = fit(MODULE.apply, params, (x, y), key=KEY, optimizer=OPTIMIZER, epochs=EPOCHS, batch_size=BATCH_SIZE)
    plain = plain_loop(params, x, y)
    curve = []
    for order in orders(len(x)):
        record = model.fit(x[order], y[order], epochs=1, batch_size=BATCH_SIZE, shuffle=False, verbose=0)
        curve.append((record.history["loss"][0], record.history["accuracy"][0]))
    differences = {}
    for name, other in (("Keras", flax_params(model)), ("plain loop", plain)):
        pairs = zip(jax.tree.leaves(ours.params), jax.tree.leaves(other), strict=True)
        differences[name] = max(float(jnp.max(jnp.abs(a - b))) for a, b in pairs)
    moved = max(
        float(jnp.max(jnp.abs(a - b)))
        for a, b in zip(jax.tree.leaves(ours.params), jax.tree.leaves(params), strict=True)
    )
    np.testing.assert_allclose(np.stack(ours.history[:2], axis=1), np.array(curve), atol=1e-5)
    assert max(differences.values()) < 1e-5 < moved
    return (
        f"equal work: loss and accuracy of every epoch agree with Keras to 1e-5; parameters moved by up to {moved:.3f} "
        f"and end apart by at most {differences['Keras']:.1e} (Keras), {differences['plain loop']:.1e} (plain loop)"
    )


def start_params() -> Any:
    keys, sizes = jax.random.split(jax.random.key(1)), ((100, 64), (64, 10))
    first, last = (jax.random.normal(k, size) / size[0] ** 0.5 for k, size in zip(keys, sizes, strict=True))
    layers = {"dense_0": {"kernel": first, "bias": jnp.zeros(64)}, "head": {"kernel": last, "bias": jnp.zeros(10)}}
    return {"params": layers}


def cases(quick: bool) -> list[Case]:
    del quick  # milliseconds
    x, y = make_data()
    params = start_params()
    settings = {"epochs": EPOCHS, "batch_size": BATCH_SIZE}
    programs = [
        Program(
            "fit", lambda: fit(MODULE.apply, params, (x, y), key=KEY, optimizer=OPTIMIZER, **settings).params, OURS
        ),
        Program("Python loop of compiled steps", lambda: plain_loop(params, x, y), PLAIN),
    ]
    if installed("keras"):
        one, whole = keras_model(1), keras_model(-(-len(x) // BATCH_SIZE))
        for name, model in (("as it comes", one), ("an epoch an execution", whole)):
            run = functools.partial(model.fit, x, y, verbose=0, **settings)
            programs.append(Program(f"Keras 3 on JAX, {name}", run, PEER, result=None))
    prove = functools.partial(prove_equal_work, x, y) if installed("keras") else None
    name = f"dense network: {EPOCHS} epochs of batches of {BATCH_SIZE}"
    return [Case(name, programs, 1e-4, len(x), prove, {PLAIN: 1.0, PEER: 1.0})]


if __name__ == "__main__":
    script("train", cases, __doc__ or "")
