"""Randomization: does the explanation change when the model's parameters, or the explained class, are others?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.evaluate.curve import Curve
from jaxplain.evaluate.metric import Metric
from jaxplain.evaluate.randomization.layers import layer_masks, randomized
from jaxplain.evaluate.similarity import alike, as_similarity
from jaxplain.program import as_function, chunked_map, chunked_sum, map_floating, needs_key, public, setting, wide_dtype
from jaxplain.types import Array, Pytree

DIRECTIONS = ("top", "bottom")


class ParameterRandomization(Metric):
    """Explanations of a model whose layers are made random one after the other. Made by the functions below."""

    takes: ClassVar[tuple[str, ...]] = ("x", "*args")
    make: Any
    params: Any
    initialize: Any
    similarity: Any
    sigma: Any = None
    layers: tuple[str, ...] | None = setting(default=None)
    start: str = setting(default="top")
    independent: bool = setting(default=False)
    samples: int = setting(default=1)
    batch_size: int = setting(default=1)
    summary: str = setting(default="mean")
    name: str = setting(default="parameter_randomization")

    @property
    def needs_key(self) -> bool:
        """Always: the parameters are drawn."""
        return True

    @property
    def shared_key(self) -> bool:
        """Always: one draw of the parameters serves all examples of a batch."""
        return True

    @property
    def better(self) -> str | None:
        """Which values are better."""
        return {"mean": "lower", "rise": "higher"}.get(self.summary)

    def __call__(self, *inputs: Any) -> Any:
        """Judge the method on one example: `m(key, x, *args)`."""
        key = check.needed_key(inputs, self.name, "m(key, x, *args)")
        if len(inputs) < 2:
            raise TypeError(f"{self.name}: it explains an input: m(key, x, *args).")
        x, *args = inputs[1:]
        check.differentiable(x, self.name)
        check.finite(x, self.name)
        own, draw = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)

        def explain(params: Pytree) -> Pytree:
            return self._explain(params, own, x, tuple(args))

        masks = layer_masks(self, explain)
        random = randomized(self.initialize, draw, self.params, self.name)
        whole = explain(self.params)
        if self.summary == "rise":
            every = jax.tree.map(lambda old, new, m: new if m.any() else old, self.params, random, masks)
            before, after = _spread(whole), _spread(explain(every))
            return jnp.where(before > 0, (after - before) / jnp.where(before > 0, before, 1.0), jnp.nan)
        # Variants as one stack of parameters, `[L, ...]` on every leaf that any of them draws anew.
        stacked = jax.tree.map(lambda old, new, m: _stack(old, new, m) if m.any() else old, self.params, random, masks)
        leaves, structure = jax.tree.flatten(stacked)
        moves = [bool(m.any()) for m in jax.tree.leaves(masks)]

        def point(moving: list[Array]) -> Array:
            supply = iter(moving)
            merged = [next(supply) if move else leaf for leaf, move in zip(leaves, moves, strict=True)]
            return alike(self.similarity, whole, explain(jax.tree.unflatten(structure, merged)))

        found = chunked_map(point, [v for v, move in zip(leaves, moves, strict=True) if move], self.batch_size)
        if self.summary == "mean":
            return jnp.mean(found, axis=0)
        return Curve(jnp.arange(found.size + 1) / found.size, jnp.concatenate([jnp.ones(1, found.dtype), found]))

    def _explain(self, params: Pytree, key: Array, x: Pytree, args: tuple[Any, ...]) -> Pytree:
        e = check.made(self.make(params), self.name, "make")
        if self.sigma is None:
            return e(key, x, *args) if needs_key(e) else e(x, *args)

        def term(sample: Array) -> Pytree:
            noise, inner = (jax.random.fold_in(jax.random.fold_in(key, sample), part) for part in (0, 1))
            point = _noisy(noise, x, self.sigma)
            return e(inner, point, *args) if needs_key(e) else e(point, *args)

        return jax.tree.map(lambda s: s / self.samples, chunked_sum(term, jnp.arange(self.samples), 1))


def _stack(old: Array, new: Array, mask: Any) -> Array:
    old = jnp.asarray(old)
    return jnp.where(mask.reshape(mask.shape + (1,) * old.ndim), jnp.asarray(new)[None], old[None])


def _noisy(key: Array, x: Pytree, sigma: Any) -> Pytree:
    number = iter(range(len(jax.tree.leaves(x))))

    def shift(leaf: Any) -> Array:
        leaf, draw = jnp.asarray(leaf), jax.random.fold_in(key, next(number))
        return (leaf + sigma * jax.random.normal(draw, leaf.shape, wide_dtype(leaf.dtype))).astype(leaf.dtype)

    return map_floating(shift, x)


def _spread(attribution: Pytree, bins: int = 100) -> Array:
    """The entropy of the histogram of an attribution's values, in nats."""
    check.real_leaves(attribution, "parameter_randomization", "e(x)")
    values = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(attribution)])
    low, high = values.min(), values.max()
    place = (values - low) / jnp.where(high > low, high - low, 1.0) * bins
    counts = jnp.zeros(bins).at[jnp.clip(place.astype(jnp.int32), 0, bins - 1)].add(1.0)
    share = counts / values.size
    found = -jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1.0)), 0.0))
    return jnp.where(jnp.isfinite(values).all(), found, jnp.nan)


def _randomization(
    name: str,
    make: Any,
    params: Pytree,
    layers: Any,
    initialize: Any,
    similarity: Any,
    start: str,
    batch_size: int,
    **more: Any,
) -> ParameterRandomization:
    check.function(make, name, "make", "params -> e, such as lambda p: gradient(logit(apply, p))")
    check.choice(start, DIRECTIONS, name, "start")
    if jax.tree.leaves(params):  # an empty tree has its own words
        check.arrays(params, name, "params")
    if isinstance(layers, str) or not (layers is None or (isinstance(layers, Sequence) and layers)):
        raise TypeError(
            f"{name}: `layers` has to be a sequence of at least one path such as 'params/conv_0', not {layers!r}."
        )
    return ParameterRandomization(
        as_function(make),
        params,
        None if initialize is None else as_function(check.function(initialize, name, "initialize", "key -> params")),
        as_similarity(similarity, name),
        layers=None if layers is None else tuple(layers),
        start=start,
        batch_size=check.count(batch_size, name, "batch_size"),
        name=name,
        **more,
    )


@public
def parameter_randomization(
    make: Callable[[Any], Any],
    params: Pytree,
    *,
    layers: Sequence[str] | None = None,
    initialize: Callable[[Array], Any] | None = None,
    start: str = "top",
    independent: bool = False,
    similarity: Any = "spearman",
    batch_size: int = 1,
) -> ParameterRandomization:
    """How alike explanations of the model and of its randomized versions are; lower is better.

    mean_l s(e(x), e_l(x)), where e_l explains the model with the first l layers from the top (or bottom) drawn anew, or
    with layer l alone (`independent`). An explanation that hardly changes does not depend on what the model has learnt.

    Args:
        make: `params -> e`, such as `lambda p: jaxplain.gradient(jaxplain.logit(apply, p))`.
        params: The model's variables, any pytree; floating-point leaves are drawn anew (of a Linen variables tree those
            of the collection 'params').
        layers: Paths of the layers from the bottom to the top, each of whose leaves below it go together:
        'params/conv_0'.
            None takes every parent of a leaf, in the order in which the model first reads them.
        initialize: `key -> params`, which draws a tree of the same structure as before training (`module.init` with
            its input); None shuffles the values of every leaf, which keeps their distribution, and leaves constant
            leaves (zero biases) as they are.
        start: 'top' (the outputs first) or 'bottom'.
        independent: Whether layers are drawn one at a time instead of cumulatively (cascading).
        similarity: 'spearman' (of signed values, ties share ranks), 'absolute_spearman', 'pearson',
            'structural_similarity', or a function of two attributions (several numbers stacked are averaged each by
            itself): they order methods differently.
        batch_size: How many versions are explained at once, by `vmap` over stacked parameters; memory for L versions
            of the parameters is taken in any case. On a CPU 1 is fastest for convolutions, since stacked kernels make
            grouped ones.

    Returns:
        `m(key, x, *args) -> similarity`, one number; NaN where any similarity is undefined. Under `vmap` over examples
        give all of them one key (`in_axes=(None, 0, ...)`, as `evaluate_batch` does), so that they share one draw of
        the parameters. Cost: L + 1 explanations.

    Raises:
        ValueError: Layers that the tree lacks, trees of other structure from `initialize`, words that are unknown.
        TypeError: `make` or `initialize` is no function, a call without key.

    Example:
        >>> params = {"dense": jnp.array([1.0, 2.0, 3.0])}
        >>> m = parameter_randomization(lambda p: lambda x: x, params)
        >>> float(m(jax.random.key(0), jnp.array([1.0, 2.0, 4.0])))
        1.0

    Source: Adebayo et al. 2018, "Sanity checks for saliency maps", section 3.
    """
    return _randomization(
        "parameter_randomization",
        make,
        params,
        layers,
        initialize,
        similarity,
        start,
        batch_size,
        independent=bool(independent),
    )


@public
def parameter_randomization_curve(
    make: Callable[[Any], Any],
    params: Pytree,
    *,
    layers: Sequence[str] | None = None,
    initialize: Callable[[Array], Any] | None = None,
    start: str = "top",
    independent: bool = False,
    similarity: Any = "spearman",
    batch_size: int = 1,
) -> ParameterRandomization:
    """The similarities of which `parameter_randomization` is the mean, layer by layer.

    Args:
        make: As in `parameter_randomization`.
        params: As in `parameter_randomization`.
        layers: As in `parameter_randomization`.
        initialize: As in `parameter_randomization`.
        start: As in `parameter_randomization`.
        independent: As in `parameter_randomization`.
        similarity: As in `parameter_randomization`.
        batch_size: As in `parameter_randomization`.

    Returns:
        `m(key, x, *args) -> Curve(fraction, score)`, both `[L + 1]`: the share of the layers drawn anew (of
        `independent` ones, the place of the layer), and the similarity, from 1 at the model itself. Cost: L + 1
        explanations.

    Raises:
        ValueError, TypeError: As in `parameter_randomization`.

    Example:
        >>> m = parameter_randomization_curve(lambda p: lambda x: x * p["w"], {"w": jnp.array([1.0, 5.0, 2.0])})
        >>> m(jax.random.key(0), jnp.ones(3)).fraction.tolist()
        [0.0, 1.0]

    Source: Adebayo et al. 2018, section 3 and figure 2.
    """
    return _randomization(
        "parameter_randomization_curve",
        make,
        params,
        layers,
        initialize,
        similarity,
        start,
        batch_size,
        independent=bool(independent),
        summary="curve",
    )


@public
def smooth_parameter_randomization(
    make: Callable[[Any], Any],
    params: Pytree,
    *,
    sigma: float,
    samples: int = 10,
    layers: Sequence[str] | None = None,
    initialize: Callable[[Array], Any] | None = None,
    start: str = "top",
    independent: bool = False,
    similarity: Any = "spearman",
    batch_size: int = 1,
) -> ParameterRandomization:
    """`parameter_randomization` of explanations averaged over noisy copies of the input; lower is better.

    mean_l s(E, E_l), E = mean_s e(x + sigma z_s): noise of the explanations themselves, which makes gradients look
    sensitive, is averaged out before they are compared.

    Args:
        make: As in `parameter_randomization`.
        params: As in `parameter_randomization`.
        sigma: Standard deviation of the noise, in units of the input; the same draws for every version of the model.
        samples: How many noisy copies.
        layers: As in `parameter_randomization`.
        initialize: As in `parameter_randomization`.
        start: As in `parameter_randomization`.
        independent: As in `parameter_randomization`.
        similarity: As in `parameter_randomization`.
        batch_size: As in `parameter_randomization`.

    Returns:
        `m(key, x, *args) -> similarity`, as in `parameter_randomization`. Cost: `samples` (L + 1) explanations.

    Raises:
        ValueError, TypeError: As in `parameter_randomization`; `sigma` not one number from 0 up.

    Example:
        >>> m = smooth_parameter_randomization(lambda p: lambda x: p["w"] * x, {"w": jnp.ones(3)}, sigma=0.1)
        >>> float(m(jax.random.key(0), jnp.array([1.0, 2.0, 4.0])))
        1.0

    Source: Hedström et al. 2024, "Sanity checks revisited: an exploration to repair the model parameter randomisation
    test" (smooth MPRT).
    """
    name = "smooth_parameter_randomization"
    return _randomization(
        name,
        make,
        params,
        layers,
        initialize,
        similarity,
        start,
        batch_size,
        independent=bool(independent),
        sigma=check.one_number(sigma, name, "sigma", zero=True),
        samples=check.count(samples, name, "samples"),
    )


@public
def efficient_parameter_randomization(
    make: Callable[[Any], Any],
    params: Pytree,
    *,
    layers: Sequence[str] | None = None,
    initialize: Callable[[Array], Any] | None = None,
) -> ParameterRandomization:
    """How much more complex the explanation of a fully randomized model is; higher is better.

    (H(e_random) - H(e)) / H(e), H the entropy of the histogram of the attribution's values in 100 bins between its
    smallest and largest. No similarity has to be chosen, and one set of random parameters is enough.

    Args:
        make: As in `parameter_randomization`.
        params: As in `parameter_randomization`.
        layers: Which layers are drawn anew; None takes all.
        initialize: As in `parameter_randomization`.

    Returns:
        `m(key, x, *args) -> rise`, one number without unit, from -1 up; NaN where the explanation has one value
        everywhere. Cost: two explanations.

    Raises:
        ValueError, TypeError: As in `parameter_randomization`.

    Example:
        >>> m = efficient_parameter_randomization(lambda p: lambda x: x, {"w": jnp.ones(3)})
        >>> float(m(jax.random.key(0), jnp.array([1.0, 2.0, 4.0])))
        0.0

    Source: Hedström et al. 2024 (efficient MPRT).
    """
    return _randomization(
        "efficient_parameter_randomization", make, params, layers, initialize, "spearman", "top", 1, summary="rise"
    )
