"""Adversarial examples, which show how little has to change: the fast gradient sign method, projected descent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.explain.perturbation.box import check_box
from jaxplain.program import Function, as_function, map_floating, public, setting, value_and_gradient, wide_dtype
from jaxplain.types import Array, Arrays, Number, Pytree


class Attack(Function):
    """Steps along the gradient, projected into a ball around the input. Made by `fgsm` and `pgd`."""

    score: Any
    radius: Any
    step_size: Any
    low: Any
    high: Any
    mask: Any
    steps: int = setting(default=1)
    norm: str = setting(default="linf")
    direction: str = setting(default="sign")
    targeted: bool = setting(default=False)
    random_start: bool = setting(default=False)
    threshold: float = setting(default=1e-6)
    name: str = setting(default="fgsm")

    @property
    def epsilon(self) -> Any:
        """How far the input moves: the one step of `fgsm`, the ball of `pgd`."""
        return self.step_size if self.radius is None else self.radius

    @property
    def needs_key(self) -> bool:
        """Whether the start is drawn from a key."""
        return self.random_start

    def __call__(self, *inputs: Any) -> Pytree:
        """Attack one example: `e(x, *args)`, or `e(key, x, *args)` with a random start."""
        key, x, args = check.divided(inputs, self.name, self.needs_key)
        check.differentiable(x, self.name)
        check.finite(x, self.name)
        check.finite_score(self.score, x, args, self.name)
        masks = self._masks(x)
        start = self._bounded(self._drawn(key, x, masks), x) if self.random_start else x

        def step(point: Pytree, _: None) -> tuple[Pytree, None]:
            gradient = value_and_gradient(self.score, point, *args, name=self.name)[1]
            return self._bounded(self._projected(self._moved(point, gradient, masks), x), x), None

        if self.steps == 1:
            return step(start, None)[0]
        return lax.scan(step, start, None, length=self.steps)[0]

    def _masks(self, x: Pytree) -> Pytree:
        """Of x's structure: what each value's step is multiplied by."""
        if self.mask is None:
            return jax.tree.map(lambda leaf: jnp.ones((), jnp.float32), x)
        given, wanted = str(jax.tree.structure(self.mask)), str(jax.tree.structure(x))
        if given != wanted:
            raise ValueError(f"{self.name}: `mask` has the structure {given}, but `x` has {wanted}.")
        for (path, leaf), mask in zip(jax.tree_util.tree_leaves_with_path(x), jax.tree.leaves(self.mask), strict=True):
            where, shape = jax.tree_util.keystr(path), jnp.shape(leaf)
            fits = jnp.ndim(mask) <= len(shape) and all(
                a in (1, b) for a, b in zip(jnp.shape(mask)[::-1], shape[::-1], strict=False)
            )
            if not fits:
                raise ValueError(
                    f"{self.name}: `mask{where}` has shape {jnp.shape(mask)}, which does not broadcast to `x{where}` "
                    f"of shape {shape}. Pass one value (0 or 1) for each value of x."
                )
        return jax.tree.map(lambda leaf, mask: _like(mask, leaf), x, self.mask)

    def _moved(self, point: Pytree, gradient: Pytree, masks: Pytree) -> Pytree:
        sign = -1.0 if self.targeted else 1.0
        length = _norm(point, gradient) if self.direction == "gradient" else None

        def leaf(value: Any, g: Array, mask: Array) -> Array:
            wide = value.astype(wide_dtype(value.dtype))
            g = g.astype(wide.dtype)
            if length is None:
                move = jnp.where(jnp.abs(g) > self.threshold, jnp.sign(g), 0)
            else:
                move = g / jnp.where(length > 0, length, 1)
            move = jnp.where(jnp.isnan(g), jnp.nan, move)
            return (wide + sign * self.step_size * move * mask).astype(value.dtype)

        return map_floating(leaf, jax.tree.map(jnp.asarray, point), gradient, masks)

    def _projected(self, point: Pytree, x: Pytree) -> Pytree:
        """The nearest point inside the ball around x."""
        if self.radius is None:
            return point
        offset = map_floating(lambda a, b: _wide(a) - _wide(b), point, x)
        if self.norm == "linf":
            inside = map_floating(lambda d: jnp.clip(d, -self.radius, self.radius), offset)
        else:
            length = _norm(x, offset)
            scale = jnp.where(length > self.radius, self.radius / jnp.where(length > 0, length, 1), 1.0)
            inside = map_floating(lambda d: d * scale, offset)
        return map_floating(lambda b, d: (_wide(b) + d).astype(jnp.result_type(b)), x, inside)

    def _bounded(self, point: Pytree, x: Pytree) -> Pytree:
        if self.low is None and self.high is None:
            return point
        for value, argument in ((self.low, "low"), (self.high, "high")):
            for leaf in filter(check.is_floating, jax.tree.leaves(x)):
                check.broadcasts(value, jnp.shape(leaf), self.name, argument)
        return map_floating(lambda a: jnp.clip(a, self.low, self.high).astype(a.dtype), point)

    def _drawn(self, key: Array, x: Pytree, masks: Pytree) -> Pytree:
        """A point drawn uniformly from the ball, moved where the mask allows."""
        leaves = [leaf for leaf in jax.tree.leaves(x) if check.is_floating(leaf)]
        count = iter(range(len(leaves)))

        def draw(leaf: Any) -> Array:
            own = jax.random.fold_in(key, next(count))
            if self.norm == "linf":
                return jax.random.uniform(own, jnp.shape(leaf), minval=-1.0, maxval=1.0)
            return jax.random.normal(own, jnp.shape(leaf))

        offset = map_floating(draw, x)
        scale = self.radius
        if self.norm == "l2":
            size = sum(leaf.size for leaf in jax.tree.leaves(offset) if check.is_floating(leaf))
            distance = jax.random.uniform(jax.random.fold_in(key, len(leaves))) ** (1 / size)
            scale = self.radius * distance / _norm(x, offset)
        return map_floating(lambda a, d, m: (_wide(a) + scale * d * m).astype(jnp.result_type(a)), x, offset, masks)


def _wide(leaf: Any) -> Array:
    return jnp.asarray(leaf).astype(wide_dtype(jnp.result_type(leaf)))


def _like(mask: Any, leaf: Any) -> Array:
    return jnp.broadcast_to(jnp.asarray(mask).astype(wide_dtype(jnp.result_type(leaf))), jnp.shape(leaf))


def _norm(x: Pytree, tree: Pytree) -> Array:
    """The Euclidean length over all floating-point leaves of x together."""
    pairs = zip(jax.tree.leaves(x), jax.tree.leaves(tree), strict=True)
    return jnp.sqrt(sum(jnp.sum(jnp.square(_wide(d))) for leaf, d in pairs if check.is_floating(leaf)))


@public
def fgsm(
    f: Callable[..., Any],
    *,
    epsilon: float,
    targeted: bool = False,
    low: Number | None = None,
    high: Number | None = None,
    mask: Arrays | None = None,
) -> Attack:
    """The fast gradient sign method: x' = x + epsilon sign(grad f(x)), which raises a loss most in a small cube.

    `f` is what the attack raises: the loss of the true class, `jaxplain.loss(apply, params)`. With `targeted` it is
    lowered, x' = x - epsilon sign(grad f(x)): the loss of a class that the model is to be led to, or the logit of the
    true class. x' - x shows where the model is brittle. Gradients of at most 1e-6 count as zero.

    Args:
        f: A score, `f(x, *args) -> scalar`, usually a loss.
        epsilon: How far each value moves, in units of the input.
        targeted: Lower `f` instead of raising it.
        low: The smallest value allowed, a number or an array that broadcasts to x; None for no bound.
        high: The largest value allowed.
        mask: Which values may move (1 or True) and which not, an array that broadcasts to x or a pytree of x's
            structure.

    Returns:
        `e(x, *args) -> x'`, the changed input, of x's structure and dtypes. Cost: one forward and one backward pass.

    Raises:
        ValueError: `epsilon` is not one number of zero or more, bounds out of order, a mask that does not fit, NaN or
            infinities in a concrete `x` or in its score.
        TypeError: `x` has no floating-point leaf.

    Example:
        >>> e = fgsm(lambda x: (x * jnp.array([2.0, -3.0, 0.0])).sum(), epsilon=0.5)
        >>> e(jnp.zeros(3)).tolist()
        [0.5, -0.5, 0.0]

    Source: Goodfellow, Shlens and Szegedy 2015, "Explaining and harnessing adversarial examples", section 4.
    """
    name = "fgsm"
    check_box(low, high, mask, name)
    check.one_number(epsilon, name, "epsilon", zero=True)
    score = as_function(check.callable_score(f, name))
    return Attack(score, None, epsilon, low, high, mask, targeted=targeted, name=name)


@public
def pgd(
    f: Callable[..., Any],
    *,
    epsilon: float,
    step_size: float,
    steps: int = 10,
    norm: str = "linf",
    direction: str = "sign",
    targeted: bool = False,
    random_start: bool = False,
    low: Number | None = None,
    high: Number | None = None,
    mask: Arrays | None = None,
) -> Attack:
    """Projected gradient descent: x_(t+1) = clip(P(x_t + step_size d(grad f(x_t)))), P onto the ball around x.

    `f` is raised, as in `fgsm`; with `targeted` it is lowered. The ball has radius `epsilon` in the maximum norm or in
    the Euclidean norm (over all leaves of a pytree together).

    Args:
        f: A score, `f(x, *args) -> scalar`, usually a loss.
        epsilon: Radius of the ball, in units of the input.
        step_size: Length of a step, in units of the input.
        steps: How many steps.
        norm: 'linf' or 'l2'.
        direction: 'sign' steps along the sign of the gradient in either norm (gradients of at most 1e-6 count as
            zero); 'gradient' along the gradient divided by its length, the steepest way in the Euclidean norm.
        targeted: Lower `f` instead of raising it.
        random_start: Start from a point drawn uniformly from the ball (calls take a key first).
        low: As in `fgsm`.
        high: As in `fgsm`.
        mask: As in `fgsm`.

    Returns:
        `e(x, *args) -> x'`, or `e(key, x, *args)` with a random start: the changed input, of x's structure and dtypes.
        Cost: `steps` forward and backward passes.

    Raises:
        ValueError: Settings that are not positive, an unknown norm or direction, bounds or masks as in `fgsm`.
        TypeError: `x` has no floating-point leaf.

    Example:
        >>> f = lambda x: (x * jnp.array([3.0, 4.0])).sum()
        >>> e = pgd(f, epsilon=1.0, step_size=2.0, norm="l2", direction="gradient")
        >>> [round(float(v), 5) for v in e(jnp.zeros(2))]
        [0.6, 0.8]

    Source: Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks", section 2.1.
    """
    name = "pgd"
    check_box(low, high, mask, name)
    check.one_number(epsilon, name, "epsilon")
    check.one_number(step_size, name, "step_size")
    check.choice(norm, ("linf", "l2"), name, "norm")
    check.choice(direction, ("sign", "gradient"), name, "direction")
    score, steps = as_function(check.callable_score(f, name)), check.count(steps, name, "steps")
    return Attack(score, epsilon, step_size, low, high, mask, steps, norm, direction, targeted, random_start, name=name)
