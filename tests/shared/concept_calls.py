"""Every public function of `jaxplain.concept`, called so that what must not matter can be changed.

A call is `call(setting, **settings) -> arrays`; `takes` says by the function's own signature what it may be given.
"""

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import concept

KEY = jax.random.key(0)
COUNT, ASKED, SIZE = 64, 9, 6
WEIGHTS = np.asarray(jax.random.normal(jax.random.key(1), (SIZE, SIZE)))


def score(x, label):
    """A score with a layer."""
    with jax.named_scope("hidden"):
        h = jnp.tanh(x @ WEIGHTS)
    return jnp.sin(h @ WEIGHTS)[label]


def head(h, label):
    """The part after the layer."""
    return jnp.sin(h @ WEIGHTS)[label]


class Setting(NamedTuple):
    """What the functions are called with."""

    rows: Any
    labels: Any
    asked: Any
    targets: Any

    @property
    def vectors(self):
        return concept.concept_vectors(self.rows, self.labels)

    @property
    def regions(self):
        return concept.concept_regions(self.rows, self.labels)


def setting(place=lambda a: a):
    """Rows, concepts and what is asked about; `place` puts arrays on devices."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(COUNT, SIZE)).astype(np.float32)
    rows[:8, 0] += 3
    labels = np.zeros((2, COUNT), int)
    labels[0, :8], labels[0, 8:16] = 1, -1
    labels[1, 20:26], labels[1, 30:38] = 1, -1
    asked = rng.normal(size=(ASKED, SIZE)).astype(np.float32)
    return Setting(place(rows), labels, asked, np.arange(ASKED) % SIZE)


def _tested(found):
    return found.means, found.scores, found.p, found.low, found.high, found.random_low


CALLS = {
    "concept_vectors": lambda s, **k: concept.concept_vectors(s.rows, s.labels, **k).vectors,
    "concept_vectors mean": lambda s, **k: concept.concept_vectors(s.rows, s.labels, how="mean", **k).vectors,
    "concept_vectors lda": lambda s, **k: concept.concept_vectors(s.rows, s.labels, how="lda", **k).vectors,
    "concept_vectors logistic": lambda s, **k: concept.concept_vectors(s.rows, s.labels, how="logistic", **k).vectors,
    "concept_similarity": lambda s, **k: concept.concept_similarity(s.vectors, **k),
    "concept_sensitivity": lambda s, **k: concept.concept_sensitivity(head, s.vectors, s.asked, s.targets, **k),
    "tcav": lambda s, **k: _tested(concept.tcav(head, s.vectors, s.asked, s.targets, key=KEY, samples=99, **k)),
    "tcav score": lambda s, **k: _tested(
        concept.tcav(head, s.vectors, s.asked, s.targets, key=KEY, samples=99, statistic="score", **k)
    ),
    "tcav_t_test": lambda s, **k: concept.tcav_t_test(
        head, s.vectors, s.asked, s.targets, key=KEY, samples=5, statistic="mean", **k
    ),
    "tcav_layers": lambda s, **k: _tested(
        concept.tcav_layers(score, ["hidden"], s.rows, s.labels, s.asked, s.targets, key=KEY, samples=99, **k)["hidden"]
    ),
    "concept_regions": lambda s, **k: concept.concept_regions(s.rows, s.labels, **k).weights,
    "region_scores": lambda s, **k: concept.region_scores(s.regions, s.asked, **k),
    "concept_score": lambda s: concept.concept_score(score, "hidden", s.vectors.vectors[0])(s.asked[0], 1),
    "through_concept": lambda s: concept.through_concept(score, "hidden", s.vectors.vectors[0])(
        s.asked[0], s.asked[1], 1
    ),
    "spray": lambda s, **k: concept.spray(np.asarray(s.rows), key=KEY, **k).eigenvalues,
    "cluster_places": lambda s: concept.cluster_places(np.asarray(s.rows)),
    "prototypes": lambda s: concept.prototypes(s.rows),
    "counterfactual_examples": lambda s, **k: concept.counterfactual_examples(
        s.rows, np.arange(COUNT) % 3, s.asked, np.arange(ASKED) % 3, k=2, **k
    ),
}
"""What computes on a model or on data."""

ELSEWHERE = {"layer_consistency"}
"""Functions of what others computed."""


def takes(name, argument):
    """Whether the function of a call has an argument."""
    return argument in inspect.signature(getattr(concept, name.split()[0])).parameters


def equal(found, right, name, bits=False):
    """Equal to 2e-5 of the largest entry, or to the bit."""
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        scale = np.max(np.abs(other), initial=1e-30, where=np.isfinite(other))
        np.testing.assert_allclose(one, other, rtol=0, atol=0 if bits else 2e-5 * scale, err_msg=name)
