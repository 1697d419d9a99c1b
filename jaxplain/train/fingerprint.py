"""What a run of `fit` is made of, so that another one is noticed before it is continued."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxplain.program import Static, leaves_by_parts
from jaxplain.program.trace import array_parts, digest, program_digest
from jaxplain.train.epoch import Batch, Program
from jaxplain.train.feed import host_batches
from jaxplain.train.layer import unrecorded
from jaxplain.types import Array, Pytree


def describe(
    program: Program, params: Pytree, data: Any, validation: Any, key: Array, batch_size: int
) -> dict[str, np.ndarray]:
    """A digest of each thing that a run depends on, under the name by which an error says that it is another one.

    Programs are compared as they are traced for one example, which is the same on every device. Of data that come in
    batches the first batch is compared.
    """
    optimizer, layers = unrecorded(program.optimizer.value)
    program = dataclasses.replace(program, optimizer=Static(optimizer))
    state = program.start(params, key)
    first = _first(data, key, batch_size)
    other = None if validation is None else _first(validation, key, batch_size)
    texts = {**_programs(program, state.params, state.opt_state, first), "params": _values(params)}
    texts |= {name: _values(None if b is None else b[:2]) for name, b in (("data", first), ("validation", other))}
    texts["weights"] = _values(first.weights)
    if layers:  # nothing else changes by recording, but a run that has half of it cannot be continued
        texts["record_layers"] = digest(repr(layers).encode())
    texts["key"] = _values(jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key)
    setup = {name: np.frombuffer(bytes.fromhex(text), np.uint8) for name, text in texts.items()}
    return {**setup, "batch_size": np.array(batch_size)}


def _first(data: Any, key: Array, batch_size: int) -> Batch:
    """The examples, where they are arrays; else the first batch of the first epoch."""
    if isinstance(data, Batch):
        return data
    first = next(host_batches(data, jax.random.fold_in(key, 0), batch_size, "fit"), None)
    if first is None:
        raise ValueError("fit: `data` gave no batch in this epoch.")
    return first


def _programs(program: Program, params: Pytree, opt_state: Pytree, batch: Batch) -> dict[str, str]:
    """Digests of the model, the loss (and accuracy) and the optimizer as they are traced for a batch of one."""
    inputs, targets = jax.tree.map(_one, (batch.inputs, batch.targets))
    key = jax.random.key(0)

    def model(params: Pytree, inputs: Any) -> Any:
        return program.model(params, *inputs), program.model.train(params, inputs, key)

    def optimizer(trained: Pytree, opt_state: Pytree) -> Any:
        whole = optax.with_extra_args_support(program.optimizer.value)
        return whole.update(trained, opt_state, trained, value=jnp.zeros(()))

    outputs = jax.eval_shape(model, params, inputs)[0]
    trained = program.model.partition(params)[0]
    optimize = program_digest(jax.make_jaxpr(optimizer)(trained, opt_state))
    penalties = {}
    if program.penalty is not None:
        one = Batch(inputs, targets)
        penalties["penalty"] = program_digest(jax.make_jaxpr(program.penalties)(params, one, key))
    return {
        **penalties,
        "model": program_digest(jax.make_jaxpr(model)(params, inputs)),
        "loss": program_digest(jax.make_jaxpr(program.judge)(outputs, targets)),
        "optimizer": digest(optimize.encode(), _values(opt_state).encode()),
    }


def _one(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *np.shape(leaf)[1:]), jax.dtypes.canonicalize_dtype(leaf.dtype))


def _values(tree: Pytree) -> str:
    """Names and values of a pytree's arrays, in the dtypes that JAX computes in."""
    total = []
    for parts, leaf in leaves_by_parts(tree).items():
        value = jax.random.key_data(leaf) if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key) else leaf
        array = np.asarray(value)
        array = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
        total += [repr(parts).encode(), *array_parts(array)]
    return digest(*total)
