"""Methods at token ids: derivatives at the rows that the ids look up, everything else by replacing ids."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import language
from jaxplain.explain.backward import relevance
from jaxplain.program import as_function
from shared.language import VOCABULARY, behind_embedding, decoder, parameters
from shared.methods import METHODS

PARAMS = parameters()
IDS = jnp.array([3, 1, 4, 1, 5])
KEY = jax.random.key(0)
F = language.token_logit(decoder, PARAMS)
ROWS = PARAMS["embed"][IDS]
GROUPS = jnp.array([0, 1, 1, 0])
TABLE = [row for row in METHODS if row.name != "blur_integrated_gradients"]  # which needs values to blur
SIX = ("feature_ablation", "occlusion", "shapley_values", "shapley_sampling", "kernel_shap", "lime")


def at_rows(h, position, token):
    """The score by hand, of the embedding."""
    return behind_embedding(PARAMS, h[None])[0, position, token]


DERIVATIVE = {
    "gradient": jaxplain.gradient,
    "saliency": jaxplain.saliency,
    "input_x_gradient": jaxplain.input_x_gradient,
    "integrated_gradients": functools.partial(jaxplain.integrated_gradients, steps=4),
    "integrated_gradients from an id": functools.partial(jaxplain.integrated_gradients, steps=4, baseline=2),
    "tolerance": functools.partial(jaxplain.integrated_gradients, steps=4, tolerance=1e-3, max_steps=16),
    "expected_gradients": functools.partial(jaxplain.expected_gradients, samples=4),
    "guided_integrated_gradients": functools.partial(jaxplain.guided_integrated_gradients, steps=4),
    "smoothgrad": lambda f: jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.1, samples=3),
    "vargrad": lambda f: jaxplain.vargrad(jaxplain.gradient(f), sigma=0.1, samples=3),
    "deep_lift": jaxplain.deep_lift,
    "lrp": lambda f: jaxplain.lrp(f, relevance.attn_lrp()),
}


@jax.jit
def explained(e, x, *args):
    return e(KEY, x, *args) if e.needs_key else e(x, *args)


QUICK = ("gradient", "integrated_gradients from an id")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in DERIVATIVE])
def test_a_derivative_at_ids_is_that_at_their_rows_summed(name):
    e, by_hand = DERIVATIVE[name](F), DERIVATIVE[name](at_rows)
    if name.endswith("an id"):
        by_hand = jaxplain.integrated_gradients(at_rows, steps=4, baseline=jnp.tile(PARAMS["embed"][2], (5, 1)))
    found = explained(e, IDS, 3, 2)
    assert found.shape == IDS.shape
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, explained(by_hand, ROWS, 3, 2).sum(-1), rtol=1e-4, atol=1e-5)
    assert float(abs(found[4])) < 1e-6  # what is behind the position has no part in it


@pytest.mark.slow
def test_rows_of_ids_as_baselines():
    data = jnp.array([[2, 2, 2, 2, 2], [0, 1, 2, 3, 4]])
    for baseline, by_hand in (
        (data[1], PARAMS["embed"][data[1]]),
        (lambda x: 0 * x, jnp.tile(PARAMS["embed"][0], (5, 1))),
        (jaxplain.baseline.zeros(), 0.0),
    ):
        a = explained(jaxplain.integrated_gradients(F, baseline=baseline, steps=4), IDS, 3, 2)
        b = explained(jaxplain.integrated_gradients(at_rows, baseline=by_hand, steps=4), ROWS, 3, 2)
        np.testing.assert_allclose(a, b.sum(-1), rtol=1e-4, atol=1e-5)
    a = explained(jaxplain.expected_gradients(F, data, samples=4), IDS, 3, 2)
    b = explained(jaxplain.expected_gradients(at_rows, PARAMS["embed"][data], samples=4), ROWS, 3, 2)
    np.testing.assert_allclose(a, b.sum(-1), rtol=1e-4, atol=1e-5)
    a = explained(jaxplain.deep_shap(F, data), IDS, 3, 2)
    b = explained(jaxplain.deep_shap(at_rows, PARAMS["embed"][data]), ROWS, 3, 2)
    np.testing.assert_allclose(a, b.sum(-1), rtol=1e-4, atol=1e-5)
    drawn = jaxplain.integrated_gradients(F, baseline=jaxplain.baseline.sample(data[:1]), steps=64)
    a = explained(drawn, IDS, 3, 2)
    np.testing.assert_allclose(a.sum(), F(IDS, 3, 2) - F(data[0], 3, 2), rtol=1e-3)


@pytest.mark.slow
def test_completeness_and_the_gap_are_those_of_the_rows():
    result = explained(jaxplain.integrated_gradients_with_gap(F, baseline=2, steps=32), IDS, 3, 2)
    change = F(IDS, 3, 2) - F(jnp.full(5, 2), 3, 2)
    np.testing.assert_allclose(result.attribution.sum(), change, rtol=1e-3)
    assert bool(result.reached)


@pytest.mark.slow
def test_batches_and_new_parameters():
    e = jaxplain.integrated_gradients(F, baseline=2, steps=4)
    rows = jnp.stack([IDS, IDS[::-1]])
    batch = jaxplain.explain_batch(e, rows, jnp.array([3, 4]), jnp.array([2, 1]))
    np.testing.assert_allclose(batch[0], explained(e, IDS, 3, 2), rtol=1e-4, atol=1e-6)
    adaptive = jaxplain.integrated_gradients(F, baseline=2, tolerance=1e-3, max_steps=16)
    change = [F(row, 3, 2) - F(jnp.full(5, 2), 3, 2) for row in rows]
    np.testing.assert_allclose(jaxplain.explain_batch(adaptive, rows, 3, 2).sum(-1), change, rtol=2e-3)

    def energy(params):
        f = language.token_logit(decoder, params)
        return jnp.sum(jaxplain.input_x_gradient(f)(IDS, 3, 2) ** 2)

    slope = jax.jit(jax.grad(energy))(PARAMS)["embed"]
    by_hand = jax.jit(
        jax.grad(
            lambda t: jnp.sum(
                jaxplain.input_x_gradient(lambda h: behind_embedding({**PARAMS}, h[None])[0, 3, 2])(t[IDS]).sum(-1) ** 2
            )
        )
    )(PARAMS["embed"])
    np.testing.assert_allclose(slope, by_hand, rtol=1e-3, atol=1e-4)


class Tied(nn.Module):
    """Two tables, one of them the unembedding too; a mask and positions made of the ids; rows looked up under remat."""

    @nn.compact
    def __call__(self, ids):
        table = nn.Embed(VOCABULARY, 6, name="words")
        mask = (ids != 0).astype(jnp.float32)
        place = (jnp.cumsum(ids != 0, axis=1) * (ids != 0)).astype(jnp.int32)
        h = table(ids) + nn.Embed(16, 6, name="places")(place) + nn.Embed(2, 6, name="kinds")((ids > 5).astype(int))
        h = jax.checkpoint(jnp.tanh)(h) * mask[..., None]
        return table.attend(jnp.cumsum(h, axis=1))


@pytest.mark.slow
def test_positions_made_of_the_ids_are_held_and_every_table_counts():
    module = Tied()
    params = module.init(KEY, IDS[None])
    f = language.token_logit(module.apply, params)
    words, kinds = (params["params"][name]["embedding"] for name in ("words", "kinds"))
    places = params["params"]["places"]["embedding"][jnp.arange(1, 6)]

    def by_hand(rows):
        h = jnp.cumsum(jnp.tanh(rows[0] + rows[1] + places), axis=0)
        return (h @ words.T)[3, 2]

    rows = (words[IDS], kinds[(IDS > 5).astype(int)])
    wanted = sum((g * r).sum(-1) for g, r in zip(jax.grad(by_hand)(rows), rows, strict=True))
    np.testing.assert_allclose(explained(jaxplain.input_x_gradient(f), IDS, 3, 2), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_one_hot_codes_are_look_ups_and_several_arrays_of_ids_are_explained():
    def coded(params, x):
        codes = jax.nn.one_hot(x["a"], VOCABULARY) @ params["embed"]
        return behind_embedding(params, codes + params["position"][x["b"]])

    f = language.token_logit(coded, PARAMS)
    x = {"a": IDS, "b": jnp.array([4, 3, 2, 1, 0])}
    a = explained(jaxplain.input_x_gradient(f), x, 3, 2)

    def by_hand(h, p):
        return behind_embedding(PARAMS, (h + p)[None])[0, 3, 2]

    rows = (ROWS, PARAMS["position"][x["b"]])
    grads = jax.grad(by_hand, (0, 1))(*rows)
    np.testing.assert_allclose(a["a"], (grads[0] * rows[0]).sum(-1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(a["b"], (grads[1] * rows[1]).sum(-1), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_prompt_before_a_continuation():
    f, tokens = language.sequence_log_probability(decoder, PARAMS), jnp.array([2, 7])
    padded = jnp.array([3, 1, 4, 0, 0])
    a = explained(jaxplain.input_x_gradient(f), padded, 3, tokens)
    b = explained(jaxplain.input_x_gradient(f), padded[:3], None, tokens)
    np.testing.assert_allclose(a[:3], b, rtol=1e-4, atol=1e-6)
    assert not np.asarray(a[3:]).any()

    def by_hand(h):
        log = jax.nn.log_softmax(behind_embedding(PARAMS, jnp.concatenate([h, PARAMS["embed"][tokens]])[None])[0])
        return log[2, 2] + log[3, 7]

    np.testing.assert_allclose(b, (jax.grad(by_hand)(ROWS[:3]) * ROWS[:3]).sum(-1), rtol=1e-4, atol=1e-6)


def test_integers_that_look_up_nothing_are_refused_as_before():
    for make in (jaxplain.gradient, jaxplain.integrated_gradients, jaxplain.deep_lift):
        with pytest.raises(TypeError, match="only floating-point values have a gradient"):
            make(lambda x: (x / 255.0).sum())(jnp.arange(4))
    with pytest.raises(TypeError, match="only floating-point values have a gradient"):
        jaxplain.smoothgrad(lambda x: x, sigma=0.1)(KEY, jnp.arange(4))


FORWARD = {
    **{row.name: row.build for row in METHODS if row.name in SIX},
    "rise": lambda f: jaxplain.rise(f, samples=512, batch_size=64),
    "owen_values": lambda f: jaxplain.owen_values(f, GROUPS),
    "shapley_sampling_with_error": lambda f: _Estimate(jaxplain.shapley_sampling_with_error(f, samples=4)),
    "feature_permutation": lambda f: jaxplain.feature_permutation(f, jnp.zeros((2, 4), jnp.int32)),
}


class _Estimate(jaxplain.Function):
    """The estimate alone."""

    explain: jaxplain.Function

    @property
    def needs_key(self):
        return True

    def __call__(self, *inputs):
        return self.explain(*inputs).attribution


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.sampled(4)
def test_every_method_without_a_derivative_takes_ids_as_they_are(name):
    """Of an additive score each token gets its own difference to the id 0, whatever the dtype of the ids."""
    table = jnp.array([0.5, 1.0, 3.0, -5.0, 2.0])
    for dtype in (jnp.int32, jnp.uint8, jnp.int16) if name == "feature_ablation" else (jnp.int32,):
        x = jnp.array([3, 1, 2, 4], dtype)
        build = FORWARD[name] if name != "feature_permutation" or dtype == jnp.int32 else None
        found = explained(as_function(build(lambda x: table[x].sum())), x)
        wanted = np.asarray(table[x] - table[0])
        if name == "rise":  # every token gets the mean of the score, too
            found, wanted = found - found.mean(), (wanted - wanted.mean()) / 2
        np.testing.assert_allclose(found, wanted, atol=0.6 if name == "rise" else 1e-4)
        assert found.dtype == jnp.float32


@pytest.mark.parametrize("row", TABLE, ids=[f"{row.name}_{index}" for index, row in enumerate(TABLE)])
@pytest.mark.slow
def test_the_whole_table_explains_ids(row):
    """A sweep: every method of the table takes token ids of a model, and what nothing reads gets nothing."""
    e = as_function(row.build(F))
    found = explained(e, IDS, 3, 2)
    assert found.shape == IDS.shape
    assert np.isfinite(found).all()
    if row.dummy and row.name != "kernel_shap":  # which does not score all coalitions of five tokens here
        assert abs(float(found[4])) < 1e-5
    if row.complete and row.name in SIX:
        np.testing.assert_allclose(found.sum(), F(IDS, 3, 2) - F(0 * IDS, 3, 2), atol=1e-4)


def test_ids_are_drawn_where_a_baseline_draws_them():
    drawn = jaxplain.shapley_sampling(F, baseline=lambda key, x: jax.random.randint(key, x.shape, 0, 11), samples=4)
    found = explained(drawn, IDS, 3, 2)
    assert np.isfinite(found).all()
    rows = jnp.array([[0, 0, 0, 0, 0], [7, 7, 7, 7, 7]])
    found = explained(jaxplain.shapley_values(F, baseline=rows), IDS, 3, 2)
    np.testing.assert_allclose(found.sum(), F(IDS, 3, 2) - (F(rows[0], 3, 2) + F(rows[1], 3, 2)) / 2, atol=1e-4)


def test_a_number_that_is_no_id_and_several_arrays_are_refused():
    for baseline in (0.5, jnp.nan):
        with pytest.raises((TypeError, ValueError), match="`baseline"):
            jaxplain.feature_ablation(F, baseline=baseline)(IDS, 3, 2)
    with pytest.raises(TypeError, match="Pass `baseline=` an integer"):
        jaxplain.feature_ablation(lambda x: x["a"].sum() + 0.0)({"a": IDS, "mask": IDS > 0})


def linen(table):
    module = nn.Embed(*table.shape)
    return lambda ids: module.apply({"params": {"embedding": table}}, ids)


def nnx(table):
    from flax import nnx

    layer = nnx.Embed(*table.shape, rngs=nnx.Rngs(0))
    layer.embedding.set_value(table)
    apply, params = jaxplain.from_nnx(layer)
    return lambda ids: apply(params, ids)


def haiku(style):
    def make(table):
        import haiku as hk

        look = hk.transform(lambda ids: hk.Embed(embedding_matrix=table, lookup_style=style)(ids))
        return lambda ids: look.apply({"embed": {"embeddings": table}}, None, ids)

    return make


def equinox(table):
    import equinox as eqx

    layer = eqx.nn.Embedding(weight=table)
    return lambda ids: jax.vmap(jax.vmap(layer))(ids)


LAYERS = {
    "linen": linen,
    "nnx": nnx,
    "haiku": haiku("ARRAY_INDEX"),
    "haiku one-hot": haiku("ONE_HOT"),
    "equinox": equinox,
    "take": lambda table: lambda ids: jnp.take(table, ids, axis=0),
    "take and clip": lambda table: lambda ids: jnp.take(table, ids, axis=0, mode="clip"),
    "scaled": lambda table: lambda ids: (table / 2)[ids] * 2,
    "reversed": lambda table: lambda ids: table[ids[:, ::-1]][:, ::-1],
    "transposed": lambda table: lambda ids: table.T[:, ids].transpose(1, 2, 0),
    "jit": lambda table: jax.jit(lambda ids: table[ids]),
    "remat": lambda table: jax.checkpoint(lambda ids: table[ids]),
    "with a class token": lambda table: lambda ids: table[jnp.pad(ids, ((0, 0), (1, 0)))][:, 1:],
    "half": lambda table: lambda ids: table.astype(jnp.bfloat16)[ids].astype(jnp.float32),
}


@pytest.mark.parametrize("name", [n if n == "nnx" else pytest.param(n, marks=pytest.mark.slow) for n in LAYERS])
def test_look_ups_of_every_spelling_are_found(name):
    table, weights = PARAMS["embed"], jnp.linspace(-1, 1, 8)
    if name == "half":
        table = table.astype(jnp.bfloat16).astype(jnp.float32)
    layer = LAYERS[name](table)
    rows = table[IDS]
    wanted = ((1 - jnp.tanh(rows) ** 2) * rows * weights[None]).sum(-1)
    for f in (
        lambda ids: (jnp.tanh(layer(ids[None])) * weights).sum(),
        lambda ids: (jnp.tanh(layer(ids[None] * (ids[None] > 0) + 0)) * weights).sum(),
    ):
        with jax.numpy_rank_promotion("allow"):
            found = explained(jaxplain.input_x_gradient(f), IDS)
        np.testing.assert_allclose(found, wanted, rtol=2e-2 if name == "half" else 1e-4, atol=1e-5)


@pytest.mark.slow
def test_whole_datasets_of_ids():
    f = jaxplain.logit(lambda p, x: decoder(p, x)[:, -1], PARAMS)
    rows, labels = np.array([[3, 1, 4, 1, 5], [1, 2, 3, 4, 5], [5, 4, 3, 2, 1]], np.int32), np.array([1, 2, 3])
    for e, gap in (
        (jaxplain.integrated_gradients(f, steps=4), None),  # from rows of zeros, which are no ids
        (jaxplain.integrated_gradients(f, baseline=2, tolerance=1e-3, max_steps=64), 0.1),
        (jaxplain.shapley_values(f), 1e-3),
    ):
        found = jaxplain.explain_dataset(e, (rows, labels), batch_size=2, out="memory", progress=False)
        np.testing.assert_allclose(
            found.explanations["attribution"][:], jaxplain.explain_batch(e, rows, labels), atol=1e-4
        )
        assert ("gap" in found.explanations) == (gap is not None)
        if gap is not None:
            assert np.abs(found.explanations["gap"][:]).max() < gap
