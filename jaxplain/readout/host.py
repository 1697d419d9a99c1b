"""A function of Python as a score: a model that JAX cannot trace, called on the host with batches of NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import Function, Static, kept, needs_derivative, note_failure, public, setting, with_own_errors
from jaxplain.readout.criterion import wide
from jaxplain.readout.target import Pick, index_range
from jaxplain.types import Array, Pytree, frame_of


class BlackBox(Function):
    """A score of a Python function: `f(x, target=None) -> scalar` for one example. Made by `black_box`."""

    predict: Any
    table: Any
    shape: Any = setting(default=None)
    batch_size: int | None = setting(default=None)
    name: str = setting(default="black_box")

    opaque = True

    def __call__(self, x: Pytree, target: Any = None) -> Array:
        """Score one example: a scalar in float32 or wider."""
        return Pick("logit")(wide(self.outputs(x)), target, self.name)

    def outputs(self, x: Pytree) -> Array:
        """What the function returns for one example, without the batch axis."""
        check.arrays(x, self.name)
        _require_cpu(self.name)
        shape = self._shape(x)
        rows = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), x)

        @jax.custom_jvp
        def call(x: Pytree) -> Array:
            result = jax.ShapeDtypeStruct(shape, jnp.result_type(float))
            # All axes that `vmap` adds come together, so that a batch of any number of axes is one call.
            return jax.pure_callback(
                lambda batch: self._noted(batch, rows, shape, result.dtype), result, x, vmap_method="broadcast_all"
            )

        @call.defjvp
        def _(*_: Any) -> Any:
            raise needs_derivative(self.name)

        return with_own_errors(lambda: call(jax.tree.map(jnp.asarray, x)))

    def check_call(self, x: Pytree, target: Any = None) -> None:
        """Raise for concrete batched targets outside the outputs (used by drivers, which see whole batches)."""
        if target is not None:
            index_range(target, self._shape(jax.tree.map(lambda leaf: leaf[0], x)) or (1,), self.name)

    def _shape(self, x: Pytree) -> tuple[int, ...]:
        """The shape of the function's output for one example: as it was given, or found by calling it with one row."""
        if self.shape is not None:
            return self.shape
        known = kept(self, "_shapes", dict)
        leaves, structure = jax.tree.flatten(x)
        kind = (structure, *((jnp.shape(leaf), str(jnp.result_type(leaf))) for leaf in leaves))
        if kind not in known:
            known[kind] = self._found(x)
        return known[kind]

    def _found(self, x: Pytree) -> tuple[int, ...]:
        concrete = all(check.is_concrete(leaf) for leaf in jax.tree.leaves(x))
        if self.table.value is not None:
            row: Any = np.asarray(self.table.value.template, jnp.result_type(float))
            if [jnp.shape(leaf) for leaf in jax.tree.leaves(x)] != [row.shape]:
                raise ValueError(
                    f"{self.name}: `x` has the shape {[jnp.shape(leaf) for leaf in jax.tree.leaves(x)]}, but a row of "
                    f"`table` has {row.shape}: pass what table.encode(df) gives."
                )
        else:
            row = jax.tree.map(lambda leaf: np.asarray(leaf) if concrete else _zeros(leaf), x)
        try:
            return self._called(jax.tree.map(lambda leaf: np.array(leaf[None]), row)).shape[1:]
        except Exception as error:
            what = "one row" if concrete or self.table.value is not None else "one row of zeros"
            error.add_note(
                f"{self.name}: `predict` was called with {what} to find out what it returns; `outputs=` says it before."
            )
            raise

    def _noted(self, *inputs: Any) -> np.ndarray:
        """As `_host`, and an error is kept for the caller, whom JAX would give its text only."""
        try:
            return self._host(*inputs)
        except Exception as error:
            note_failure(error)
            raise

    def _host(self, batch: Pytree, rows: Pytree, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Call the function with all rows of a batch of any number of axes."""
        batch = jax.tree.map(np.asarray, batch)
        leaf, row = jax.tree.leaves(batch)[0], jax.tree.leaves(rows)[0]
        leading = leaf.shape[: leaf.ndim - len(row.shape)]
        flat = jax.tree.map(lambda leaf, row: leaf.reshape(-1, *row.shape), batch, rows)
        total = int(np.prod(leading))
        size = total if self.batch_size is None else self.batch_size
        result = np.empty((total, *shape), dtype)
        for start in range(0, total, size):
            # Copies: JAX's arrays cannot be written to, and a function may return the same buffer every time.
            part = self._called(jax.tree.map(lambda leaf, start=start: np.array(leaf[start : start + size]), flat))
            if part.shape[1:] != shape:
                raise ValueError(
                    f"{self.name}: `predict` returned shape {part.shape} for {len(part)} rows, but "
                    f"{(len(part), *shape)} was expected{'' if self.shape is None else ' (of `outputs`)'}."
                )
            result[start : start + size] = self._narrowed(part, dtype)
        return result.reshape((*leading, *shape))

    def _narrowed(self, values: np.ndarray, dtype: Any) -> np.ndarray:
        """Values in the dtype that JAX computes in; a finite one that would become infinite is refused."""
        with np.errstate(over="ignore"):
            narrow = values.astype(dtype)
        lost = np.isinf(narrow) & np.isfinite(values)
        if lost.any():
            raise ValueError(
                f"{self.name}: `predict` returned {values[lost][0]:g}, which is infinite in {np.dtype(dtype)}. Return "
                "its logarithm or a multiple of it, or let JAX compute in float64 (jax_enable_x64)."
            )
        return narrow

    def _called(self, rows: Pytree) -> np.ndarray:
        """Call the function with rows `[N, ...]`, and look at what comes back."""
        count = jax.tree.leaves(rows)[0].shape[0]
        given = rows if self.table.value is None else self.table.value.decode(jax.tree.leaves(rows)[0])
        answer = self.predict(given)
        if isinstance(answer, jax.Array):
            raise TypeError(
                f"{self.name}: `predict` returned a JAX array, and calling JAX inside of a callback can wait for "
                "ever. A function of JAX is a score as it is: jaxplain.output(apply, params)."
            )
        self._require_order(answer)
        if hasattr(answer, "toarray"):  # sparse ones of SciPy, which NumPy takes for an object
            raise TypeError(f"{self.name}: `predict` returned {check.short(answer)}, a sparse matrix: its .toarray().")
        if np.ma.is_masked(answer):
            raise ValueError(f"{self.name}: `predict` returned an array of which values are masked; fill them in.")
        try:
            values = np.asarray(answer)
        except ValueError as error:  # rows of different lengths
            raise TypeError(
                f"{self.name}: `predict` returned {check.short(answer)}, which is no array: {error}"
            ) from error
        if values.dtype.kind not in "fiub":
            raise TypeError(
                f"{self.name}: `predict` returned {check.short(values)}. It has to return numbers, such as "
                "probabilities (`model.predict_proba`) and not the names of classes."
            )
        if values.shape[:1] != (count,):
            raise ValueError(
                f"{self.name}: `predict` returned shape {values.shape} for {count} rows; the first axis has to be the "
                "batch, one result for each row."
            )
        wrong = np.isnan(values).reshape(count, -1).any(axis=1) if values.dtype.kind == "f" else np.zeros(count, bool)
        if wrong.any():
            raise ValueError(
                f"{self.name}: `predict` returned NaN for {int(wrong.sum())} of {count} rows, the first is row "
                f"{int(wrong.argmax())}. Rows that are explained are mixed with the baseline; look at those."
            )
        return values

    def _require_order(self, answer: Any) -> None:
        """Refuse a series or frame of pandas whose index says that its rows were sorted otherwise."""
        index = getattr(answer, "index", None)
        if frame_of(answer) is None or index is None:
            return
        labels = np.asarray(index)
        numbered = labels.dtype.kind in "iu" and np.array_equal(np.sort(labels), np.arange(len(labels)))
        if numbered and (np.diff(labels) < 0).any():
            raise ValueError(
                f"{self.name}: `predict` returned rows in another order than it was given them: its index begins "
                f"with {labels[:3].tolist()}. Return them in the order of the batch, such as by .sort_index()."
            )


def _zeros(leaf: Any) -> np.ndarray:
    return np.zeros(jnp.shape(leaf), jnp.result_type(leaf))


def _require_cpu(name: str) -> None:
    """Callbacks run beside a CPU of JAX's, which `JAX_PLATFORMS` may have left out."""
    try:
        jax.local_devices(backend="cpu")
    except RuntimeError as error:
        raise ValueError(
            f"{name}: a function of Python needs a CPU beside the accelerator, which JAX was started without. Set "
            "JAX_PLATFORMS=cuda,cpu (tpu,cpu) before JAX is imported."
        ) from error


@public
def black_box(
    predict: Callable[..., Any],
    *,
    table: Any = None,
    outputs: int | Sequence[int] | None = None,
    batch_size: int | None = None,
) -> BlackBox:
    """Score by any function of Python: a scikit-learn or XGBoost model, another framework, a service.

    It is called on the host (`jax.pure_callback`) with batches of NumPy arrays, inside `jit` and `vmap` as outside, and
    works with everything that only compares scores: `kernel_shap` and the other Shapley values, `lime`,
    `feature_ablation`, `occlusion`, `rise`, `jaxplain.aggregate` and most metrics. What needs a derivative or a layer
    refuses it by name. Where a method's `batch_size` is None, it is called with up to 4096 rows at once; inside of a
    function of your own (`lambda x, y: (f(x) - y) ** 2`), which hides it, pass the method a `batch_size`.

    Args:
        predict: `predict(batch) -> [B]` or `[B, K]`, numbers without NaN. `batch` has x's structure with a batch axis
            in front, or with `table` is a data frame with the columns, order and dtypes of the table's. It may not call
            JAX. It may be called more than once with the same row, and the same row in a batch of any size has to give
            the same: one that draws or changes (a fit of the same object is seen) makes attributions that do not add
            up.
        table: A `jaxplain.data.Table`: then x is a row as `table.encode` gives it.
        outputs: K, () for one number or a shape: what `predict` returns for one row. None finds out by calling it once
            with one row (of `table`, of zeros where x is being traced, else x).
        batch_size: Most rows in one call of `predict`; None passes on as many as come.

    Returns:
        `f(x, target=None) -> scalar` in float32 (float64 where JAX computes in it). `target` is as in `logit`; not
        needed where there is one output. Cost: one call of `predict` for each batch of scores that a method asks for;
        XLA waits for it.

    Raises:
        TypeError: `predict` is no function, or returns no numbers.
        ValueError: Another shape than one result for each row; NaN; numbers too large for the dtype; a series that was
            sorted; a process of JAX without a CPU. Errors of `predict` itself come out with their own message.

    Example:
        >>> import numpy as np
        >>> f = black_box(lambda rows: np.maximum(rows[:, 0], rows[:, 1]))
        >>> float(f(jnp.array([1.0, 3.0])))
        3.0
    """
    name = "black_box"
    if not callable(predict):
        raise TypeError(
            f"{name}: `predict` has to be a function, not {type(predict).__name__}. Pass the method that predicts: "
            "black_box(model.predict_proba) or black_box(model.predict)."
        )
    if table is not None and not (hasattr(table, "decode") and hasattr(table, "template")):
        raise TypeError(f"{name}: `table` has to be a jaxplain.data.Table, not {check.short(table)}.")
    shape: tuple[int, ...] | None = None
    if outputs is not None:
        sides = tuple(outputs) if isinstance(outputs, Sequence) else (outputs,)
        shape = tuple(check.count(side, name, "outputs") for side in sides)
    size = None if batch_size is None else check.count(batch_size, name, "batch_size")
    return BlackBox(Static(predict), Static(table), shape, size)
