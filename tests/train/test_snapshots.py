"""Params kept at steps of a run: which, that they are the run's own, and that a run goes on with them."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import jaxplain
from jaxplain import train
from jaxplain.train.keeper import Keeper

KEY = jax.random.key(0)
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(10, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)
PARAMS = {"w": np.full((3, 2), 0.1, np.float32), "b": np.zeros(2, np.float32)}
OPTIMIZER = optax.adam(0.1)
STEPS = [0, 1, 3, 5, 9]
"""Of 3 epochs of 3 batches, the last of each a short one."""


def apply(params, x):
    return jnp.tanh(x @ params["w"]) + params["b"][None]


def run(snapshots=STEPS, data=(X, Y), **settings):
    fixed = {"key": KEY, "optimizer": OPTIMIZER, "epochs": 3, "batch_size": 4, "progress": False}
    return train.fit(apply, PARAMS, data, snapshots=snapshots, **{**fixed, **settings})


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def by_hand():
    """The params after every step, by `train_step` on the batches that `fit` takes."""
    from jaxplain.data import batch_indices

    step = jax.jit(lambda state, batch: train.train_step(apply, state, batch, optimizer=OPTIMIZER)[0])
    state = train.init(apply, PARAMS, key=KEY, optimizer=OPTIMIZER)
    found = [state.params]
    for epoch in range(3):
        indices, mask = batch_indices(jax.random.fold_in(KEY, epoch), 10, 4)
        for rows, real in zip(np.asarray(indices), np.asarray(mask, bool), strict=True):
            state = step(state, (X[rows[real]], Y[rows[real]]))
            found.append(state.params)
    return found


@pytest.fixture(scope="module")
def whole():
    return run()


def test_they_are_the_params_of_their_steps(whole):
    found = whole.snapshots
    assert found.steps.tolist() == STEPS
    assert repr(found).startswith("Snapshots(steps=[0, 1, 3, 5, 9], 8 numbers each")
    after = by_hand()
    for row, step in enumerate(STEPS):
        ours = jax.tree.map(lambda leaf, row=row: leaf[row], found.params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), ours, after[step])
    same(jax.tree.map(lambda leaf: leaf[0], found.params), PARAMS)
    same(jax.tree.map(lambda leaf: leaf[-1], found.params), whole.state.params)


def test_training_is_the_same_without_them(whole):
    plain = run(None)
    assert plain.snapshots is None
    same((plain.params, plain.state.params, plain.history), (whole.params, whole.state.params, whole.history))


def test_batches_from_the_host_and_one_epoch_with_all_of_them(whole):
    host = run(on_device=False)
    same(host.snapshots.steps, whole.snapshots.steps)
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # noqa: E731
    jax.tree.map(near, host.snapshots.params, whole.snapshots.params)
    same(jax.tree.map(lambda leaf: leaf[-1], host.snapshots.params), host.state.params)

    def batches(key):
        return iter([(X[:5], Y[:5]), (X[5:], Y[5:])])

    with pytest.warns(RuntimeWarning, match=r"ended with step 4, before the steps \[7, 8\] of `snapshots`"):
        found = run([0, 2, 7, 8], batches, epochs=2).snapshots
    assert found.steps.tolist() == [0, 2]
    with pytest.raises(ValueError, match=r"holds step 7, but the run has 4 steps \(`epochs`=2 of 2 batches\)"):
        run([0, 7], batches(KEY) and [(X[:5], Y[:5]), (X[5:], Y[5:])], epochs=2)


@pytest.mark.slow
def test_runs_side_by_side_keep_their_own():
    keys = jax.random.split(KEY, 2)

    def of(key):
        return run([0, 2, 9], key=key, progress=None).snapshots.params

    together = jax.jit(jax.vmap(of))(keys)
    alone = run([0, 2, 9], key=keys[1]).snapshots.params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-6), together, alone)


STOPPED = {"validation": (X, 1 - Y), "patience": 1, "epochs": 5, "optimizer": optax.sgd(0.5)}


def test_an_early_stop_leaves_steps_out():
    found = run([0, 2, 15], **STOPPED)
    assert found.history.epochs < 5
    assert found.snapshots.steps.tolist() == [0, 2]
    none = run([15], **STOPPED).snapshots
    assert none.steps.shape == (0,)
    assert none.params["w"].shape == (0, 3, 2)


@pytest.mark.slow
def test_an_early_stop_that_is_traced_leaves_nan():
    found = run([0, 2, 15], **STOPPED)
    traced = jax.jit(lambda key: run([0, 2, 15], key=key, progress=None, **STOPPED).snapshots)(KEY)
    assert traced.steps.tolist() == [0, 2, 15]
    assert np.isnan(traced.params["w"][2]).all()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[:2], b, rtol=1e-5), traced.params, found.snapshots.params)


def test_a_run_in_a_folder_goes_on_with_them(tmp_path, whole):
    fixed = {"checkpoint": tmp_path / "run", "resume": True}
    first = run([0, 1, 3, 5], epochs=2, **fixed).snapshots
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(first.params))
    found = run(**fixed)
    same(tuple(found.snapshots), tuple(whole.snapshots))
    names = [f"snapshot_{step:07d}" for step in STEPS]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["epoch_00003", *names]
    read = train.load(tmp_path / "run" / "snapshot_0000005", PARAMS, at="params")
    same(read, jax.tree.map(lambda leaf: leaf[3], whole.snapshots.params))
    same(
        tuple(run([1, 9], **fixed).snapshots), jax.tree.map(lambda leaf: leaf[np.array([1, 4])], tuple(whole.snapshots))
    )
    (tmp_path / "run" / "snapshot_of_mine").mkdir()
    words = r"has passed the steps \[2\] of `snapshots` without keeping them; it kept \[0, 1, 3, 5, 9\]"
    with pytest.raises(ValueError, match=words):
        run([0, 2, 9], **fixed)
    assert run(None, **fixed).snapshots is None


def test_a_run_begun_without_them_may_keep_what_comes_after(tmp_path, whole):
    run(None, epochs=1, checkpoint=tmp_path / "run")
    found = run([5, 9], checkpoint=tmp_path / "run", resume=True).snapshots
    same(found.params, jax.tree.map(lambda leaf: leaf[3:], whole.snapshots.params))
    run(None, epochs=1, checkpoint=tmp_path / "other")
    with pytest.raises(ValueError, match="it kept none"):
        run([3, 9], checkpoint=tmp_path / "other", resume=True)


def test_what_another_run_has_left_is_not_taken_for_its_own(tmp_path):
    left = run([1, 9], key=jax.random.key(7), checkpoint=tmp_path / "left")
    assert left.snapshots is not None
    run(None, epochs=1, checkpoint=tmp_path / "run")
    (tmp_path / "left" / "snapshot_0000001").rename(tmp_path / "run" / "snapshot_0000001")
    with pytest.raises(ValueError, match="was started with another `key`"):
        run([1, 9], checkpoint=tmp_path / "run", resume=True)


@pytest.mark.slow
def test_linen_keeps_its_statistics():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool = False):
            x = nn.BatchNorm(use_running_average=not train)(nn.Dense(3)(x))
            return nn.Dense(2)(x)

    variables = Net().init(KEY, X)
    found = train.fit(Net().apply, variables, (X, Y), key=KEY, epochs=1, batch_size=5, snapshots=[0, 2], progress=False)
    assert set(found.snapshots.params) == {"params", "batch_stats"}
    same(jax.tree.map(lambda leaf: leaf[1], found.snapshots.params), found.state.params)


BAD = (
    ([], ValueError, "is empty"),
    ([-1, 2], ValueError, "holds -1; steps are counted from 0"),
    ([0, 3, 3], ValueError, r"holds 3 twice; pass each step once, rising: sorted\(set\(steps\)\)"),
    ([5, 2], ValueError, "holds 5 before 2"),
    ([0, 10], ValueError, r"holds step 10, but the run has 9 steps \(`epochs`=3 of 3 batches\)"),
    *(
        (given, TypeError, "has to be a sequence of whole numbers or None")
        for given in (
            [0.5, 2],
            np.array([1.0, 2.0]),
            [True, 2],
            [[1], [2]],
            ["1"],
            5,
            "12",
            {1, 2},
            {1: 2},
            np.array(3),
        )
    ),
)


def test_wrong_steps_are_told_before_any_compute(tmp_path):
    for given, kind, words in BAD:
        with pytest.raises(kind, match=f"fit: `snapshots` {words}"):
            run(given, checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(TypeError, match="`snapshots` is being traced"):
        jax.jit(lambda steps: run(steps, progress=None).snapshots)(jnp.array([1, 2]))


def test_whole_numbers_of_any_kind_are_steps():
    for given in (range(1, 9, 4), np.array([1, 5]), jnp.array([1, 5]), (np.int64(1), 5)):
        assert run(given).snapshots.steps.tolist() == [1, 5]


@pytest.mark.slow
@pytest.mark.optimized
def test_a_network_as_users_compile_it_trains_and_is_explained_the_same():
    net = jaxplain.models.cnn(outputs=3, widths=(4,), dense=8)
    x, y = GENERATOR.random((12, 12, 12, 1)).astype(np.float32), np.arange(12) % 3
    variables = net.init(KEY, x)
    fixed = {"key": KEY, "epochs": 2, "batch_size": 4, "optimizer": optax.adam(1e-2), "progress": False}
    kept = train.fit(net.apply, variables, (x, y), snapshots=[0, 3, 6], **fixed)
    plain = train.fit(net.apply, variables, (x, y), **fixed)
    for name in ("params", "opt_state"):
        same(getattr(kept.state, name), getattr(plain.state, name))
    same(kept.history, plain.history)

    def method(params):
        return jaxplain.gradient(jaxplain.logit(net.apply, params))

    together = jaxplain.explain_batch(train.explain_over(method, kept.snapshots), x[:5], y[:5])
    np.testing.assert_array_equal(together[:, -1], jaxplain.explain_batch(method(plain.params), x[:5], y[:5]))


def test_the_steps_of_an_epoch_are_found_without_comparing_all_with_all():
    steps = tuple(range(20_000))
    keeper = Keeper(steps, None, {}, 0)
    keeper.done = 40
    start = time.process_time()
    marks, own = keeper.marks(20)
    assert time.process_time() - start < 1  # 20 000 squared comparisons take several seconds
    assert own == marks.tolist() == list(range(41, 61))
    for done, wanted, filled in ((0, [4, 5], [4, 5]), (5, [], [-1, -1]), (10, [11], [11, -1])):
        keeper = Keeper((4, 5, 11), None, {}, 0)
        keeper.done = done
        marks, own = keeper.marks(5)  # as long as in the fullest epoch: one program
        assert (own, marks.tolist()) == (wanted, filled)


def test_what_a_map_makes_of_them_is_shown_as_well():
    mapped = jax.tree.map(
        lambda leaf: bool(np.all(leaf == leaf)), train.Snapshots(np.arange(2), {"w": jnp.ones((2, 3))})
    )
    assert repr(mapped) == "Snapshots(steps=True, 1 numbers each)"
