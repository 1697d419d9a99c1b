"""Activation maximization: which input does a class, a unit or any other score respond to most?"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.explain.visualization.image import Several, pixels, shape_of
from jaxplain.explain.visualization.objective import Objective
from jaxplain.explain.visualization.regulariser import l2, total_variation
from jaxplain.explain.visualization.transform import jitter
from jaxplain.program import Function, Static, as_function, public, setting, shown
from jaxplain.program.fast import as_among_others, fast_layout
from jaxplain.program.trace import rectified
from jaxplain.types import Array, Pytree

__all__ = [
    "ActivationMaximization",
    "NonFiniteObjective",
    "Record",
    "Visualization",
    "activation_maximization",
    "jitter",
    "l2",
    "pixels",
    "total_variation",
]

NAME = "activation_maximization"


@shown
class Visualization(NamedTuple):
    """What an activation maximization found.

    image: the input found, of the parameterisation's shape; value: its score, without transforms and penalties (through
    one draw of the transforms where they change its shape); values: the objective (score of the transformed image minus
    penalties) at every step, `[steps]`, NaN from the step on at which it was not finite.
    """

    image: Array
    value: Array
    values: Array


@shown
class Record(NamedTuple):
    """A visualization and how it came about.

    visualization: as returned by a call; terms: what the objective is made of at every step, `[steps]` by name,
    weighted; step: at which the objective or its gradient was not finite, -1 where both always were.
    """

    visualization: Visualization
    terms: dict[str, Array]
    step: Array


class NonFiniteObjective(ValueError):
    """The objective or its gradient became NaN or infinite.

    visualization: with the last image whose objective was finite; step: where it stopped; terms: the objective's terms
    at that step, by name.
    """

    def __init__(self, record: Record) -> None:
        self.visualization: Visualization = record.visualization
        self.step: int = int(record.step)
        last = min(self.step, len(record.visualization.values) - 1)
        self.terms: dict[str, float] = {name: float(values[last]) for name, values in record.terms.items()}
        terms = ", ".join(f"{name} = {value:.4g}" for name, value in self.terms.items())
        what = "the gradient of the objective" if all(map(_finite, self.terms.values())) else "the objective"
        super().__init__(
            f"{NAME}: {what} is not finite at step {self.step}: {terms}. The optimisation stopped there; the last "
            "finite image is this error's `visualization.image`. Take smaller steps (`optimizer`), or leave out the "
            "term."
        )


def _finite(value: float) -> bool:
    return abs(value) < float("inf")


class ActivationMaximization(Function):
    """An input found by gradient ascent on a score. Made by `activation_maximization`."""

    score: Any
    image: Any
    transforms: tuple[Any, ...]
    regularisers: tuple[Any, ...]
    optimizer: Static
    steps: int = setting(default=256)
    samples: int = setting(default=1)
    redirect: int = setting(default=16)
    batch_size: int | None = setting(default=None)

    @property
    def needs_key(self) -> bool:
        """Always: the start and the transforms are drawn from the key."""
        return True

    def __call__(self, key: Array, *args: Any) -> Visualization:
        """Maximise `score(x, *args)`; `vmap` over targets does many classes or units in one compiled loop."""
        record = self.record(key, *args)
        if check.is_concrete(record.step) and int(record.step) >= 0:
            raise NonFiniteObjective(record)
        return record.visualization

    def record(self, key: Array, *args: Any) -> Record:
        """The visualization with the terms of its objective; it is returned where they are not finite, too."""
        self._check(key, args)
        return _record(self, key, args)

    def loop(self, key: Array, args: tuple[Any, ...]) -> Record:
        """The whole optimisation."""
        theta = self.image.init(jax.random.fold_in(key, 0))
        draws = jax.random.fold_in(key, 1)
        # The transformed gradient sits in a loop, where a convolution is fast only in the backend's own layout.
        ascend = fast_layout(jax.value_and_grad(self._loss, has_aux=True))
        state = self.optimizer.value.init(theta)
        names = [name for name, _ in jax.eval_shape(self._named, theta, draws, jnp.zeros(()), args).items()]

        def move(carry: Any, index: Array) -> tuple[Any, Any]:
            theta, state, _, _ = carry
            redirecting = (index < self.redirect).astype(jnp.float32)
            (loss, terms), gradient = ascend(theta, jax.random.fold_in(draws, index), redirecting, args)
            updates, moved = self.optimizer.value.update(gradient, state, theta)
            finite = _all_finite((loss, gradient))
            ahead = jax.tree.map(lambda a, b: a + b.astype(a.dtype), theta, updates)
            following = jax.tree.map(lambda a, b: jnp.where(finite, a, b), (ahead, moved), (theta, state))
            kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), theta, carry[2])
            return (*following, kept, jnp.where(finite, -1, index)), (-loss, terms)

        def rest(carry: Any, index: Array) -> tuple[Any, Any]:
            return carry, (jnp.full((), jnp.nan), {name: jnp.full((), jnp.nan) for name in names})

        def step(carry: Any, index: Array) -> tuple[Any, Any]:
            return lax.cond(carry[3] < 0, move, rest, carry, index)

        start = (theta, state, theta, jnp.full((), -1, jnp.int32))
        end, (values, terms) = lax.scan(step, start, jnp.arange(self.steps, dtype=jnp.int32))
        return self._result(end, values, terms, jax.random.fold_in(draws, self.steps), args)

    def _result(self, end: Any, values: Array, terms: dict[str, Array], key: Array, args: tuple[Any, ...]) -> Record:
        theta, _, kept, stopped = end
        theta = jax.tree.map(lambda a, b: jnp.where(stopped < 0, a, b), theta, kept)
        image = self.image.render(theta)
        seen = self._seen(image, key)
        value = check.scalar(self.score(image if seen.shape == image.shape else seen, *args), NAME)
        finite = jnp.isfinite(value) & _all_finite(image)
        image = jnp.where(finite, image, self.image.render(kept))
        stopped = jnp.where((stopped < 0) & ~finite, self.steps, stopped)
        return Record(Visualization(image, value, values), terms, stopped)

    def _loss(self, theta: Pytree, key: Array, redirecting: Array, args: tuple[Any, ...]) -> tuple[Array, Any]:
        """What the optimiser minimises, penalties minus the score of the transformed image, and its terms."""
        terms = self._named(theta, key, redirecting, args)
        return -sum(terms.values(), jnp.zeros(())), terms

    def _named(self, theta: Pytree, key: Array, redirecting: Array, args: tuple[Any, ...]) -> dict[str, Array]:
        """The terms that add up to the objective, by names of their own."""
        image = self.image.render(theta)
        names: list[str] = []

        def of_sample(index: Array) -> list[Array]:
            return self._values(self._seen(image, jax.random.fold_in(key, index)), redirecting, args, names)

        if self.samples == 1:
            parts = of_sample(jnp.zeros((), jnp.int32))
        else:
            parts = [jnp.mean(part) for part in jax.vmap(of_sample)(jnp.arange(self.samples))]
        for penalty in self.regularisers:
            each = jax.vmap(penalty)(image) if isinstance(self.image, Several) else penalty(image)
            parts.append(-jnp.mean(each))
            names.append(getattr(penalty, "name", "penalty"))
        total, seen = Counter(names), Counter[str]()
        labels = []
        for name in names:
            seen[name] += 1
            labels.append(name if total[name] == 1 else f"{name} ({seen[name]})")
        return dict(zip(labels, parts, strict=True))

    def _values(self, seen: Array, redirecting: Array, args: tuple[Any, ...], names: list[str]) -> list[Array]:
        """The terms of the score; ReLUs through which nothing flows pass the gradient on while `redirecting`."""
        if not isinstance(self.score, Objective):
            names[:] = [str(getattr(self.score, "name", "score"))]
            call = functools.partial(rectified(self.score, "redirected"), redirecting) if self.redirect else self.score
            return [check.scalar(call(seen, *args), NAME)]

        def terms(x: Array, *args: Any) -> list[Array]:
            found = self.score.terms(x, *args)
            names[:] = [name for name, _ in found]
            return [check.scalar(value, NAME) for _, value in found]

        if not self.redirect:
            return terms(seen, *args)
        return rectified(Static(terms), "redirected")(redirecting, seen, *args)

    def _seen(self, image: Array, key: Array) -> Array:
        """What the score is given: the image, or every one of several, after the transforms."""
        if isinstance(self.image, Several):
            keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.arange(self.image.size))
            return jax.vmap(self._transformed)(keys, image)
        return self._transformed(key, image)

    def _transformed(self, key: Array, image: Array) -> Array:
        for number, transform in enumerate(self.transforms):
            seen = transform(jax.random.fold_in(key, number), image)
            if 0 in jnp.shape(seen):
                name = type(transform).__name__ if isinstance(transform, Function) else repr(transform)
                raise ValueError(
                    f"{NAME}: the transform {name} (number {number + 1}) makes an empty image of shape "
                    f"{jnp.shape(seen)} of one of shape {image.shape}. Make its cut smaller than the image."
                )
            image = seen
        return image

    def _check(self, key: Array, args: tuple[Any, ...]) -> None:
        """Raise for what does not fit, in the caller's terms, before anything is compiled."""
        seen = jax.eval_shape(lambda k: self._seen(self.image.render(self.image.init(k)), k), key)
        try:
            result = jax.eval_shape(lambda x: self.score(x, *args), seen)
        except Exception as error:
            # An error of this library says already what is wrong; a model's own says nothing of where it arose.
            if isinstance(error, ValueError | TypeError) and re.match(r"[a-z0-9_]+: ", str(error)):
                raise
            raise ValueError(
                f"{NAME}: the score cannot be computed for an input of shape {seen.shape}, which `image` and "
                f"`transforms` make ({type(error).__name__}: {error}). Pass an image of the size that the model "
                "takes, or end the transforms with resize(size)."
            ) from error
        check.scalar(result, NAME)


@jax.jit
def _record(e: ActivationMaximization, key: Array, args: tuple[Any, ...]) -> Record:
    return as_among_others(lambda e, key, args: e.loop(key, args), e, key, args, batch_size=e.batch_size)


def _all_finite(tree: Pytree) -> Array:
    return functools.reduce(jnp.logical_and, [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)])


@functools.lru_cache(maxsize=1)
def _adam() -> Any:
    import optax

    # One object, so that two explanations with the default optimiser share their compiled program.
    return optax.adam(0.05)


@public
def activation_maximization(
    objective: Callable[..., Any],
    *,
    image: Any,
    transforms: tuple[Callable[..., Any], ...] = (),
    regularisers: tuple[Callable[..., Any], ...] = (),
    optimizer: Any = None,
    steps: int = 256,
    samples: int = 1,
    redirect: int = 16,
    batch_size: int | None = None,
) -> ActivationMaximization:
    """Find an input that maximises a score: argmax over theta of E[f(t(render(theta)))] - sum of penalties.

    The whole optimisation is one compiled loop. `jax.vmap(e, (None, 0))(key, jnp.arange(10))` maximises ten classes at
    once. The same key gives the same bits; one alone is computed as four equal ones, since a backend's sums for a few
    rows differ from those for many in the last bit, which hundreds of steps would magnify.

    An objective that is NaN or infinite stops it: a call raises `NonFiniteObjective`, which says the step and the terms
    and holds the last finite image; under `jit` and `vmap`, where nothing can be raised, the last finite image is
    returned and `values` are NaN from that step on.

    Args:
        objective: A score, `f(x, *args) -> scalar`: a class (`logit`, `log_probability`), a unit of a split layer, any
            function of the input, or a sum of those in `jaxplain.objective`.
        image: The parameterisation, with `init(key) -> theta` and `render(theta) -> x`, such as `pixels((28, 28, 1))`
            or another of `jaxplain.image`.
        transforms: Random transforms `(key, x) -> x` applied in order before the score, such as `jitter(2)` or others
            of `jaxplain.transform`.
        regularisers: Penalties `x -> scalar` on the untransformed image, such as `l2(0.1)` and `total_variation(0.1)`.
        optimizer: An optax `GradientTransformation`; None takes Adam with a step of 0.05.
        steps: Number of steps.
        samples: How many draws of the transforms are averaged at every step, all at once.
        redirect: For how many first steps a ReLU through which no gradient flows (a unit that is dead at the start)
            passes on what would wake it; 0 for never.
        batch_size: Under `vmap`, how many units (classes, keys) are optimised at once: memory grows with it and not
            with their number; four at least. None takes four on a CPU, and all elsewhere. Numbers may differ with it.

    Returns:
        `e(key, *args) -> Visualization(image, value, values)`; `e.record(key, *args)` adds the terms of the objective.
        Cost: `steps` times `samples` forward and backward passes, and one forward pass.

    Raises:
        ValueError: `steps` or `samples` below 1, a score that is no scalar, an input of a shape that the model rejects,
            a transform that empties the image, an objective that is not finite.
        TypeError: `image` or `optimizer` of the wrong kind, a transform or regulariser that is not callable.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> e = activation_maximization(lambda x: (x * jnp.array([1.0, -1.0])).sum(), image=pixels((2,)))
        >>> e(jax.random.key(0)).image.round().tolist()
        [1.0, 0.0]

    Source: Erhan et al. 2009, "Visualizing higher-layer features of a deep network", section 3; the penalties follow
    Simonyan, Vedaldi and Zisserman 2014, equation 1.
    """
    if not callable(objective):
        raise TypeError(f"{NAME}: the objective has to be a function `f(x, *args) -> scalar`, not {objective!r}.")
    shape_of(image, NAME)
    for kind, functions in (("transforms", transforms), ("regularisers", regularisers)):
        if not isinstance(functions, tuple | list) or not all(callable(function) for function in functions):
            raise TypeError(f"{NAME}: `{kind}` has to be a tuple of functions, not {functions!r}.")
    optimizer = _adam() if optimizer is None else optimizer
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"{NAME}: `optimizer` has to be an optax GradientTransformation, not {optimizer!r}.")
    return ActivationMaximization(
        as_function(objective),
        image,
        tuple(as_function(transform) for transform in transforms),
        tuple(as_function(penalty) for penalty in regularisers),
        Static(optimizer),
        check.count(steps, NAME, "steps"),
        check.count(samples, NAME, "samples"),
        check.count(redirect, NAME, "redirect", least=0),
        None if batch_size is None else check.count(batch_size, NAME, "batch_size"),
    )
