"""One concept through the layers of a network: the same test at each, and whether the layers agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.concept.vector.direction import concept_vectors
from jaxplain.concept.vector.testing import Tcav, tcav
from jaxplain.explain import explain_batch
from jaxplain.internals import capture, split
from jaxplain.program import Function, public
from jaxplain.types import Array, Arrays, Number


@dataclasses.dataclass(frozen=True, repr=False)
class Consistency:
    """Whether layers agree on C concepts. Made by `layer_consistency`.

    same_sign: `[C, L, L]`, share of the examples whose sensitivities have the same sign at two layers.
    correlation: `[C, L, L]`, of their sensitivities over examples; NaN where one is constant.
    agree: `[C]`, whether the statistic lies on the same side at every layer.
    p: `[C]`, the largest corrected p of the layers: significant at all of them. layers, names: L and C texts.
    """

    same_sign: np.ndarray
    correlation: np.ndarray
    agree: np.ndarray
    p: np.ndarray
    layers: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        lines = [
            f"  {name}: {'same' if agree else 'other'} sign, p at all layers {p:.3g}"
            for name, agree, p in zip(self.names, self.agree, self.p, strict=True)
        ]
        return "\n".join([f"Consistency over {', '.join(self.layers)}", *lines])


jax.tree_util.register_dataclass(Consistency, ["same_sign", "correlation", "agree", "p"], ["layers", "names"])


class _Values(Function):
    """The values of a layer of one example."""

    inside: Any

    def __call__(self, x: Any, *args: Any) -> Any:
        return self.inside(x, *args)[1]


@public
def tcav_layers(
    f: Callable[..., Any],
    paths: Sequence[str],
    inputs: Arrays,
    concepts: Any,
    x: Arrays,
    *args: Any,
    key: Array,
    how: str = "ridge",
    penalty: Number | None = None,
    fraction: float = 0.25,
    samples: int | None = None,
    statistic: str = "mean",
    pool: Any = None,
    batch_size: int = 64,
) -> dict[str, Tcav]:
    """Fit concepts at several layers of a score and test each there.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        paths: Of the layers, as `print(jaxplain.layers(f)(x, *args))` lists them.
        inputs: `[N, ...]`, examples of the concepts, and random ones.
        concepts: `[C, N]`, as in `concept_vectors`.
        x: `[B, ...]`, the examples that are asked about.
        *args: Further arguments of f, each with a leading axis B, or one number for all. The first of each is passed
            along with `inputs`, too, which have none of their own: a layer before the score does not depend on them.
        key: Of the random concepts; the same ones are drawn at every layer.
        how: As in `concept_vectors`.
        penalty: As in `concept_vectors`.
        fraction: As in `concept_vectors`.
        samples: As in `tcav`.
        statistic: As in `tcav`.
        pool: As in `tcav`.
        batch_size: Examples, and concepts, at once.

    Returns:
        Path to `Tcav`. Cost: N + B forward passes, and for each layer `concept_vectors` and `tcav`.

    Raises:
        ValueError, TypeError: As `split`, `concept_vectors` and `tcav`; no paths.

    Source: Kim et al. 2018, section 4.2.
    """
    paths = [paths] if isinstance(paths, str) else list(paths)
    if not paths:
        raise ValueError("tcav_layers: `paths` is empty; pass at least one layer, as jaxplain.layers(f) lists them.")
    check.count(batch_size, "tcav_layers", "batch_size")
    check.batch_length(inputs, "tcav_layers", "inputs")
    check.batch_length(x, "tcav_layers", "x")
    count = len(jax.tree.leaves(inputs)[0])
    first = jax.tree.map(
        lambda leaf: leaf if np.ndim(leaf) == 0 else jnp.broadcast_to(leaf[0], (count, *np.shape(leaf)[1:])), args
    )
    learnt, asked = _inside(f, paths, inputs, first, batch_size), _inside(f, paths, x, args, batch_size)
    found = {}
    for path in paths:
        vectors = concept_vectors(
            learnt[path], concepts, how=how, penalty=penalty, fraction=fraction, batch_size=batch_size
        )
        found[path] = tcav(
            split(f, path)[1], vectors, asked[path], x, *args, key=key, samples=samples, statistic=statistic, pool=pool,
            batch_size=batch_size,
        )  # fmt: skip
    return found


def _inside(f: Any, paths: list[str], x: Any, args: Any, batch_size: int) -> dict[str, Array]:
    """The values of layers, `[N, ...]` by path, some examples at a time."""
    values, count = _Values(capture(f, *paths)), len(jax.tree.leaves(x)[0])
    pieces = []
    for start in range(0, count, batch_size):
        cut = slice(start, start + batch_size)
        rows = jax.tree.map(lambda leaf, cut=cut: leaf if np.ndim(leaf) == 0 else leaf[cut], args)
        pieces.append(explain_batch(values, jax.tree.map(lambda leaf, cut=cut: leaf[cut], x), *rows))
    return {path: jnp.concatenate([piece[path] for piece in pieces]) for path in paths}


@public
def layer_consistency(results: Mapping[str, Any]) -> Consistency:
    """Compare what `tcav` says of the same concepts and examples at several layers.

    Args:
        results: Layer to `Tcav`, as `tcav_layers` returns.

    Returns:
        `Consistency`. Cost: L^2 C B operations.

    Raises:
        TypeError: Other values than `Tcav`.
        ValueError: Fewer than two layers, unlike concepts, examples or statistics.

    Example:
        >>> import numpy as np
        >>> both = {name: tcav(lambda h: h @ h, np.eye(2), np.eye(2), samples=0) for name in ("a", "b")}
        >>> layer_consistency(both).same_sign[0].tolist()
        [[1.0, 1.0], [1.0, 1.0]]
    """
    if len(results) < 2:
        raise ValueError(f"layer_consistency: `results` holds {len(results)} layers; pass at least two.")
    for path, found in results.items():
        if not isinstance(found, Tcav):
            raise TypeError(f"layer_consistency: `results[{path!r}]` is {check.short(found)}; pass what tcav returned.")
    rows = list(results.values())
    one = rows[0]
    for path, found in results.items():
        alike = (found.names, found.statistic, found.sensitivities.shape)
        if alike != (one.names, one.statistic, one.sensitivities.shape):
            raise ValueError(
                f"layer_consistency: `results[{path!r}]` is of the concepts {found.names}, statistic "
                f"{found.statistic!r} and {len(found.sensitivities)} examples, unlike the first of them."
            )
    stacked = np.stack([found.sensitivities.T for found in rows], axis=1)  # [C, L, B]
    signs = np.sign(stacked)
    same = (signs[:, :, None] == signs[:, None]).mean(axis=-1)
    moved = stacked - stacked.mean(axis=-1, keepdims=True)
    size = np.sqrt((moved**2).sum(axis=-1))
    scale = size[:, :, None] * size[:, None]
    products = np.einsum("clb,cmb->clm", moved, moved)
    correlation = np.divide(products, scale, out=np.full(scale.shape, np.nan), where=scale > 0)
    sides = np.sign(np.stack([found.values - (0 if found.statistic == "mean" else 0.5) for found in rows]))
    agree = (sides == sides[:1]).all(axis=0)
    worst = np.max([found.corrected for found in rows], axis=0)
    return Consistency(same, correlation, agree, worst, tuple(map(str, results)), one.names)
