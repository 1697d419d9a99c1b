"""Baselines: what "absent" means. A number, an array of x's shape, or a function of `x` or of `(key, x)`.

The factories here make the usual functions. Integer and boolean leaves of `x` (token ids, masks) they return as they
are, so that those are held; rows of data sets bring their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.baseline.counter_class import nearest_counter_class as nearest_counter_class
from jaxplain.baseline.imputation import noisy_linear_imputation as noisy_linear_imputation
from jaxplain.program import Function, public, setting
from jaxplain.types import Array, Arrays, Number, Pytree


def _each(function: Callable[[Array, Array], Array], key: Array, x: Pytree) -> Pytree:
    """Map floating-point leaves, each with a key of its own and in float32 or wider; keep the others."""
    leaves, structure = jax.tree.flatten(x)

    def one(index: int, leaf: Any) -> Any:
        if not check.is_floating(leaf):
            return leaf
        wide = jnp.asarray(leaf).astype(jnp.promote_types(jnp.result_type(leaf), jnp.float32))
        return function(jax.random.fold_in(key, index), wide).astype(jnp.result_type(leaf))

    return jax.tree.unflatten(structure, [one(index, leaf) for index, leaf in enumerate(leaves)])


class _Zeros(Function):
    def __call__(self, x: Pytree) -> Pytree:
        return jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if check.is_floating(leaf) else leaf, x)


@public
def zeros() -> Function:
    """The baseline of zeros: b = 0 at every floating-point leaf.

    Returns:
        `b(x) -> baseline` of x's structure.

    Example:
        >>> zeros()(jnp.ones(2)).tolist()
        [0.0, 0.0]
    """
    return _Zeros()


class _Constant(Function):
    made_by: ClassVar[str] = "mean"
    value: Any

    def __call__(self, x: Pytree) -> Pytree:
        if str(jax.tree.structure(self.value)) != str(jax.tree.structure(x)):
            return self.value  # which is refused with both structures
        return jax.tree.map(lambda leaf, value: value if check.is_floating(leaf) else leaf, x, self.value)


@public
def mean(data: Arrays) -> Function:
    """The mean of a data set as the baseline: b_i = 1/N sum_n data_n,i at every floating-point leaf.

    Args:
        data: An array or pytree of x's structure with a leading axis N: `[N, ...]`. Averaged once, here.

    Returns:
        `b(x) -> baseline`, of a row's structure in float32 or wider (`resolve` gives it x's dtypes).

    Raises:
        ValueError: No rows, or NaN and infinities in concrete data.

    Example:
        >>> mean(jnp.array([[1.0, 2.0], [3.0, 4.0]]))(jnp.ones(2)).tolist()
        [2.0, 3.0]
    """
    check.batch_length(data, "mean", "data")
    check.finite(data, "mean", "data")

    def average(leaf: Any) -> Array:
        if isinstance(leaf, np.ndarray):  # read where it is, and summed in double precision
            return jnp.asarray(leaf.mean(axis=0, dtype=np.float64), jnp.promote_types(jnp.float32, leaf.dtype))
        return jnp.mean(leaf, axis=0, dtype=jnp.promote_types(jnp.result_type(leaf), jnp.float32))

    return _Constant(jax.tree.map(average, data))


class _Sample(Function):
    data: Any

    @property
    def needs_key(self) -> bool:
        return True

    def __call__(self, key: Array, x: Pytree) -> Pytree:
        rows = check.batch_length(self.data, "sample")
        row = jax.random.randint(key, (), 0, rows)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[row], self.data)


@public
def sample(data: Arrays) -> Function:
    """A row of a data set, drawn uniformly, as the baseline.

    Args:
        data: An array or pytree of x's structure with a leading axis N: `[N, ...]`.

    Returns:
        `b(key, x) -> baseline`.

    Raises:
        ValueError: No rows, or NaN and infinities in concrete data.

    Example:
        >>> sample(jnp.full((3, 2), 7.0))(jax.random.key(0), jnp.ones(2)).tolist()
        [7.0, 7.0]
    """
    check.batch_length(data, "sample", "data")
    check.finite(data, "sample", "data")
    return _Sample(data)


class _Uniform(Function):
    made_by: ClassVar[str] = "uniform_noise"
    low: Any
    high: Any

    @property
    def needs_key(self) -> bool:
        return True

    def __call__(self, key: Array, x: Pytree) -> Pytree:
        def draw(key: Array, leaf: Array) -> Array:
            return self.low + (self.high - self.low) * jax.random.uniform(key, leaf.shape, leaf.dtype)

        return _each(draw, key, x)


@public
def uniform_noise(low: Number, high: Number) -> Function:
    """Uniform noise in x's place: b_i ~ U(low, high), independently of `x`.

    Args:
        low: Lower bound, one number in units of the input.
        high: Upper bound, above `low`.

    Returns:
        `b(key, x) -> baseline` of x's structure.

    Raises:
        ValueError: Bounds that are not two finite numbers in order.

    Example:
        >>> uniform_noise(2.0, 2.5)(jax.random.key(0), jnp.zeros(3)).min() >= 2.0
        Array(True, dtype=bool)

    Source: Sturmfels, Lundberg and Lee 2020, "Visualizing the impact of feature attribution baselines", "The uniform
    baseline".
    """
    for bound, argument in ((low, "low"), (high, "high")):
        if jnp.shape(bound) != ():
            raise ValueError(f"uniform_noise: `{argument}` has shape {jnp.shape(bound)}; pass one number.")
        check.finite(bound, "uniform_noise", argument)
    if check.is_concrete(low) and check.is_concrete(high) and not low < high:
        raise ValueError(f"uniform_noise: `low` ({low}) has to be below `high` ({high}).")
    return _Uniform(low, high)


class _Gaussian(Function):
    made_by: ClassVar[str] = "gaussian_noise"
    sigma: Any

    @property
    def needs_key(self) -> bool:
        return True

    def __call__(self, key: Array, x: Pytree) -> Pytree:
        return _each(lambda k, leaf: leaf + self.sigma * jax.random.normal(k, leaf.shape, leaf.dtype), key, x)


@public
def gaussian_noise(sigma: Number) -> Function:
    """The input with Gaussian noise on it: b = x + sigma z, z ~ N(0, 1). Centred at `x`, as in the source.

    Args:
        sigma: Standard deviation, in units of the input.

    Returns:
        `b(key, x) -> baseline` of x's structure.

    Raises:
        ValueError: `sigma` is not one positive number.

    Example:
        >>> gaussian_noise(0.1)(jax.random.key(0), jnp.zeros(3)).shape
        (3,)

    Source: Sturmfels, Lundberg and Lee 2020, "Visualizing the impact of feature attribution baselines", "The gaussian
    baseline".
    """
    return _Gaussian(_one_sigma(sigma, "gaussian_noise"))


class _Blur(Function):
    sigma: Any
    axes: tuple[int, ...] = setting(default=(0, 1))

    def __call__(self, x: Pytree) -> Pytree:
        return jax.tree.map(lambda leaf: self._blurred(leaf) if check.is_floating(leaf) else leaf, x)

    def _blurred(self, leaf: Any) -> Array:
        if jnp.ndim(leaf) <= max(self.axes):
            raise ValueError(f"blur: `x` of shape {jnp.shape(leaf)} has no axis {max(self.axes)}; pass `axes=`.")
        value = jnp.asarray(leaf).astype(jnp.promote_types(jnp.result_type(leaf), jnp.float32))
        for axis in self.axes:
            # Written as a matrix product: exact at the borders, and sigma may be traced.
            index = jnp.arange(value.shape[axis], dtype=value.dtype)
            weights = jax.nn.softmax(-0.5 * jnp.square((index[:, None] - index[None, :]) / self.sigma), axis=1)
            value = jnp.moveaxis(jnp.tensordot(weights.astype(value.dtype), value, (1, axis)), 0, axis)
        return value.astype(jnp.result_type(leaf))


@public
def blur(sigma: Number, *, axes: tuple[int, ...] = (0, 1)) -> Function:
    """The input blurred by a Gaussian: b = K x along each axis, K_ij proportional to exp(-(i - j)^2 / (2 sigma^2)).

    The rows of K sum to one at the borders too, so a constant image stays as it is.

    Args:
        sigma: Standard deviation of the Gaussian, in pixels.
        axes: The axes that are blurred, counted from the front: (0, 1) for `[H, W, C]` and `[H, W]`, (0,) for `[T, D]`.

    Returns:
        `b(x) -> baseline` of x's structure. Cost: H^2 W C + H W^2 C multiplications.

    Raises:
        ValueError: `sigma` is not one positive number, `axes` are negative or absent in `x`.

    Example:
        >>> blur(1.0)(jnp.ones((4, 4, 1))).shape
        (4, 4, 1)

    Source: Fong and Vedaldi 2017, "Interpretable explanations of black boxes by meaningful perturbation", section 4.1
    (the blur perturbation); the borders are this library's choice.
    """
    if not axes or any(isinstance(a, bool) or not isinstance(a, int) or a < 0 for a in axes):
        raise ValueError(
            f"blur: `axes` has to be a tuple of axes counted from the front, such as (0, 1), not {axes!r}."
        )
    return _Blur(_one_sigma(sigma, "blur"), tuple(axes))


def _one_sigma(sigma: Any, name: str) -> Any:
    if jnp.shape(sigma) != ():
        raise ValueError(f"{name}: `sigma` has shape {jnp.shape(sigma)}; pass one number, in units of the input.")
    return check.positive(sigma, name, "sigma")
