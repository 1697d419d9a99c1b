"""Checkpoints: round trips, foreign files, resuming bit for bit, mismatches, and nothing half-written."""

import functools
import json
import os
import shutil
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxplain import models, train
from jaxplain.train import checkpoint

KEY = jax.random.key(3)
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(11, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)


class Pair(NamedTuple):
    first: jax.Array
    second: list


def data(leaf):
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)


def identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if hasattr(left, "dtype"):
            assert left.dtype == right.dtype
            assert np.array_equal(data(left), data(right), equal_nan=True)


TREE = {
    "pair": Pair(jnp.arange(3), [jnp.ones((2, 2), jnp.bfloat16), np.float32(2.5)]),
    "key": jax.random.key(5),
    "keys": jax.random.split(KEY, 2),
    "empty": (),
    "none": None,
}


def test_round_trip(tmp_path):
    train.save(tmp_path / "a", TREE)
    zeros = jax.tree.map(lambda a: jax.random.split(KEY, a.shape) if a is TREE["keys"] else a, TREE)
    loaded = train.load(tmp_path / "a", zeros)
    identical(loaded, TREE)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), TREE["pair"])
    part = train.load(tmp_path / "a", shapes, at="pair")
    identical(part, jax.tree.map(jnp.asarray, TREE["pair"]))
    abstract_key = jax.eval_shape(lambda: jax.random.key(0))
    identical(train.load(tmp_path / "a", abstract_key, at="key"), TREE["key"])


def test_foreign_checkpoints_of_linen_and_nnx(tmp_path):
    import orbax.checkpoint as ocp

    module = nn.Dense(3)
    variables = module.init(KEY, X)
    apply, params = models.from_nnx(nnx.Linear(4, 3, rngs=nnx.Rngs(0)))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "linen", {"model": variables, "step": jnp.asarray(3)})
        checkpointer.save(tmp_path / "nnx", params)
        checkpointer.save(tmp_path / "pure", nnx.to_pure_dict(params))
    identical(train.load(tmp_path / "linen", jax.eval_shape(module.init, KEY, X), at="model"), variables)
    _, other = models.from_nnx(nnx.Linear(4, 3, rngs=nnx.Rngs(1)))
    for name in ("nnx", "pure"):
        loaded = train.load(tmp_path / name, other)
        np.testing.assert_array_equal(apply(loaded, X), apply(params, X))


def test_a_mismatch_names_every_path(tmp_path):
    train.save(
        tmp_path / "a", {"same": jnp.ones(2), "old": jnp.ones(1), "wide": jnp.ones((2, 3)), "whole": jnp.arange(2)}
    )
    like = {"same": jnp.ones(2), "new": jnp.ones(1), "wide": jnp.ones((2, 4)), "whole": jnp.ones(2)}
    with pytest.raises(ValueError, match="does not match the model") as error:
        train.load(tmp_path / "a", like)
    assert str(error.value).splitlines()[1:] == [
        "  new: missing in the checkpoint",
        "  old: in the checkpoint, but not in the model",
        "  whole: int32[2] in the checkpoint, float32[2] in the model",
        "  wide: float32[2, 3] in the checkpoint, float32[2, 4] in the model",
    ]


def test_bad_paths_and_trees(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no Orbax checkpoint"):
        train.load(tmp_path / "none", TREE)
    with pytest.raises(ValueError, match="holds no arrays"):
        train.save(tmp_path / "a", {})
    train.save(tmp_path / "a", {"w": jnp.ones(2)})
    with pytest.raises(FileExistsError, match="overwrite=True"):
        train.save(tmp_path / "a", {"w": jnp.zeros(2)})
    train.save(tmp_path / "a", {"w": jnp.zeros(3)}, overwrite=True)
    assert train.load(tmp_path / "a", {"w": jnp.ones(3)})["w"].tolist() == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_nothing_is_half_written(tmp_path, monkeypatch):
    train.save(tmp_path / "a", {"w": jnp.ones(2)})
    real = os.replace

    def failing(source, target):
        if source.name == "new":
            raise OSError("disk full")
        real(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="disk full"):
        train.save(tmp_path / "a", {"w": jnp.zeros(2)}, overwrite=True)
    with pytest.raises(OSError, match="disk full"):
        train.save(tmp_path / "b", {"w": jnp.zeros(2)})
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert train.load(tmp_path / "a", {"w": jnp.zeros(2)})["w"].tolist() == [1, 1]


class Network(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(self.norm(x)))


class Noisy(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(2)(nn.Dropout(0.5, deterministic=not train)(x))


OPTIMIZER = optax.adam(optax.cosine_decay_schedule(0.1, 12))


def linen_model():
    return Noisy().apply, Noisy().init(KEY, X)


def nnx_model():
    return models.from_nnx(Network(nnx.Rngs(0)))


def fitted(model, epochs, **settings):
    apply, params = model
    fixed = {"key": KEY, "batch_size": 4, "optimizer": OPTIMIZER, "validation": (X, Y), "patience": 3}
    return train.fit(apply, params, (X, Y), epochs=epochs, **{**fixed, **settings})


@pytest.mark.slow
@pytest.mark.parametrize("make", [linen_model, nnx_model])
@pytest.mark.parametrize("on_device", [True, False])
def test_resuming_is_bit_identical(make, on_device, tmp_path):
    model = make()
    whole = fitted(model, 4, on_device=on_device)
    for epochs in (1, 2, 3):
        run = tmp_path / f"{epochs}"
        fitted(model, epochs, checkpoint=run, on_device=on_device)
        assert [path.name for path in run.iterdir()] == [f"epoch_{epochs:05d}"]
        (run / ".epoch_00009.1.saving").mkdir()  # what a crash in the middle of saving leaves
        identical(fitted(model, 4, checkpoint=run, resume=True, on_device=on_device), whole)
    assert [path.name for path in run.iterdir()] == ["epoch_00004"]
    identical(fitted(model, 4, checkpoint=run, resume=True, on_device=on_device), whole)
    best = train.load(run / "epoch_00004", model[1], at="run/best")
    identical(best, whole.params)


@pytest.mark.slow
def test_an_interruption_keeps_the_last_epoch(tmp_path, monkeypatch):
    model, whole = linen_model(), fitted(linen_model(), 3)
    real = checkpoint.save
    seen = []

    def failing(*args, **kwargs):
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt
        real(*args, **kwargs)

    monkeypatch.setattr(checkpoint, "save", failing)
    with pytest.raises(KeyboardInterrupt):
        fitted(model, 3, checkpoint=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["epoch_00001"]
    identical(fitted(model, 3, checkpoint=tmp_path / "run", resume=True), whole)


@pytest.mark.slow
def test_resuming_another_run_is_refused(tmp_path):
    model, run = linen_model(), tmp_path / "run"
    fitted(model, 1, checkpoint=run)
    for settings, error, message in (
        ({}, FileExistsError, "holds a run of 1 epochs. Pass `resume=True`"),
        ({"resume": True, "key": jax.random.key(9)}, ValueError, "another `key`"),
        ({"resume": True, "batch_size": 5}, ValueError, "another `batch_size`"),
        ({"resume": True, "optimizer": optax.sgd(0.1)}, ValueError, "another `optimizer`;"),
        ({"resume": True, "validation": None, "patience": None}, ValueError, "another `validation`;"),
    ):
        with pytest.raises(error, match=message):
            fitted(model, 2, checkpoint=run, **settings)
    assert [path.name for path in run.iterdir()] == ["epoch_00001"]
    shutil.rmtree(run)
    assert fitted(model, 1, checkpoint=run, resume=True).history.epochs == 1


def write_safetensors(path, tensors):
    """The format by hand: header length, header, bytes."""
    header, body = {}, b""
    for name, (dtype, array) in tensors.items():
        ends = [len(body), len(body) + array.nbytes]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": ends}
        body += array.tobytes()
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


LINEAR = GENERATOR.normal(size=(3, 8)).astype(np.float32)  # torch: [out, in]
CONVOLUTION = GENERATOR.normal(size=(2, 1, 3, 3)).astype(np.float32)  # torch: OIHW


class Convolution(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(2, (3, 3), padding="VALID", name="conv")(x)
        return nn.Dense(3, name="head")(x.reshape(x.shape[0], -1))


NAMES = {
    "params/conv/kernel": "features.weight",
    "params/conv/bias": "features.bias",
    "params/head/kernel": "classifier.weight",
    "params/head/bias": ("classifier.bias", lambda bias: bias[:3]),
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = {
        "features.weight": ("F32", CONVOLUTION),
        "features.bias": ("BF16", np.asarray(jnp.array([0.5, -2.0], jnp.bfloat16))),
        "classifier.weight": ("F32", LINEAR),
        "classifier.bias": ("F16", np.array([1, 2, 3, 4], np.float16)),
        "unused": ("I64", np.arange(2)),
    }
    write_safetensors(path, tensors)
    return path


def test_safetensors_of_torch_kernels(file):
    image = GENERATOR.normal(size=(4, 4)).astype(np.float32)
    module = Convolution()
    params = jax.eval_shape(module.init, KEY, image[None, :, :, None])
    loaded = models.load_safetensors(file, params, names=NAMES, layout="torch")
    hidden = np.zeros((2, 2, 2))
    for o in range(2):
        for i in range(2):
            for j in range(2):
                hidden[i, j, o] = (CONVOLUTION[o, 0] * image[i : i + 3, j : j + 3]).sum() + (0.5, -2.0)[o]
    expected = LINEAR @ hidden.reshape(-1) + np.array([1, 2, 3])
    np.testing.assert_allclose(module.apply(loaded, image[None, :, :, None])[0], expected, atol=1e-5)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(loaded)} == {"float32"}


def test_safetensors_agree_with_the_library(tmp_path):
    from safetensors.numpy import save_file

    save_file({"w": LINEAR, "n": np.arange(3, dtype=np.int32)}, tmp_path / "a.safetensors")
    like = {"kernel": jnp.zeros((3, 8)), "number": jnp.zeros(3, jnp.int32)}
    loaded = models.load_safetensors(tmp_path / "a.safetensors", like, names={"kernel": "w", "number": "n"})
    identical(loaded, {"kernel": jnp.asarray(LINEAR), "number": jnp.arange(3)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": {**NAMES, "params/conv/kernel": "missing"}}, "missing: not in the file"),
        ({"names": {**NAMES, "params/tail": "unused"}}, "params/tail: in `names`, but not in params"),
        ({"names": {"params/conv/kernel": "features.weight"}}, "params/head/bias: no entry in `names`"),
        ({"layout": "flax"}, r"params/head/kernel: classifier.weight gives \[3, 8\], params have \[8, 3\] .`layout"),
        ({"names": {**NAMES, "params/conv/bias": "unused"}}, "params/conv/bias: unused gives int64"),
        ({"layout": "jax"}, "`layout` is 'jax'"),
    ],
)
def test_safetensors_mismatches(file, change, message):
    params = jax.eval_shape(Convolution().init, KEY, np.zeros((1, 4, 4, 1), np.float32))
    load = functools.partial(models.load_safetensors, file, params)
    with pytest.raises(ValueError, match=message):
        load(**{"names": NAMES, "layout": "torch", **change})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[:5], "cut short or no safetensors file"),
        (lambda whole: whole[:40], "cut short or no safetensors file"),
        (lambda whole: whole[:-4], "is cut short: .* bytes, but its tensors end at"),
        (lambda whole: whole[:8] + b"!" + whole[9:], "the header of .* cannot be read"),
        (lambda whole: whole.replace(b'"F16"', b'"F99"'), "dtype F99"),
        (lambda whole: whole.replace(b'"F16"', b'"F64"'), "size does not agree"),
    ],
)
def test_damaged_safetensors(file, damage, message):
    file.write_bytes(damage(file.read_bytes()))
    params = jax.eval_shape(Convolution().init, KEY, np.zeros((1, 4, 4, 1), np.float32))
    with pytest.raises(ValueError, match=message):
        models.load_safetensors(file, params, names=NAMES, layout="torch")
