"""Operations of two operands whose shapes differ: DeepLIFT complete by both rules, LRP conserved."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain import relevance

RULES = ("rescale", "reveal_cancel")

OPERATIONS = {
    "add": lax.add,
    "sub": lax.sub,
    "mul": lax.mul,
    "div": lax.div,
    "pow": lax.pow,
    "atan2": lax.atan2,
    "rem": lax.rem,
    "max": lax.max,
    "min": lax.min,
    "mod": jnp.mod,
    "fmod": jnp.fmod,
    "power": jnp.power,
    "arctan2": jnp.arctan2,
    "hypot": jnp.hypot,
    "logaddexp": jnp.logaddexp,
    "floor_divide": jnp.floor_divide,
    "copysign": jnp.copysign,
    "heaviside": jnp.heaviside,
    "where": lambda a, b: jnp.where(a > b, 2 * a, b * b),
    "clip": lambda a, b: jnp.clip(a, 0.9, b),
}

PAIRINGS = (
    ((), ()),
    ((), (3,)),
    ((3,), ()),
    ((1,), (3,)),
    ((3,), (1,)),
    ((3,), (3,)),
    ((2, 3), ()),
    ((), (2, 3)),
    ((2, 3), (2, 1)),
    ((1, 3), (2, 3)),
    ((2, 1), (1, 3)),
    ((1, 1), (2, 3)),
    ((2, 1, 3), (1, 2, 1)),
)

STEPS = ("floor_divide", "heaviside", "copysign")  # comparisons alone decide: a step has no difference to share out


def drawn(shape, key, low=0.5, high=2.5):
    return jax.random.uniform(jax.random.key(key), shape, minval=low, maxval=high)


def pair(shapes, key):
    return tuple(drawn(shape, key + number) for number, shape in enumerate(shapes))


def weighted(value):
    """A sum in which no two places count alike, so that what goes to a wrong place is seen."""
    return jnp.vdot(value, 1 + 0.3 * jnp.arange(value.size).reshape(value.shape))


def active(operation, which, x):
    """The operation with both operands explained, or the other one a constant."""
    if which == "both":
        return lambda x: weighted(operation(*x))
    if which == "first":
        return lambda a: weighted(operation(a, x[1]))
    return lambda b: weighted(operation(x[0], b))


def chosen(which, values):
    return {"both": values, "first": values[0], "second": values[1]}[which]


def total(attribution):
    return sum(float(jnp.sum(a)) for a in jax.tree.leaves(attribution))


def assert_complete(f, x, b, rule, said):
    attribution = jax.jit(jaxplain.deep_lift(f, baseline=b, rule=rule))(x)
    assert_shared(attribution, x, float(f(x)), float(f(b)), said)


def assert_shared(attribution, x, end, start, said):
    shapes = [leaf.shape for leaf in jax.tree.leaves(attribution)]
    assert shapes == [leaf.shape for leaf in jax.tree.leaves(x)], said
    assert abs(total(attribution) - (end - start)) < 2e-5 * max(1.0, abs(end), abs(start)), said


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shapes", [PAIRINGS[1], PAIRINGS[12]], ids=str)
@pytest.mark.sampled(2)
def test_all_operations_at_once_are_complete(shapes, rule):
    names = [name for name in OPERATIONS if name not in STEPS]

    def f(x):
        return sum((1 + 0.1 * n) * weighted(OPERATIONS[name](*x)) for n, name in enumerate(names))

    assert_complete(f, pair(shapes, 0), pair(shapes, 10), rule, shapes)


EACH = [
    pytest.param(
        shapes, rule, id=f"{shapes}-{rule}", marks=pytest.mark.long if n % 2 and rule != "rescale" else pytest.mark.slow
    )
    for n, shapes in enumerate(PAIRINGS)
    for rule in RULES
]


@pytest.mark.parametrize(("shapes", "rule"), EACH)
def test_each_operation_is_complete(shapes, rule):
    x, b = pair(shapes, 0), pair(shapes, 10)
    made = {}
    for name, operation in OPERATIONS.items():
        for which in ("both", "first", "second"):
            f = active(operation, which, x)
            if name not in STEPS or not refused(f, chosen(which, x), rule):
                made[name, which] = f

    @jax.jit  # one program of all: a program for each would take twice the time
    def explained(x, b):
        ends = {case: (f(chosen(case[1], x)), f(chosen(case[1], b))) for case, f in made.items()}
        return ends, {
            case: jaxplain.deep_lift(f, baseline=chosen(case[1], b), rule=rule)(chosen(case[1], x))
            for case, f in made.items()
        }

    ends, attributions = explained(x, b)
    for case, attribution in attributions.items():
        assert_shared(attribution, chosen(case[1], x), *map(float, ends[case]), case)


def refused(f, x, rule):
    """Whether a step is refused by name."""
    try:
        jax.eval_shape(jaxplain.deep_lift(f, rule=rule), x)
    except ValueError as error:
        return "decides depends on `x`" in str(error)
    return False


COMPOSED = {
    "share of a sum": lambda x: x / x.sum(-1, keepdims=True),
    "softmax by hand": lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True),
    "softmax by hand, shifted": lambda x: (
        jnp.exp(x - x.max(-1, keepdims=True)) / jnp.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)
    ),
    "unit norm": lambda x: x / jnp.sqrt((x**2).sum(-1, keepdims=True)),
    "unit norm of the whole": lambda x: x / jnp.sqrt((x**2).sum()),
    "min-max": lambda x: (x - x.min(-1, keepdims=True)) / (x.max(-1, keepdims=True) - x.min(-1, keepdims=True)),
    "min-max of the whole": lambda x: (x - x.min()) / (x.max() - x.min()),
    "layer norm by hand": lambda x: (
        (x - x.mean(-1, keepdims=True)) / jnp.sqrt(((x - x.mean(-1, keepdims=True)) ** 2).mean(-1, keepdims=True) + 0.1)
    ),
    "by the median": lambda x: x / jnp.median(x, axis=-1, keepdims=True),
    "renormalised top-k gates": lambda x: (lambda g: g / g.sum(-1, keepdims=True))(lax.top_k(jax.nn.sigmoid(x), 2)[0]),
    "power of a mean": lambda x: x ** x.mean(-1, keepdims=True),
    "angle to a mean": lambda x: jnp.arctan2(x, x.mean(-1, keepdims=True)),
    "rest by a mean": lambda x: jnp.mod(x, x.mean(-1, keepdims=True)),
    "constants over a number": lambda x: jnp.arange(1.0, 4) / x.sum(),
    "constants to a number": lambda x: jnp.arange(1.0, 4) ** x.mean(),
    "a number times a row": lambda x: x.reshape(-1)[0] * x,
    "a row over itself": lambda x: x / x,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPOSED)
def test_compositions_are_complete(name):
    f = lambda x: weighted(COMPOSED[name](x))  # noqa: E731
    for rule in RULES:
        for shape in ((3,), (2, 3)):
            assert_complete(f, drawn(shape, 0), drawn(shape, 1), rule, (name, rule, shape))


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_a_batch_and_a_loop_equal_single_calls(rule):
    # As one compiled program each: eager loops compile every operation by itself.
    def f(x):
        def turn(h, w):
            h = h * w / (h**2).sum() + jnp.arctan2(h.sum(), h)
            return h ** (w / w.max()), None

        return weighted(lax.scan(turn, x, jnp.array([[1.0, 2.0, 0.5], [0.7, 1.5, 1.1]]))[0])

    x, b = drawn((4, 3), 0), drawn((3,), 1)
    e = jaxplain.deep_lift(f, baseline=b, rule=rule)
    one = jax.jit(e)
    single = jnp.stack([one(row) for row in x])
    np.testing.assert_allclose(single.sum(1), [float(f(row) - f(b)) for row in x], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.vmap(e))(x), single, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_multipliers_of_broadcast_operands_by_hand():
    # y = (1, 2) / x at 4 from 2: y - y0 = (-1/4, -1/2), all of it to x.
    np.testing.assert_allclose(
        jaxplain.deep_lift(lambda x: (jnp.array([1.0, 2.0]) / x).sum(), baseline=2.0)(4.0), -0.75
    )
    # a / b at (2, 6; 2) from (1, 1; 1): a gets (1/b + 1/b0) / 2 = 3/4 times its difference, (3/4, 15/4); b gets
    # -(a + a0) / (2 b b0) = -3/4 and -7/4 times 1. In all 2: f goes from 2 to 4.
    x, b = (jnp.array([2.0, 6.0]), jnp.array([2.0])), (jnp.ones(2), jnp.ones(1))
    a = jaxplain.deep_lift(lambda x: (x[0] / x[1]).sum(), baseline=b)(x)
    np.testing.assert_allclose(a[0], [0.75, 3.75], rtol=1e-6)
    np.testing.assert_allclose(a[1], [-2.5], rtol=1e-6)


@pytest.mark.slow
def test_relevance_of_a_number_under_constants_is_all_that_arrives():
    for operation in (lax.div, lax.pow, lax.atan2, lax.rem):
        for shapes in (((3,), ()), ((), (3,)), ((3,), (1,)), ((2, 3), (2, 1)), ((2, 1), (2, 3))):
            x = pair(shapes, 0)
            for which in ("first", "second"):
                f = active(operation, which, x)
                r = jaxplain.lrp(f, relevance.epsilon())(chosen(which, x))
                assert r.shape == chosen(which, x).shape
                np.testing.assert_allclose(total(r), float(f(chosen(which, x))), rtol=1e-5)


@pytest.mark.parametrize("name", ["div", "pow", "atan2", "rem"])
@pytest.mark.sampled(2)
def test_relevance_of_two_values_goes_to_the_first(name):
    # The second is a scale, as a denominator is: R = y (rows of y added up where the first was repeated).
    for shapes in (((3,), (3,)), ((2, 3), (2, 1)), ((2, 1), (2, 3)), ((), (3,)), ((3,), ())):
        x = pair(shapes, 0)
        first, second = jaxplain.lrp(active(OPERATIONS[name], "both", x), relevance.epsilon())(x)
        y = OPERATIONS[name](*x)
        y = y * (1 + 0.3 * jnp.arange(y.size).reshape(y.shape))
        if shapes[0] == ():
            y = y.sum()
        elif shapes[0] != y.shape:
            y = y.sum(-1, keepdims=True)
        np.testing.assert_allclose(first, y, rtol=1e-4)
        assert not np.any(np.asarray(second))


def test_a_scale_that_stops_is_shared_over_its_places():
    # x sg(x.sum()): what the held sum changes goes to x too, by place: still complete.
    f = lambda x: weighted(x / lax.stop_gradient(x.sum(-1, keepdims=True)))  # noqa: E731
    assert_complete(f, drawn((2, 3), 0), drawn((2, 3), 1), "rescale", "held")


def test_what_has_no_derivative_is_refused_by_name():
    with pytest.raises(ValueError, match="no rule for 'nextafter'"):
        jaxplain.deep_lift(lambda x: lax.nextafter(x[0], x[1]).sum())((jnp.ones(2), jnp.zeros(2)))
