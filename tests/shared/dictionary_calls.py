"""What dictionaries are made and judged by, on one small layer, called so that what must not matter can be changed."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np

import jaxplain
from jaxplain import concept

KEY = jax.random.key(0)
COUNT, CONCEPTS = 6, 2


def apply(params, x):
    with jax.named_scope("layer"):
        h = jax.nn.relu(jnp.einsum("bijc,cd->bijd", x, params["a"]) + params["c"][None, None, None])
    return h.mean(axis=(1, 2)) @ params["b"]


PARAMS = {
    "a": jax.random.normal(jax.random.key(1), (2, 5)),
    "b": jax.random.normal(jax.random.key(2), (5, 3)),
    "c": jnp.full(5, 0.1),
}
F = jaxplain.logit(apply, PARAMS)
X = jax.random.uniform(jax.random.key(3), (COUNT, 6, 6, 2))
LABELS = jnp.array([0, 2, 1, 1, 0, 2])
BODY, HEAD = jaxplain.split(F, "layer")
H = jax.vmap(lambda x: BODY(x, 0))(X)
ROWS = H.reshape(-1, 5)
SITE = concept.layer_site(F, "layer", X[0], 0)
ATOMS = jnp.abs(jax.random.normal(jax.random.key(4), (CONCEPTS, 5)))
DICTIONARY = concept.NonNegativeDictionary(ATOMS, site=SITE)
GROUPS = np.stack([np.repeat(np.repeat(np.arange(4).reshape(2, 2), 3, 0), 3, 1)] * COUNT)
CRAFT = concept.craft(F, "layer", X, LABELS, k=CONCEPTS, window=3, samples=8)
SCORES = jnp.mean(DICTIONARY.encode(H), axis=(1, 2))
OUTPUTS = apply(PARAMS, X)
HELD = {"key": KEY, "fraction": 0.4}


def sobol(**settings):
    return concept.sobol_importance(DICTIONARY, HEAD, H[0], X[0], 0, samples=8, **settings)


CALLS = {
    "non_negative_factorization": lambda **k: concept.non_negative_factorization(ROWS, 2, **k),
    "non_negative_dictionary": lambda **k: concept.non_negative_dictionary(ROWS, 2, **k).atoms,
    "non_negative_coefficients": lambda **k: concept.non_negative_coefficients(H, ATOMS),
    "principal_components": lambda **k: concept.principal_components(ROWS, 2).atoms,
    "random_directions": lambda **k: concept.random_directions(ROWS, 2, **{"key": KEY, **k}).atoms,
    "k_means": lambda **k: concept.k_means(ROWS, 2, **{"key": KEY, **k}).atoms,
    "sobol_indices": lambda **k: concept.sobol_indices(lambda m: m[0] ** 2 + m[1], 2, samples=8, **k),
    "sobol_importance": sobol,
    "craft": lambda **k: concept.craft(F, "layer", X, LABELS, k=2, window=3, samples=8, **k)[1:4:2],
    "sub_concepts": lambda **k: concept.sub_concepts(
        CRAFT, F, "layer", X, LABELS, concept=0, k=2, samples=8, fraction=0.5, **k
    )[1:4:2],
    "top_crops": lambda **k: concept.top_crops(CRAFT, X, 2),
    "ace": lambda **k: concept.ace(F, "layer", X, GROUPS, LABELS, k=2, **{"key": KEY, **k}).rows,
    "concept_maps": lambda **k: jaxplain.explain_batch(concept.concept_maps(F, DICTIONARY), X, LABELS),
    "concept_readout": lambda **k: concept.concept_readout(DICTIONARY, H, OUTPUTS, **{**HELD, **k}),
    "sparse_surrogate": lambda **k: concept.sparse_surrogate(jnp.sin, SCORES, **{**HELD, **k}),
    "tree_surrogate": lambda **k: concept.tree_surrogate(jnp.sin, SCORES, least=1, **{**HELD, **k}),
}
"""`call(**settings)` gives arrays."""

QUICK = {"random_directions", "sobol_indices", "top_crops"}
"""What compiles little."""


def takes(name, argument):
    """Whether the function of a call has an argument."""
    return argument in inspect.signature(getattr(concept, name)).parameters


def equal(found, right, name, bits=False):
    """Equal to 1e-4 of the largest entry, or to the bit."""
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        scale = np.nanmax(np.abs(other), initial=1e-30)
        np.testing.assert_allclose(one, other, rtol=0, atol=0 if bits else 1e-4 * scale, equal_nan=True, err_msg=name)
