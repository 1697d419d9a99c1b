"""The singular values of a model's weight matrices, and what they say of rank and structure."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import leaves_by_parts, public
from jaxplain.types import Array, Pytree


@dataclasses.dataclass(frozen=True, repr=False)
class Spectrum:
    """The singular values of one weight matrix of n rows and m columns, largest first.

    Attributes:
        singular_values: `[min(n, m)]`.
        deviation: Standard deviation of the matrix's entries.
        shape: (n, m).
    """

    singular_values: Array
    deviation: Array
    shape: tuple[int, int]

    @property
    def norm(self) -> Array:
        """Spectral norm: the largest singular value, the most by which the matrix stretches a vector."""
        return self.singular_values[..., 0]

    @property
    def stable_rank(self) -> Array:
        """Sum of squares over the largest square: directions that carry the energy; at most the rank, 0 for zeros."""
        squares = jnp.square(self.singular_values)
        return squares.sum(-1) / jnp.where(squares[..., 0] > 0, squares[..., 0], 1)

    @property
    def effective_rank(self) -> Array:
        """Exponential of the entropy of the singular values' shares; the rank where all are equal, 0 for zeros."""
        total = self.singular_values.sum(-1, keepdims=True)
        shares = self.singular_values / jnp.where(total > 0, total, 1)
        entropy = -jnp.sum(shares * jnp.log(jnp.where(shares > 0, shares, 1)), axis=-1)
        return jnp.where(total[..., 0] > 0, jnp.exp(entropy), 0)

    @property
    def condition(self) -> Array:
        """Largest over smallest singular value; infinite where the smallest is zero."""
        return self.singular_values[..., 0] / self.singular_values[..., -1]

    @property
    def edge(self) -> Array:
        """The largest singular value of independent entries of this deviation s, for large n and m: s (√n + √m)."""
        rows, columns = self.shape
        return self.deviation * (np.sqrt(rows) + np.sqrt(columns))

    @property
    def outliers(self) -> Array:
        """How many singular values lie above `edge`: directions that stand out of what chance gives."""
        return jnp.sum(self.singular_values > self.edge[..., None], axis=-1)

    def __repr__(self) -> str:
        """Shape, norm, ranks and outliers."""
        rows, columns = self.shape
        if np.ndim(self.singular_values) != 1 or not check.is_concrete(self.singular_values):
            return f"Spectrum({rows}x{columns}, singular values {list(np.shape(self.singular_values))})"
        return (
            f"Spectrum({rows}x{columns}, norm {float(self.norm):.3g}, stable rank {float(self.stable_rank):.3g}, "
            f"effective rank {float(self.effective_rank):.3g}, {int(self.outliers)} above chance)"
        )


jax.tree_util.register_dataclass(Spectrum, ["singular_values", "deviation"], ["shape"])


@public
def weight_spectra(params: Pytree, *, channel_axis: int = -1) -> dict[str, Spectrum]:
    """Take the singular values of every weight matrix of a parameter tree.

    W = sum_i s_i u_i v_i': a matrix is as many independent directions as it has singular values of one size. An array
    of more than two axes (a convolution's kernel) is read as a matrix with a column for each place of `channel_axis`,
    so its values are not those of the convolution as an operator on images. The function is pure: `jax.vmap` over
    stacked params gives the spectra over a training run.

    Args:
        params: A pytree, such as Flax's variables or `fit(...).params`; arrays of two axes or more are taken, integers,
            vectors and keys are left out.
        channel_axis: The axis of output channels of arrays of more than two axes, -1 in Flax and Haiku, 0 in Equinox.

    Returns:
        `{path: Spectrum}`, in the order of the tree. Cost: a singular value decomposition of each matrix, n m min(n, m)
        operations; no model pass.

    Raises:
        ValueError: No weight matrix, NaN or infinite weights, an axis that an array has not.

    Example:
        >>> import jax.numpy as jnp
        >>> spectra = weight_spectra({"dense": {"kernel": jnp.diag(jnp.array([4.0, 3.0])), "bias": jnp.zeros(2)}})
        >>> spectra["dense/kernel"].singular_values.tolist(), float(spectra["dense/kernel"].stable_rank)
        ([4.0, 3.0], 1.5625)

    Source: the stable rank is that of Rudelson and Vershynin 2007, "Sampling from large matrices", section 1; the
    effective rank that of Roy and Vetterli 2007, "The effective rank", definition 1; the edge that of Marchenko and
    Pastur, as Martin and Mahoney 2021, "Implicit self-regularization in deep neural networks", section 2.2, read
    weights, here with the deviation of all entries: strong directions raise it, so that few are called so by chance.
    """
    check.arrays(params, "weight_spectra", "params")
    named = {"/".join(parts) or "params": leaf for parts, leaf in leaves_by_parts(params).items() if _is_matrix(leaf)}
    if not named:
        raise ValueError(
            "weight_spectra: `params` holds no floating-point array of two axes or more; pass the params of a model."
        )
    check.finite(named, "weight_spectra", "params")
    return {name: _spectrum(leaf, channel_axis, name) for name, leaf in named.items()}


def _is_matrix(leaf: Any) -> bool:
    return check.is_floating(leaf) and jnp.ndim(leaf) > 1 and jnp.size(leaf) > 0


def _spectrum(leaf: Any, channel_axis: int, name: str) -> Spectrum:
    matrix = jnp.asarray(leaf, jnp.promote_types(jnp.result_type(leaf), jnp.float32))
    if matrix.ndim > 2:
        if not -matrix.ndim <= channel_axis < matrix.ndim:
            raise ValueError(
                f"weight_spectra: `channel_axis` is {channel_axis}, but `params` at {name!r} has {matrix.ndim} axes."
            )
        matrix = jnp.moveaxis(matrix, channel_axis, -1).reshape(-1, matrix.shape[channel_axis])
    values = jnp.linalg.svd(matrix, compute_uv=False)
    return Spectrum(values, jnp.std(matrix), (matrix.shape[0], matrix.shape[1]))
