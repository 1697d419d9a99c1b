"""What functions of Python do with the arrays that they are given and that they return: none of it changes a number."""

import jax
import numpy as np
import pytest

import jaxplain
from jaxplain.program.opaque import note_failure, with_own_errors

ROWS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)
SUMS = ROWS.sum(axis=1)


def test_a_function_may_return_the_same_buffer_every_time():
    buffer = np.zeros(8, np.float32)

    def predict(rows):
        buffer[: len(rows)] = rows.sum(axis=1)
        return buffer[: len(rows)]

    for size in (None, 1, 2):
        np.testing.assert_array_equal(jax.vmap(jaxplain.black_box(predict, batch_size=size))(ROWS), SUMS)


def test_a_function_may_write_to_its_rows():
    def predict(rows):
        rows *= 2
        return rows.sum(axis=1)

    for size in (None, 2):
        x = ROWS.copy()
        f = jaxplain.black_box(predict, batch_size=size)
        assert float(f(x[0])) == 2 * SUMS[0]
        np.testing.assert_array_equal(jax.vmap(f)(x), 2 * SUMS)
        np.testing.assert_array_equal(x, ROWS)


def test_what_is_returned_is_read_in_every_layout_and_dtype():
    for make in (
        lambda rows: np.asfortranarray(np.stack([rows[:, 0], rows.sum(axis=1)], axis=1)),
        lambda rows: np.stack([rows[:, 0], rows.sum(axis=1)], axis=1).astype(np.float16),
        lambda rows: np.stack([rows[:, 0], rows.sum(axis=1)], axis=1).astype(np.int64),
        lambda rows: [[row[0], row.sum()] for row in rows],
        lambda rows: np.stack([rows[::-1, 0], rows[::-1].sum(axis=1)], axis=1)[::-1],
    ):
        np.testing.assert_array_equal(jax.vmap(jaxplain.black_box(make), (0, None))(ROWS, 1), SUMS)


def test_a_series_in_another_order_is_refused():
    pd = pytest.importorskip("pandas", reason="the extra [tables] is not installed")
    for make, words in {
        lambda rows: pd.Series(rows.sum(axis=1)).sort_values(ascending=False): r"begins with \[2, 1, 0\]",
        lambda rows: pd.DataFrame({"a": rows[:, 0]}).iloc[::-1]: "another order than it was given them",
    }.items():
        with pytest.raises(ValueError, match=words):
            jax.vmap(jaxplain.black_box(make))(ROWS)
    for index in (["c", "a", "b"], [7, 5, 6], [0, 0, 0], [0, 1, 2]):  # these say nothing of an order
        f = jaxplain.black_box(lambda rows, index=index: pd.Series(rows.sum(axis=1), index=index[: len(rows)]))
        np.testing.assert_array_equal(jax.vmap(f)(ROWS), SUMS)


def test_what_cannot_be_kept_is_refused():
    for predict, words in {
        lambda rows: np.full(len(rows), 1e300): "`predict` returned 1e.300, which is infinite in float32",
        lambda rows: [[1, 2], [3]]: r"`predict` returned .* which is no array",
    }.items():
        with pytest.raises((ValueError, TypeError), match=f"^black_box: {words}"):
            jaxplain.black_box(predict)(ROWS[0])
    f = jaxplain.black_box(lambda rows: np.full(len(rows), -np.inf))
    assert float(f(ROWS[0])) == -np.inf  # a logarithm of zero is itself


def test_what_is_masked_or_sparse_is_refused():
    """NumPy drops a mask, and takes a sparse matrix for one object."""
    sparse = pytest.importorskip("scipy.sparse")
    for predict, words in {
        lambda rows: np.ma.masked_greater(rows.sum(axis=1), 1): "an array of which values are masked",
        lambda rows: sparse.csr_matrix(rows): "a sparse matrix: its .toarray()",
    }.items():
        with pytest.raises((ValueError, TypeError), match=words):
            jax.vmap(jaxplain.black_box(predict))(ROWS)
    whole = jaxplain.black_box(lambda rows: np.ma.masked_greater(rows.sum(axis=1), 100))
    np.testing.assert_array_equal(jax.vmap(whole)(ROWS), SUMS)


def test_inputs_of_other_structures_have_outputs_of_other_shapes():
    f = jaxplain.black_box(lambda rows: rows["a"] if "a" in rows else rows["b"].sum(axis=1))
    assert float(f({"a": ROWS[0]}, 1)) == ROWS[0, 1]
    assert float(f({"b": ROWS[0]})) == SUMS[0]


def test_dates_are_no_numbers():
    with pytest.raises(TypeError, match=r"`x` is an array of dtype datetime64.*, not of numbers"):
        jaxplain.black_box(lambda rows: rows[:, 0])(np.array(["2020-01-01"], "M8[D]"))


def test_a_function_that_changes_what_it_returns_is_refused():
    calls = []

    def predict(rows):
        calls.append(len(rows))
        return rows.sum(axis=1) if len(calls) % 2 else rows

    with pytest.raises(ValueError, match=r"`predict` returned shape \(1, 2\) for 1 rows, but \(1,\) was expected"):
        jax.vmap(jaxplain.black_box(predict, outputs=(), batch_size=1))(ROWS)


def test_a_run_over_a_dataset_raises_the_functions_own_error():
    def predict(rows):
        raise KeyError("no such column")

    e = jaxplain.feature_ablation(jaxplain.black_box(predict, outputs=()))
    with pytest.raises(KeyError, match="no such column"):
        jaxplain.explain_dataset(e, ROWS, out="memory", progress=False)


def test_an_error_of_before_is_not_taken_for_that_of_now():
    note_failure(AssertionError())  # whose text is part of every text

    def fails():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    with pytest.raises(jax.errors.JaxRuntimeError, match="out of memory"):
        with_own_errors(fails)
