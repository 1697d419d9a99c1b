"""Circuits of compiled programs, whose truth is known: `tracr-pypi`, an optional extra of the tests.

The truth is the set of edges whose exact ablation, by another input's value, changes the output. Gradients into
queries and keys vanish where attention logits saturate (they are 30 to 45 here), and so do those through the steps that
compiled perceptrons are made of: there the gradient of one point finds nothing, and the mean gradient on the way does.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import language
from jaxplain.internals import capture

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("tracr", reason="tracr-pypi is not installed (extra [circuits])")

from shared.compiled import compiled

pytestmark = pytest.mark.filterwarnings("ignore")
SHORT = ("share of a token so far", "histogram", "balance", "shift")
NAMES = (*SHORT, "reverse", "sort", "sort distinct", "balanced brackets")
HOWS = ("gradient", "integrated", "atp_star", "relevance")


@pytest.fixture(autouse=True)
def _as_tracr_needs_it():
    with jax.numpy_rank_promotion("allow"):
        yield


def auroc(scores, truth):
    """The chance that an edge of the truth scores above another; ties count half."""
    inside, outside = scores[truth][:, None], scores[~truth][None]
    return float((inside > outside).mean() + 0.5 * (inside == outside).mean())


def pairs(program, seed):
    """Every input, another one for each, and random weights of its outputs."""
    rng = np.random.default_rng(seed)
    other = program.inputs[rng.permutation(len(program.inputs))]
    shape = (len(other), program.inputs.shape[1] - 1, len(program.outputs))
    return program.inputs, other, jnp.asarray(rng.normal(size=shape), jnp.float32)


def over(e, *rows):
    return np.abs(np.asarray(jax.jit(jax.vmap(e))(*rows)))


def connected(program, edges):
    """Whether compiled weights lead from writer to reader: the product of what the one writes and the other reads."""
    params = {name: {k: np.asarray(v, np.float64) for k, v in p.items()} for name, p in program.model.params.items()}
    written = {"input": params["token_embed"]["embeddings"]}
    read = {"output": np.eye(len(program.model.residual_labels))[:, program.outputs]}
    heads = program.model.model_config.num_heads
    for name, p in params.items():
        path = name.removeprefix("transformer/")
        block, _, last = path.rpartition("/")
        if path.endswith("mlp/linear_2"):
            written[path] = p["w"]
        elif path.endswith("mlp/linear_1"):
            read[path.replace("linear_1", "linear_2")] = p["w"]
        elif "attn" in path:
            for head in range(heads):
                own = block if heads == 1 else f"{block}/head_{head}"
                if last == "linear":
                    written[own] = np.split(p["w"], heads, axis=0)[head]
                else:
                    read[f"{own}/{last}"] = np.split(p["w"], heads, axis=1)[head]
    return np.asarray([np.abs(written[writer] @ read[reader]).max() > 1e-9 for writer, reader in edges])


@functools.cache
def circuit(name):
    """The edges of a program, and those whose exact ablation changes its output."""
    program = compiled(name)
    rows = pairs(program, 0)
    edges = language.edges(program.score)(rows[0][0], rows[2][0])
    return edges, over(language.edge_patching(program.score), *rows).max(axis=0) > 1e-5


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=getattr(pytest.mark, "slow" if n in SHORT else "long")) for n in NAMES]
)
def test_exact_patching_finds_the_circuit(name):
    program, edges, truth = compiled(name), *circuit(name)
    clean, corrupt, w = pairs(program, 0)
    assert 0 < truth.sum() < len(edges)
    assert connected(program, edges)[truth].all()
    assert auroc(over(language.edge_patching(program.score), *pairs(program, 1)).mean(axis=0), truth) == 1.0
    kept = jnp.asarray(truth)
    alone = jax.jit(jax.vmap(language.circuit_score(program.score), (0, 0, None, 0)))(clean, corrupt, kept, w)
    np.testing.assert_allclose(alone, jax.vmap(program.score)(clean, w), rtol=1e-6, atol=1e-5)


def found_by_estimates(name):
    """How well each estimate orders the edges of a program."""
    program, (_, truth) = compiled(name), circuit(name)
    rows = pairs(program, 0)
    return {how: auroc(over(language.edge_attribution(program.score, how), *rows).mean(axis=0), truth) for how in HOWS}


@pytest.mark.long
def test_an_estimate_finds_most_circuits():
    found = {name: found_by_estimates(name) for name in NAMES}
    assert sum(max(values.values()) >= 0.9 for values in found.values()) >= 6, found
    assert sum(values["integrated"] >= 0.9 for values in found.values()) >= 6, found


@pytest.mark.slow
def test_values_inside_are_the_programs_own():
    program = compiled("share of a token so far")
    tokens = ["BOS", "x", "w", "x", "y"]
    ids = jnp.asarray(program.model.input_encoder.encode(tokens))
    run = lambda ids: program.model.forward(program.model.params, ids[None]).transformer_output.output[0]  # noqa: E731
    (stream,) = jax.tree.leaves([run(ids)])
    labels = program.model.residual_labels
    _, values = capture(run, "*layer_0/mlp/linear_2", "*layer_1/attn/linear")(ids)
    first, second = values.values()
    is_x = next(i for i, label in enumerate(labels) if label.startswith("map"))
    shares = next(i for i, label in enumerate(labels) if label.startswith("frac_prevs"))
    np.testing.assert_allclose(np.squeeze(first)[1:, is_x], [1, 0, 1, 0], atol=1e-5)
    np.testing.assert_allclose(np.squeeze(second)[1:, shares], [1, 1 / 2, 2 / 3, 1 / 2], atol=1e-5)
    np.testing.assert_allclose(stream[1:, shares], [1, 1 / 2, 2 / 3, 1 / 2], atol=1e-5)
    weights = list(language.attention_weights(run)(ids).values())[1]
    np.testing.assert_allclose(np.squeeze(weights)[4, 1:], 1 / 4, atol=1e-3)
