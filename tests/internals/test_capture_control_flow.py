"""Values inside jit, scan, while, cond, remat, custom derivatives, vmap and grad; named scopes of plain functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxplain.internals.capture import capture, intervene, split

X = jnp.array([0.5, -1.0, 2.0])


def inside(wrap):
    """A function whose value `inner` is computed inside a transformation."""

    def part(x):
        return checkpoint_name(jnp.sin(x), "inner") * 3

    return lambda x: (wrap(part)(x) + x).sum()


WRAPS = {
    "nothing": lambda part: part,
    "jit": jax.jit,
    "jit in jit": lambda part: jax.jit(lambda x: jax.jit(part)(x) + 0),
    "remat": jax.checkpoint,
    "vmap": jax.vmap,
    "scan of one": lambda part: lambda x: lax.scan(lambda c, _: (part(c), None), x, None, length=1)[0],
    "cond": lambda part: lambda x: lax.cond(x.sum() > 0, part, lambda x: x, x),
    "custom_jvp": lambda part: custom_jvp(part),
    "custom_vjp": lambda part: custom_vjp(part),
}


def custom_jvp(part):
    f = jax.custom_jvp(part)
    f.defjvp(lambda primals, tangents: (part(*primals), 3 * jnp.cos(primals[0]) * tangents[0]))
    return f


def custom_vjp(part):
    f = jax.custom_vjp(part)
    f.defvjp(lambda x: (part(x), x), lambda x, g: (3 * jnp.cos(x) * g,))
    return f


@pytest.mark.parametrize("name", WRAPS)
@pytest.mark.sampled(4)
def test_read_replace_and_split_inside(name):
    f = inside(WRAPS[name])
    loops = (1,) if name == "scan of one" else ()
    output, values = capture(f, "inner")(X)
    assert output == f(X)
    np.testing.assert_array_equal(values["inner"], jnp.sin(X).reshape(*loops, 3))
    assert intervene(f, {"inner": lambda v: v})(X) == f(X)
    np.testing.assert_allclose(intervene(f, {"inner": lambda v: 2 * v})(X), (6 * jnp.sin(X) + X).sum(), rtol=1e-6)
    np.testing.assert_array_equal(intervene(f, {"inner": jnp.ones((*loops, 3))})(X), (3 + X).sum())
    body, head = split(f, "inner")
    assert head(body(X), X) == f(X)
    np.testing.assert_allclose(jax.grad(head)(body(X), X), jnp.full((*loops, 3), 3.0))
    np.testing.assert_allclose(jax.grad(lambda x: head(body(x), x))(X), jax.grad(f)(X), rtol=1e-6)
    batched = jax.jit(jax.vmap(lambda x: (jax.grad(head)(body(x), x), capture(f, "inner")(x)[0])))
    gradient, outputs = batched(jnp.stack([X, 2 * X]))
    np.testing.assert_allclose(gradient, jnp.full((2, *loops, 3), 3.0))
    np.testing.assert_allclose(outputs, jnp.stack([f(X), f(2 * X)]), rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in WRAPS if name != "vmap"])
def test_inside_a_gradient(name):
    f = inside(WRAPS[name])
    gradient, values = capture(jax.grad(f), "inner*")(X)
    np.testing.assert_allclose(gradient, 1 + 3 * jnp.cos(X), rtol=1e-6)
    assert any(np.allclose(value.reshape(-1), jnp.sin(X)) for key, value in values.items() if "taken" not in key)


def test_custom_derivative_survives_reading_but_not_changing():
    f = jax.custom_vjp(lambda x: checkpoint_name(x * 2, "inner").sum())
    f.defvjp(lambda x: (f(x), x), lambda x, g: (jnp.full_like(x, 100.0),))
    np.testing.assert_array_equal(jax.grad(lambda x: capture(f, "inner")(x)[0])(X), jnp.full(3, 100.0))
    np.testing.assert_array_equal(jax.grad(intervene(f, {"inner": lambda v: v + 1}))(X), jnp.full(3, 2.0))


def recurrent(x):
    def step(carry, scale):
        hidden = checkpoint_name(jnp.tanh(carry * scale), "hidden")
        return hidden + 1, hidden.sum()

    carry, sums = lax.scan(step, x, jnp.array([1.0, 0.5, 2.0]))
    return carry.sum() + sums.sum()


def test_scan_gives_and_takes_the_values_of_all_turns():
    hidden, carry = [], X
    for scale in (1.0, 0.5, 2.0):
        hidden.append(jnp.tanh(carry * scale))
        carry = hidden[-1] + 1
    values = capture(recurrent, "hidden")(X)[1]["hidden"]
    np.testing.assert_allclose(values, jnp.stack(hidden), rtol=1e-6)
    replaced = values.at[1].set(0.0)
    last = jnp.tanh((replaced[1] + 1) * 2)
    assert intervene(recurrent, {"hidden": values})(X) == recurrent(X)
    body, head = split(recurrent, "hidden")
    # Feeding fixes every turn: the last turn no longer follows from the one before it.
    np.testing.assert_allclose(head(replaced, X), (values[0] + 2 * values[2] + 1).sum(), rtol=1e-6)
    follow = intervene(recurrent, {"hidden": lambda h: jnp.where(jnp.allclose(h, values[1]), 0.0, h)})(X)
    np.testing.assert_allclose(follow, (values[0] + 2 * last + 1).sum(), rtol=1e-5)
    assert jax.grad(head)(body(X), X).shape == (3, 3)


def test_nested_scans_stack_from_outside_in():
    def f(x):
        def outer(c, _):
            return lax.scan(lambda c, _: (checkpoint_name(c + 1, "count"), None), c, None, length=2)[0], None

        return lax.scan(outer, x, None, length=3)[0].sum()

    values = capture(f, "count")(jnp.zeros(()))[1]["count"]
    np.testing.assert_array_equal(values, jnp.arange(1.0, 7.0).reshape(3, 2))
    body, head = split(f, "count")
    assert head(body(jnp.zeros(())), jnp.zeros(())) == 6


@pytest.mark.slow
def test_branch_not_taken_is_zero_and_flagged():
    def f(x):
        yes = lambda x: checkpoint_name(x * 2, "yes")  # noqa: E731
        no = lambda x: checkpoint_name(x * 3, "no")  # noqa: E731
        return lax.cond(x.sum() > 0, yes, no, x).sum()

    values = capture(f, "yes", "no")(X)[1]
    assert (bool(values["yes:taken"]), bool(values["no:taken"])) == (True, False)
    np.testing.assert_array_equal(values["yes"], 2 * X)
    np.testing.assert_array_equal(values["no"], jnp.zeros(3))
    batch = jax.vmap(capture(f, "no"))(jnp.stack([X, -X]))[1]
    assert batch["no:taken"].tolist() == [False, True]
    assert intervene(f, {"no": 1.0})(X) == f(X)
    assert intervene(f, {"no": 1.0})(-X) == 3


def counted(x):
    def body(state):
        return checkpoint_name(state * 2, "doubled")

    return lax.while_loop(lambda s: s.sum() < 20, body, x).sum()


def test_while_can_be_changed_but_not_read():
    np.testing.assert_allclose(intervene(counted, {"doubled": lambda v: v * 1.5})(X), X.sum() * 3**3)
    assert intervene(counted, {"doubled": lambda v: v})(X) == counted(X)
    for use in (lambda: capture(counted, "doubled")(X), lambda: split(counted, "doubled")[0](X)):
        with pytest.raises(
            ValueError, match="'doubled' lies inside a `while` loop, whose number of turns is not known"
        ):
            use()
    with pytest.raises(ValueError, match="'doubled' lies inside a `while` loop"):
        intervene(counted, {"doubled": X})(X)
    assert capture(counted)(X)[1] == {}  # all that can be read


def test_value_inside_a_foreign_call_is_an_error():
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    spec = jax.sharding.PartitionSpec()

    def f(x):
        part = jax.shard_map(lambda x: checkpoint_name(x * 2, "inner"), mesh=mesh, in_specs=spec, out_specs=spec)
        return part(x).sum()

    for use in (lambda: capture(f, "inner")(X), lambda: intervene(f, {"inner": lambda v: v})(X)):
        with pytest.raises(ValueError, match="'inner' lies inside `shard_map`, a call that cannot be taken apart"):
            use()


def scoped(x):
    with jax.named_scope("encoder"):
        with jax.named_scope("square"):
            y = x * x
        y = y + 1
    with jax.named_scope("decoder"):
        z = jnp.sin(y) * x
    return (z + y).sum()


def test_named_scopes_of_a_plain_function():
    output, values = capture(scoped)(X)
    assert output == scoped(X)
    assert list(values) == ["encoder/square", "encoder", "decoder"]
    np.testing.assert_array_equal(values["encoder"], X * X + 1)
    np.testing.assert_array_equal(values["encoder/square"], X * X)
    body, head = split(scoped, "encoder")
    assert head(body(X), X) == scoped(X)
    np.testing.assert_allclose(jax.grad(head)(body(X), X), jnp.cos(X * X + 1) * X + 1, rtol=1e-6)
    assert intervene(scoped, {"*": lambda v: v})(X) == scoped(X)
    np.testing.assert_allclose(intervene(scoped, {"decoder": 0.0})(X), (X * X + 1).sum())
    np.testing.assert_array_equal(capture(jax.vmap(scoped), "encoder")(X[None])[1]["encoder"], (X * X + 1)[None])


def test_scope_with_several_outputs_and_calls():
    def f(x):
        with jax.named_scope("pair"):
            a, b = x + 1, x * 2
        c = a * b
        with jax.named_scope("pair"):
            d = c - 1
        return (d + a).sum()

    first, second = capture(f, "pair:0", "pair:1")(X)[1].values()
    np.testing.assert_array_equal(first[0], X + 1)
    np.testing.assert_array_equal(first[1], X * 2)
    np.testing.assert_array_equal(second, (X + 1) * X * 2 - 1)
    with pytest.raises(ValueError, match="'pair' is called 2 times"):
        capture(f, "pair")(X)


def test_prints_inside_still_happen_once(capsys):
    def f(x):
        y = checkpoint_name(x * 2, "inner")
        jax.debug.print("seen {}", y.sum())
        return y.sum()

    capture(f, "inner")(X)
    jax.effects_barrier()
    assert capsys.readouterr().out.count("seen") == 1
    split(f, "inner")[0](X)
    jax.effects_barrier()
    assert capsys.readouterr().out == ""
