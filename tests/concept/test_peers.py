"""Equal to captum 0.9 and CoRelAy 1.0 where they compute the same; numbers by `tests/peers/concept_peers.py`."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from jaxplain.concept import concept_vectors, spray, tcav
from jaxplain.concept.cluster.graph import affinity, laplacian, nearest, smallest
from shared.concept_peers import ASKED, FIRST, MAPS, NEIGHBOURS, SECOND, TARGET, WITH, WITHOUT

# fmt: off
WEIGHTS = [
    [1.0758088827133179, -2.1674344539642334, -0.7427976131439209, -0.19580097496509552, 1.398995280265808],
    [-1.0758088827133179, 2.1674344539642334, 0.7427976131439209, 0.19580097496509552, -1.398995280265808],
]
SIGN_COUNT, MAGNITUDE = [0.17499999701976776, 0.824999988079071], [-0.4903685450553894, 0.4903685450553894]
EIGENVALUES = [
    1.1102230246251565e-16, 2.220446049250313e-16, 0.013290650232931522, 0.303203658694413, 0.49958230100888734,
    0.5189172058992162,
]
DEGREES = [
    4.0, 4.5, 3.0, 5.0, 4.0, 6.5, 6.0, 5.5, 8.0, 3.5, 5.5, 5.0, 4.5, 4.5, 3.5, 6.0, 4.5, 4.0, 5.5, 4.5, 5.5, 6.0, 6.5,
    4.5, 4.5, 4.5, 4.5, 3.5, 6.0, 5.5, 5.5, 6.0,
]
# fmt: on


def head(h, label):
    return jnp.tanh(jnp.sin(h) @ SECOND)[label]


def test_sensitivities_along_captums_vectors_are_captums():
    """Its sign count is the score, its magnitude the mean sensitivity; it leaves vectors as long as they come out."""
    found = tcav(head, np.array(WEIGHTS), (ASKED @ FIRST).astype(np.float32), TARGET, samples=0, threshold=1.0)
    np.testing.assert_allclose(found.scores, SIGN_COUNT, rtol=1e-6)
    np.testing.assert_allclose(found.means, MAGNITUDE, rtol=1e-5)


def test_our_vectors_point_where_captums_does():
    """It fits by stochastic gradient descent on two thirds of the examples: alike, not equal."""
    rows = (np.concatenate([WITH, WITHOUT]) @ FIRST).astype(np.float32)
    for how in ("ridge", "lda", "logistic"):
        found = concept_vectors(rows, np.arange(60) < 30, how=how)
        cosine = found.vectors[0] @ np.array(WEIGHTS[0]) / np.linalg.norm(WEIGHTS[0])
        assert cosine > 0.4, (how, cosine)


def test_eigenvalues_are_corelays_for_its_graph():
    """It joins the two directions of neighbours by their mean, so that an edge of one direction weighs a half."""
    rows = MAPS.astype(np.float32)
    index, _ = nearest(jnp.asarray(rows), NEIGHBOURS, 32)
    start = np.repeat(np.arange(len(rows)), NEIGHBOURS)
    one_way = sparse.csr_matrix((np.ones(start.size), (start, np.ravel(index))), shape=(len(rows),) * 2)
    mean = ((one_way + one_way.T) / 2).tocsr()
    np.testing.assert_allclose(np.asarray(mean.sum(axis=1)).ravel(), DEGREES)
    np.testing.assert_allclose(smallest(laplacian(mean), 6, mean)[0], EIGENVALUES, atol=1e-8)
    ours = affinity(rows, NEIGHBOURS, None, 32)
    assert (ours.toarray() == np.ceil(mean.toarray())).all()
    found = spray(rows, key=jax.random.key(0), neighbours=NEIGHBOURS, norm="none")
    assert found.count == int(np.argmax(np.diff(EIGENVALUES))) + 1 == 3
