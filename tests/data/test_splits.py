"""Datasets, splits and standardisation; scikit-learn's own sets."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import data
from jaxplain.data import Dataset

KEY = jax.random.key(5)
LABELS = np.repeat(np.arange(3, dtype=np.int32), [50, 30, 7])
ROWS = Dataset(np.arange(87.0)[:, None], LABELS, truth=np.arange(87)[:, None] % 2 == 0, class_names=("a", "b", "c"))


def rows(part):
    return part.inputs[:, 0].astype(int)


@pytest.mark.parametrize("key", [None, KEY], ids=["in order", "shuffled"])
@pytest.mark.parametrize(
    ("test", "validation", "sizes"), [(0.2, 0, (70, 17, 0)), (20, 0.1, (58, 20, 9)), (1, 1, (85, 1, 1))]
)
def test_a_split_is_a_partition_of_whole_examples(key, test, validation, sizes):
    splits = ROWS.split(key, test=test, validation=validation)
    parts = [part for part in splits[:3] if part is not None]
    assert tuple(len(part) for part in parts) == sizes[: len(parts)]
    assert (splits.validation is None) == (sizes[2] == 0)
    assert sorted(np.concatenate([rows(part) for part in parts]).tolist()) == list(range(87))
    for part in parts:
        np.testing.assert_array_equal(part.targets, LABELS[rows(part)])
        np.testing.assert_array_equal(part.truth[:, 0], rows(part) % 2 == 0)
        assert part.class_names == ("a", "b", "c")


def test_a_split_without_a_key_keeps_the_order():
    splits = ROWS.split(None, test=10, validation=5)
    np.testing.assert_array_equal(rows(splits.train), np.arange(72))
    np.testing.assert_array_equal(rows(splits.validation), np.arange(72, 77))
    np.testing.assert_array_equal(rows(splits.test), np.arange(77, 87))


def test_the_same_key_splits_alike_and_another_does_not():
    first, again, other = (ROWS.split(key) for key in (KEY, jax.random.key(5), jax.random.key(6)))
    np.testing.assert_array_equal(rows(first.test), rows(again.test))
    np.testing.assert_array_equal(rows(first.train), rows(again.train))
    assert not np.array_equal(rows(first.test), rows(other.test))


@pytest.mark.parametrize("test", [1, 5, 17, 40, 80])
def test_stratified_sets_have_the_shares_of_the_classes(test):
    splits = ROWS.split(KEY, test=test, validation=3)
    share = np.bincount(LABELS) * test / 87
    counted = np.bincount(splits.test.targets, minlength=3)
    assert counted.sum() == test
    assert np.all(np.abs(counted - share) < 1)


def test_stratifying_can_be_asked_for_and_switched_off():
    ordered = ROWS.split(None, test=0.2, stratify=True)
    np.testing.assert_array_equal(rows(ordered.test)[:10], np.arange(40, 50))  # the last of class 0
    plain = ROWS.split(KEY, test=17, stratify=False)
    order = np.asarray(jax.random.permutation(KEY, 87))
    np.testing.assert_array_equal(rows(plain.test), order[70:])
    np.testing.assert_array_equal(rows(plain.train), order[:70])


def test_values_are_split_without_classes_and_unlabelled_sets_too():
    values = Dataset({"a": np.arange(10.0), "b": jnp.arange(10)}, np.linspace(0, 1, 10, dtype=np.float32))
    splits = values.split(KEY, test=0.5)
    np.testing.assert_array_equal(splits.train.inputs["a"], np.asarray(splits.train.inputs["b"]))
    assert len(Dataset(np.zeros((4, 2))).split(None, test=1).train) == 3
    with pytest.raises(ValueError, match="`stratify` needs targets that are integer labels"):
        values.split(KEY, stratify=True)


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ({"test": 0}, ValueError, "`test` has to be at least 1, not 0"),
        ({"test": 87}, ValueError, "leave nothing of 87 examples"),
        ({"test": 80, "validation": 7}, ValueError, "test=80 and validation=7 leave nothing"),
        ({"test": 1.0}, ValueError, "`test` is 1.0; a share lies between 0 and 1"),
        ({"test": 0.001}, ValueError, "at least one of the 87 examples"),
        ({"test": float("nan")}, ValueError, "`test` is nan"),
        ({"validation": -0.1}, ValueError, "`validation` is -0.1"),
        ({"validation": 0.001}, ValueError, "`validation` is 0.001"),
        ({"test": "half"}, TypeError, "`test` has to be a whole number"),
        ({"test": True}, TypeError, "`test` has to be a whole number"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, error, message):
    with pytest.raises(error, match=message):
        ROWS.split(KEY, **sizes)


def test_empty_and_uneven_sets_are_refused():
    with pytest.raises(ValueError, match=r"split: .*is empty"):
        Dataset(np.zeros((0, 3)), np.zeros(0, np.int32)).split(KEY)
    with pytest.raises(ValueError, match=r"lengths are \{'inputs': 4, 'targets': 3\}"):
        Dataset(np.zeros((4, 3)), np.zeros(3, np.int32)).split(KEY)


def test_a_dataset_is_a_pytree_with_static_names():
    doubled = jax.tree.map(lambda a: a * 2, ROWS)
    assert doubled.class_names == ROWS.class_names
    np.testing.assert_array_equal(doubled.inputs, ROWS.inputs * 2)
    assert float(jax.jit(lambda d: d.inputs.sum())(ROWS)) == ROWS.inputs.sum()
    batch = next(iter(data.batches(ROWS, 4)))
    np.testing.assert_array_equal(batch.targets, LABELS[:4])


def test_standardising_uses_the_training_set_alone_and_is_inverted():
    generator = np.random.default_rng(0)
    x = generator.normal(5, [1, 100, 0], (40, 3)) + np.array([0, 0, 0.1])
    y = generator.normal(50, 7, 40).astype(np.float32)
    splits = Dataset(x, y).split(KEY, test=10, validation=5)
    scaled = data.standardize(splits, targets=True)
    train = splits.train.inputs
    reference = (splits.test.inputs - train.mean(0)) / [*train.std(0)[:2], 1.0]
    np.testing.assert_allclose(scaled.test.inputs, reference, rtol=1e-5, atol=1e-6)
    assert scaled.train.inputs.dtype == scaled.train.targets.dtype == np.float32
    np.testing.assert_allclose(scaled.train.inputs.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.train.inputs.std(0), [1, 1, 0], atol=1e-6)  # a constant feature becomes 0
    np.testing.assert_allclose(scaled.input_statistics.invert(scaled.test.inputs), splits.test.inputs, rtol=1e-5)
    np.testing.assert_allclose(
        scaled.target_statistics.invert(jnp.asarray(scaled.validation.targets)), splits.validation.targets, rtol=1e-5
    )
    np.testing.assert_allclose(
        scaled.input_statistics.apply(x[0].astype(np.float32)),
        (x[0] - train.mean(0)) / [*train.std(0)[:2], 1],
        rtol=1e-4,
        atol=1e-5,
    )


def test_standardising_needs_numbers_with_a_point():
    with pytest.raises(TypeError, match="`inputs` have to be one floating-point array, not int64"):
        data.standardize(Dataset(np.arange(4)).split(None, test=1))
    with pytest.raises(TypeError, match="`targets` have to be one floating-point array, not int32"):
        data.standardize(ROWS.split(KEY), targets=True)


def test_digits_are_whole_scaled_and_stratified():
    splits = data.digits(validation=100)
    assert [len(part) for part in splits[:3]] == [1338, 359, 100]
    for part in splits[:3]:
        assert part.inputs.shape[1:] == (8, 8, 1)
        assert part.inputs.dtype == np.float32
        assert part.targets.dtype == np.int32
        assert part.inputs.min() == 0
        assert part.inputs.max() == 1
        assert np.ptp(np.bincount(part.targets) / len(part)) < 0.02
    assert splits.train.class_names == tuple("0123456789")
    np.testing.assert_array_equal(data.digits(jax.random.key(0)).test.targets, data.digits().test.targets)
    assert not np.array_equal(data.digits(jax.random.key(1)).test.targets, data.digits().test.targets)


def test_breast_cancer_has_names_and_can_be_inverted():
    scaled, raw = data.breast_cancer(), data.breast_cancer(standardized=False)
    assert raw.input_statistics is None
    assert scaled.train.feature_names[0] == "mean radius"
    assert len(scaled.train.feature_names) == 30
    assert scaled.test.class_names == ("malignant", "benign")
    np.testing.assert_allclose(scaled.train.inputs.std(0), 1, rtol=1e-4)
    np.testing.assert_allclose(
        scaled.input_statistics.invert(scaled.test.inputs), raw.test.inputs, rtol=1e-4, atol=1e-4
    )
    assert sum(np.bincount(part.targets)[0] for part in scaled[:2]) == 212  # malignant tumours in the whole set


def test_diabetes_is_a_regression_in_standard_units():
    scaled, raw = data.diabetes(KEY), data.diabetes(KEY, standardized=False)
    assert scaled.train.targets.dtype == np.float32
    np.testing.assert_allclose([scaled.train.targets.mean(), scaled.train.targets.std()], [0, 1], atol=1e-5)
    np.testing.assert_allclose(scaled.target_statistics.invert(scaled.test.targets), raw.test.targets, rtol=1e-5)
    assert raw.train.targets.min() == 25
    assert set(np.unique(raw.train.inputs[:, 1])) == {1.0, 2.0}


def test_a_missing_scikit_learn_is_said_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"digits: .*pip install 'jaxplain\[examples\]'"):
        data.digits()
