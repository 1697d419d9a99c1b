"""A run is continued only by the same run; what differs is named."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxplain import train

KEY = jax.random.key(0)
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(12, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)
WEIGHTS = np.linspace(0.5, 1.5, 12).astype(np.float32)
PARAMS = {"w": np.full((3, 2), 0.1, np.float32)}


def apply(params, x):
    return x @ params["w"]


def another(params, x):
    return jnp.tanh(x @ params["w"])


def smoothed(outputs, target):
    return train.cross_entropy(outputs, target) + 0.1 * jnp.sum(outputs**2)


def scheduled(scale):
    return optax.adam(optax.cosine_decay_schedule(scale, 12))


def run(folder, apply=apply, params=PARAMS, data=(X, Y), *, epochs=2, resume=True, **settings):
    fixed = {"key": KEY, "optimizer": scheduled(0.1), "batch_size": 4, "weights": WEIGHTS, "validation": (X, Y)}
    return train.fit(
        apply, params, data, epochs=epochs, checkpoint=folder, resume=resume, progress=False, **{**fixed, **settings}
    )


def changed(array, row=5):
    array = array.copy()
    array[row] = array[row] + 1
    return array


OTHERS = (
    ({"optimizer": scheduled(0.2)}, "`optimizer`"),
    ({"optimizer": optax.sgd(0.1)}, "`optimizer`"),
    ({"optimizer": optax.inject_hyperparams(optax.sgd)(0.1)}, "`optimizer`"),
    ({"loss": smoothed}, "`loss`"),
    ({"apply": another}, "`model`"),
    ({"params": {"w": changed(PARAMS["w"], 1)}}, "`params`"),
    ({"data": (changed(X), Y)}, "`data`"),
    ({"data": (X, changed(Y % 1))}, "`data`"),
    ({"data": (X[::-1].copy(), Y[::-1].copy())}, "`data`"),
    ({"weights": changed(WEIGHTS)}, "`weights`"),
    ({"weights": None}, "`weights`"),
    ({"validation": (X[:5], Y[:5])}, "`validation`"),
    ({"validation": None}, "`validation`"),
    ({"key": jax.random.key(1)}, "`key`"),
    ({"batch_size": 3}, "`batch_size`"),
    ({"accuracy": lambda outputs, target: outputs[0]}, "`loss`"),
    ({"weights": changed(WEIGHTS), "key": jax.random.key(1)}, "`weights`, another `key`"),
)


@pytest.mark.slow
def test_what_differs_is_named(tmp_path):
    run(tmp_path / "run")
    for settings, name in OTHERS:
        with pytest.raises(ValueError, match=f"was started with another {name};"):
            run(tmp_path / "run", epochs=3, **settings)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["epoch_00002"]


@pytest.mark.slow
def test_the_same_run_written_anew_goes_on(tmp_path):
    run(tmp_path / "run", epochs=1)

    def renamed(params, inputs):
        outputs = inputs @ params["w"]
        return outputs

    whole = run(tmp_path / "whole", epochs=3, resume=False)
    parts = run(tmp_path / "run", renamed, {"w": jnp.asarray(PARAMS["w"])}, (jnp.asarray(X), Y), epochs=3, patience=3)
    jax.tree.map(np.testing.assert_array_equal, parts.params, whole.params)
    jax.tree.map(np.testing.assert_array_equal, parts.history, whole.history)


def test_batches_from_the_host_are_compared_by_the_first(tmp_path):
    def batches(x):
        return [(x[start : start + 4], Y[start : start + 4]) for start in range(0, 12, 4)]

    fixed = {"weights": None, "validation": None}
    run(tmp_path / "run", data=batches(X), epochs=1, **fixed)
    with pytest.raises(ValueError, match="another `data`"):
        run(tmp_path / "run", data=batches(changed(X, 1)), **fixed)
    assert run(tmp_path / "run", data=lambda key: iter(batches(X)), **fixed).history.epochs == 2


def test_epochs_may_grow_and_not_shrink(tmp_path):
    run(tmp_path / "run", epochs=2)
    with pytest.raises(ValueError, match="holds a run of 2 epochs, more than `epochs`=1"):
        run(tmp_path / "run", epochs=1)


def test_a_run_of_an_earlier_version_and_a_damaged_one_are_named(tmp_path):
    run(tmp_path / "run", epochs=1)
    state = {
        "run": {"w": np.ones(2)},
        "rows": np.zeros((2, 5)),
        "setup": {"key": np.zeros(2), "batch_size": np.ones(1)},
    }
    train.save(tmp_path / "old" / "epoch_00002", state)
    with pytest.raises(ValueError, match="epoch_00002 is of the format 1; this version of jaxplain reads the format 2"):
        run(tmp_path / "old", epochs=3)
    (tmp_path / "run" / "epoch_00001" / "_METADATA").write_text("{}")
    with pytest.raises(ValueError, match=r"epoch_00001 is damaged"):
        run(tmp_path / "run")


@pytest.mark.slow
def test_the_folder_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run("~/run", epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    with pytest.raises(ValueError, match=r"`checkpoint` is .*a backslash"):
        run("runs\\v2")
    shutil.rmtree(tmp_path / "run")
    assert run("run", epochs=1).history.epochs == 1
