"""CRAFT: planted textures found in crops, importance as the head has it, recursion, maps and the concept as a score."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.stats import qmc

import jaxplain
from jaxplain import concept
from jaxplain.concept.dictionary.rows import cropped, image_pieces

KERNELS = np.zeros((3, 3, 1, 3), np.float32)
KERNELS[:, :, 0, 0] = [[-1, 2, -1]] * 3  # vertical lines
KERNELS[:, :, 0, 1] = np.transpose([[-1, 2, -1]] * 3)  # horizontal lines
KERNELS[1, 1, 0, 2] = 1  # brightness
MIXED = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]], np.float32).T
WEIGHTS = np.array([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]], np.float32)
PARAMS = {"k": jnp.asarray(KERNELS), "m": jnp.asarray(MIXED), "w": jnp.asarray(WEIGHTS)}


def apply(params, x):
    with jax.named_scope("lines"):
        layout = ("NHWC", "HWIO", "NHWC")
        h = jax.nn.relu(jax.lax.conv_general_dilated(x, params["k"], (1, 1), "SAME", dimension_numbers=layout))
    with jax.named_scope("mixed"):
        h = jax.nn.relu(h @ params["m"])
    return h.mean(axis=(1, 2)) @ params["w"]


F = jaxplain.logit(apply, PARAMS)


def pictures():
    """Half of each image vertical lines, half horizontal ones, of random strengths."""
    rng = np.random.default_rng(0)
    lines = np.tile([1.0, 0.0], 6)
    x = np.zeros((4, 12, 12, 1), np.float32)
    for image in x:
        image[:, :6, 0] = rng.uniform(0.5, 1.5) * lines[None, :6]
        image[:, 6:, 0] = rng.uniform(0.5, 1.5) * lines[:, None]
    return jnp.asarray(x)


X = pictures()
FOUND = concept.craft(F, "mixed", X, 0, k=2, window=4, stride=2)


def test_planted_textures_are_the_concepts_and_what_the_score_reads_is_important():
    # units: vertical, horizontal, brightness, half of both
    order = np.argsort(-np.asarray(FOUND.dictionary.atoms)[:, 0])
    vertical, horizontal = np.asarray(FOUND.dictionary.atoms)[order]
    assert vertical[0] > 1.5 * vertical[1]
    assert horizontal[1] > 1.5 * horizontal[0]
    importance = np.asarray(FOUND.importance)[order]
    assert importance[0] > 0.75 > 0.25 > importance[1]  # logit 0 reads vertical lines
    other = concept.craft(F, "mixed", X, 1, k=2, window=4, stride=2)
    np.testing.assert_array_equal(other.dictionary.atoms, FOUND.dictionary.atoms)
    assert np.asarray(other.importance)[order][1] > 0.7
    best = np.asarray(FOUND.codes).argmax(axis=0)[order]
    assert np.asarray(FOUND.corners)[best[0], 1] < 6 <= np.asarray(FOUND.corners)[best[1], 1] + 3
    assert "100 crops of 4 x 4" in repr(FOUND)
    assert FOUND.dictionary.site == concept.layer_site(F, "mixed", X[0], 0)


def test_importance_is_that_of_each_example_by_itself():
    body, head = jaxplain.split(F, "mixed")
    for i in (0, 3):
        alone = concept.sobol_importance(FOUND.dictionary, head, body(X[i], 0), X[i], 0)
        np.testing.assert_allclose(FOUND.totals[i], alone.total, atol=1e-5)
    np.testing.assert_allclose(FOUND.importance, FOUND.totals.mean(axis=0), rtol=1e-5)


@pytest.mark.slow
def test_codes_are_those_of_the_crops_at_full_size():
    body, _ = jaxplain.split(F, "mixed")
    for r in (0, 37):
        crop = cropped(X, FOUND.examples[r], FOUND.corners[r], 4)
        whole = jax.image.resize(crop, (12, 12, 1), "linear", antialias=False)
        rest = body(whole, 0).mean(axis=(0, 1)) - FOUND.codes[r] @ FOUND.dictionary.atoms
        again = FOUND.dictionary.encode(body(whole, 0).mean(axis=(0, 1)))
        np.testing.assert_allclose(again, FOUND.codes[r], atol=2e-2 * float(FOUND.codes.max()))
        assert np.abs(rest).max() < 0.2 * float(FOUND.codes.max())
    crops = concept.top_crops(FOUND, X, 3)
    assert crops.shape == (2, 3, 4, 4, 1)
    best = np.argsort(-np.asarray(FOUND.codes[:, 1]), kind="stable")[2]
    np.testing.assert_array_equal(crops[1, 2], cropped(X, FOUND.examples[best], FOUND.corners[best], 4))


def test_crops_cover_every_image_to_its_border():
    for length, window, stride in ((12, 5, None), (12, 4, 5), (7, 7, None), (9, 1, 3)):
        _, pieces = image_pieces(jnp.zeros((2, length, length + 1)), window, stride, "craft")
        seen = np.zeros((2, length, length + 1), bool)
        for example, (top, left) in zip(np.asarray(pieces.examples), np.asarray(pieces.corners), strict=True):
            seen[example, top : top + window, left : left + window] = True
        assert seen.all() or (stride or 0) > window
        assert seen[:, -1, -1].all()


@pytest.mark.slow
def test_batches_and_keys():
    again = concept.craft(F, "mixed", X, jnp.zeros(4, int), k=2, window=4, stride=2, batch_size=7)
    np.testing.assert_allclose(again.importance, FOUND.importance, atol=1e-4)
    np.testing.assert_allclose(again.dictionary.atoms, FOUND.dictionary.atoms, atol=1e-4)
    one, same, other = (
        concept.craft(F, "mixed", X, 0, k=2, window=4, stride=2, key=jax.random.key(n)) for n in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.importance, same.importance)
    np.testing.assert_array_equal(one.codes, same.codes)
    assert not np.array_equal(one.importance, other.importance)
    assert concept.stability([one.dictionary, other.dictionary]) > 0.9


@pytest.mark.slow
def test_a_concept_is_taken_apart_in_a_former_layer():
    vertical = int(np.asarray(FOUND.dictionary.atoms)[:, 0].argmax())
    parts = concept.sub_concepts(FOUND, F, "lines", X, 0, concept=vertical, k=2, fraction=0.2)
    assert parts.dictionary.site.layer == "lines"
    assert len(parts.codes) == 20
    chosen = np.argsort(-np.asarray(FOUND.codes[:, vertical]), kind="stable")[:20]
    pairs = {tuple(row) for row in np.column_stack([FOUND.examples, FOUND.corners])[chosen].tolist()}
    assert {tuple(row) for row in np.column_stack([parts.examples, parts.corners]).tolist()} == pairs
    first = parts.dictionary.atoms[int(parts.importance.argmax())]
    assert first[0] > first[1]  # made of vertical lines (and brightness)


@pytest.mark.slow
def test_places_of_a_layer_are_pieces_where_there_is_no_window():
    found = concept.craft(F, "mixed", X, 0, k=2, samples=8)
    h = jax.vmap(lambda x: jaxplain.split(F, "mixed")[0](x, 0))(X)
    assert found.codes.shape == (4 * 144, 2)
    piece = int(np.argmax(found.codes[:, 0]))
    row = h[(found.examples[piece], *found.corners[piece])]
    np.testing.assert_allclose(found.dictionary.encode(row), found.codes[piece], atol=0.05)
    parts = concept.sub_concepts(found, F, "lines", X, 0, concept=0, k=2, samples=8)  # the same places
    assert parts.codes.shape[1] == 2
    with pytest.raises(ValueError, match="places of a layer, not crops"):
        concept.top_crops(found, X)


def test_maps_lie_where_the_concept_is():
    maps = concept.concept_maps(F, FOUND.dictionary)(X[0], 0)
    assert maps.shape == (12, 12, 2)
    h = jaxplain.split(F, "mixed")[0](X[0], 0)
    np.testing.assert_allclose(maps, FOUND.dictionary.encode(h), atol=1e-5)
    vertical = int(np.asarray(FOUND.dictionary.atoms)[:, 0].argmax())
    assert maps[:, :5, vertical].sum() > 1.5 * maps[:, 7:, vertical].sum()
    batch = jaxplain.explain_batch(concept.concept_maps(F, FOUND.dictionary), X, 0)
    np.testing.assert_allclose(batch[0], maps, atol=1e-5)


@pytest.mark.usefixtures("double")
@pytest.mark.slow
def test_a_concept_as_a_score_has_the_implicit_derivative():
    params = jax.tree.map(lambda a: a.astype(jnp.float64), PARAMS)
    f = jaxplain.logit(apply, params)
    rng = np.random.default_rng(1)
    x = jnp.asarray(np.asarray(X[0], float) + 0.05 * rng.random((12, 12, 1)))
    dictionary = concept.NonNegativeDictionary(jnp.asarray(FOUND.dictionary.atoms, jnp.float64))
    score = jax.jit(concept.feature_score(f, "mixed", dictionary, 1))
    slope, along = jax.grad(score)(x, 0), rng.normal(size=x.shape)
    right = (score(x + 1e-7 * along, 0) - score(x - 1e-7 * along, 0)) / 2e-7
    np.testing.assert_allclose((slope * along).sum(), right, rtol=1e-4)


def negative(params, x):
    with jax.named_scope("signed"):
        h = x.reshape(x.shape[0], -1)[:, :4] - 0.25
    return h.sum(axis=1)


SIGNED = jaxplain.logit(negative, {})
DEAD = jaxplain.logit(apply, jax.tree.map(lambda a: 0 * a, PARAMS))
BAD = {
    "negative": (
        lambda: concept.craft(lambda x: negative({}, x[None])[0], "signed", X, k=2),
        r"craft: the layer 'signed' has \d+ negative values of 16 .*Cut after the ReLU",
    ),
    "constant": (lambda: concept.craft(DEAD, "mixed", X, 0, k=2, window=4), "craft: all .* rows .* are equal"),
    "k": (lambda: concept.craft(F, "mixed", X, 0, k=5), "`k` is 5, but an activation has 4"),
    "k of 0": (lambda: concept.craft(F, "mixed", X, 0, k=0), "craft: `k` has to be at least 1"),
    "window": (lambda: concept.craft(F, "mixed", X, 0, k=2, window=13), "`window` is 13, but the images are 12 x 12"),
    "stride alone": (lambda: concept.craft(F, "mixed", X, 0, k=2, stride=2), "without a `window` there are no crops"),
    "tokens": (lambda: concept.craft(F, "mixed", X[..., 0, 0], 0, k=2, window=2), "crops are of images"),
    "labels": (lambda: concept.craft(F, "mixed", X, jnp.zeros(3, int), k=2), "there are 4 examples"),
    "NaN": (lambda: concept.craft(F, "mixed", X.at[0, 0].set(np.nan), 0, k=2), "craft: `x` has 12 NaN"),
    "layer": (lambda: concept.craft(F, "mixt", X, 0, k=2), "there is no layer 'mixt'"),
    "concept": (lambda: concept.sub_concepts(FOUND, F, "lines", X, 0, concept=2), "`concept` is 2, but there are 2"),
    "other examples": (lambda: concept.sub_concepts(FOUND, F, "lines", X[:2], 0, concept=0), "`x` has 2 examples"),
    "other model": (lambda: concept.sub_concepts(FOUND, DEAD, "lines", X, 0, concept=0), "with the fingerprint"),
    "no craft": (lambda: concept.top_crops(np.eye(3), X), "`found` has to be a Craft"),
    "more crops": (lambda: concept.top_crops(FOUND, X, 101), "there are 100 crops"),
    "maps elsewhere": (
        lambda: concept.concept_maps(F, FOUND.dictionary, layer="lines")(X[0], 0),
        "describes the layer 'mixed', but it is used at 'lines'",
    ),
    "maps of no site": (
        lambda: concept.concept_maps(F, concept.NonNegativeDictionary(jnp.eye(4))),
        "has no site that says its layer. Pass `layer=`",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_calls_are_told(name):
    with pytest.raises((ValueError, TypeError), match=BAD[name][1]):
        BAD[name][0]()


def test_importance_is_that_of_the_reference_computed_anew_in_numpy():
    """The procedure of the authors' package: codes by least squares at each place, masks, Jansen's estimator."""
    h = np.asarray(jaxplain.split(F, "mixed")[0](X[1], 0), np.float64)
    atoms = np.asarray(FOUND.dictionary.atoms, np.float64)
    codes = np.stack([nnls(atoms.T, row)[0] for row in h.reshape(-1, 4)])
    points = qmc.Sobol(4, scramble=False).random(32)
    first, second = points[:, :2], points[:, 2:]
    masks = np.concatenate([first, *(np.where(np.arange(2) == i, second, first) for i in range(2))])
    scores = np.array([((codes * mask) @ atoms).mean(axis=0) @ WEIGHTS[:, 0] for mask in masks])
    own, others = scores[:32], scores[32:].reshape(2, 32)
    right = np.sum((others - own) ** 2, axis=1) / (2 * 32 * np.var(own, ddof=1))
    np.testing.assert_allclose(FOUND.totals[1], right, atol=1e-4)
