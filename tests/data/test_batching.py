"""Batches: every example once, the order a function of the key, filled-up rows not counted, memory maps read lazily."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.data.batching import Batch, batch_indices, batches

KEY = jax.random.key(3)


@pytest.mark.parametrize(("count", "batch_size"), [(1, 1), (5, 3), (6, 3), (7, 1), (3, 8), (10, 10)])
@pytest.mark.parametrize("key", [None, KEY], ids=["in order", "shuffled"])
@pytest.mark.sampled(2)
def test_every_row_stands_under_a_true_mask_once(key, count, batch_size):
    indices, mask = batch_indices(key, count, batch_size)
    assert indices.shape == mask.shape == (-(-count // batch_size), batch_size)
    assert indices.dtype == jnp.int32
    assert mask.dtype == bool
    real = np.asarray(indices)[np.asarray(mask)]
    assert sorted(real.tolist()) == list(range(count))
    assert real.tolist() == np.asarray(indices).reshape(-1)[:count].tolist()  # only the tail is filled up
    assert np.asarray(indices).min() >= 0
    assert np.asarray(indices).max() < count


def test_the_order_is_the_permutation_of_the_key_alone():
    indices, _ = batch_indices(KEY, 20, 4)
    again, _ = batch_indices(KEY, 20, 5)
    other, _ = batch_indices(jax.random.key(4), 20, 4)
    np.testing.assert_array_equal(indices.reshape(-1), jax.random.permutation(KEY, 20))
    np.testing.assert_array_equal(indices.reshape(-1), again.reshape(-1))
    assert not np.array_equal(indices, other)


def test_a_compiled_epoch_sees_the_same_order():
    compiled = jax.jit(batch_indices, static_argnums=(1, 2))
    for ours, theirs in zip(compiled(KEY, 11, 4), batch_indices(KEY, 11, 4), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    keys = jax.random.split(KEY, 3)
    many, _ = jax.vmap(lambda key: batch_indices(key, 11, 4))(keys)
    for key, indices in zip(keys, many, strict=True):
        np.testing.assert_array_equal(indices, batch_indices(key, 11, 4)[0])


@pytest.mark.parametrize("key", [None, KEY], ids=["in order", "shuffled"])
def test_a_masked_mean_counts_every_example_exactly(key):
    values = np.random.default_rng(0).integers(0, 100, 37).astype(np.float32)
    total, count = 0.0, 0.0
    for batch in batches((values, None), 8, key=key):
        assert batch.inputs.shape == (8,)
        assert batch.targets is None
        total += float(np.sum(batch.inputs * batch.mask))
        count += float(np.sum(batch.mask))
    assert (total, count) == (float(values.sum()), 37.0)


def test_rows_stay_together_over_pytrees_and_index_names_them():
    tokens = np.arange(14, dtype=np.int32).reshape(7, 2)
    inputs = {"tokens": tokens, "more": (jnp.arange(7.0),)}
    made = batches((inputs, np.arange(7)), 3, key=KEY)
    assert len(made) == 3
    for batch in made:
        assert isinstance(batch, Batch)
        np.testing.assert_array_equal(batch.targets, batch.index)
        np.testing.assert_array_equal(batch.inputs["tokens"], tokens[batch.index])
        np.testing.assert_array_equal(batch.inputs["more"][0], batch.index.astype(np.float32))
        assert isinstance(batch.inputs["tokens"], np.ndarray)
        assert isinstance(batch.inputs["more"][0], jax.Array)
        assert jax.tree.map(jnp.shape, batch).mask == (3,)  # a pytree


def test_batches_can_be_gone_over_again():
    made = batches((np.arange(9), np.arange(9)), 4, key=KEY)
    first, second = list(made), list(made)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.inputs, b.inputs)


def test_a_memory_map_is_read_row_by_row(tmp_path, monkeypatch):
    path = tmp_path / "large.npy"
    values = np.arange(40, dtype=np.float32).reshape(20, 2)
    np.save(path, values)
    mapped = np.load(path, mmap_mode="r")
    read = []
    original = np.memmap.__getitem__

    def counting(self, rows):
        if self.base is mapped.base:
            read.append(len(np.atleast_1d(rows)))
        return original(self, rows)

    monkeypatch.setattr(np.memmap, "__getitem__", counting)
    iterator = iter(batches((mapped, None), 6, key=KEY))
    assert read == []
    batch = next(iterator)
    assert read == [6]
    assert type(batch.inputs) is np.ndarray
    np.testing.assert_array_equal(batch.inputs, values[batch.index])


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((np.zeros((0, 3)), np.zeros(0)), ValueError, r"is empty .*'inputs': 0"),
        (({}, None), ValueError, r"empty \(no arrays\)"),
        ((np.zeros((4, 3)), np.zeros(5)), ValueError, r"lengths are \{'inputs': 4, 'targets': 5\}"),
        (({"a": np.zeros(4), "b": np.zeros(3)}, None), ValueError, r"inputs\['b'\]"),
        ((np.zeros(3), [1, 2, 3]), TypeError, r"`targets\[0\]` is int"),
        ((np.zeros(3), np.array([1, "a", None], dtype=object)), TypeError, "dtype object"),
        ((np.array(3.0), None), TypeError, "`inputs` is a single number"),
        (np.zeros((4, 3)), TypeError, r"`data` is ndarray; pass \(inputs, targets\)"),
        ((np.zeros(4), np.zeros(4), np.zeros(4)), TypeError, "a tuple of 3"),
    ],
)
def test_bad_data_are_refused_when_batches_is_called(data, error, message):
    with pytest.raises(error, match=message):
        batches(data, 2)


@pytest.mark.parametrize(("batch_size", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError)])
def test_a_bad_batch_size_is_refused(batch_size, error):
    with pytest.raises(error, match="batches: `batch_size` has to be"):
        batches((np.zeros(4), None), batch_size)
    with pytest.raises(error, match="batch_indices: `batch_size` has to be"):
        batch_indices(None, 4, batch_size)


def test_an_empty_epoch_is_refused():
    with pytest.raises(ValueError, match="`count` has to be at least 1, not 0"):
        batch_indices(KEY, 0, 4)
    with pytest.raises(ValueError, match="below 2\\*\\*31"):
        batch_indices(KEY, 2**31, 4)
