"""Every public function of `jaxplain.influence` on one small run, called so that what must not matter can be changed.

A call is `call(setting, **settings) -> arrays`; `SETTINGS` says by the function's own signature what it takes.
"""

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxplain import influence, train

KEY = jax.random.key(0)
COUNT, QUERIES, CLASSES = 8, 3, 3
SAMPLED = {"samples": 6, "key": jax.random.key(5)}


def apply(params, x):
    return jnp.tanh(x @ params["a"] + params["c"][None]) @ params["b"]


class Setting(NamedTuple):
    """What the functions are called with; `rows` picks queries."""

    run: Any
    params: Any
    checkpoints: Any
    data: Any
    asked: Any

    @property
    def queries(self):
        return influence.query_scores(apply, self.asked, influence.log_odds, higher_is_better=True)

    @property
    def own(self):
        """Scores of the training examples."""
        return influence.query_scores(apply, self.data)

    @property
    def given(self):
        return apply, self.params, self.data, self.queries

    def asking(self, rows):
        """The same of some queries only."""
        return self._replace(asked=jax.tree.map(lambda a: a[rows], self.asked))


def setting(every=None, place=lambda a: a):
    """The run and what it is asked; `place` puts the training examples on devices."""
    x, y = place(jax.random.normal(jax.random.key(1), (COUNT, 3))), place(jnp.arange(COUNT) % CLASSES)
    a, b = (jax.random.normal(jax.random.key(k), s) for k, s in ((2, (3, 4)), (3, (4, CLASSES))))
    params = {"a": a, "b": b, "c": jnp.full(4, 0.1)}
    run = train.training_run(
        apply, params, (x, y), key=KEY, epochs=2, batch_size=3, optimizer=optax.sgd(0.2, momentum=0.9), every=every
    )
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.9 * leaf]), params)
    asked = jax.random.normal(jax.random.key(4), (QUERIES, 3)), jnp.array([0, 2, 1])
    return Setting(run, params, stacked, (x, y), asked)


def values(found):
    """The arrays of a result that its checks and names are taken off."""
    return (found.values, found.scores) if isinstance(found, influence.Influence) else found


def _fixed():
    """An attribution, masks and scores that the judging functions judge."""
    rng = np.random.default_rng(0)
    found = influence.Influence(rng.normal(size=(QUERIES, COUNT)), None, "score", True, "by hand", {})
    masks = (rng.random((20, COUNT)) > 0.3).astype(np.float32)
    return found, masks, masks @ found.values.T + rng.normal(size=(20, QUERIES)) / 3


FOUND, MASKS, SCORES = _fixed()
SOLVERS = ("explicit", "cg", "arnoldi", "ekfac", "lissa")


def _solver(name):
    steps = {} if name in ("explicit", "ekfac") else {"steps": {"cg": 60, "arnoldi": 40, "lissa": 300}[name]}

    def call(s, **settings):
        return influence.influence_function(*s.given, solver=name, damping=2.0, **steps, **settings)

    return call


def _curve(name):
    def call(s, **settings):
        settings = {"counts": (1, 2), **({"threshold": -9.0} if name == "counterfactual_curve" else {}), **settings}
        return getattr(influence, name)(s.run, s.queries, FOUND, **settings).rows

    return call


CALLS = {
    "unrolled": lambda s, **k: influence.unrolled(s.run, s.queries, masks=0, **k),
    **{f"influence_function {name}": _solver(name) for name in SOLVERS},
    "gradient_similarity": lambda s, **k: influence.gradient_similarity(*s.given, **k),
    "gradient_similarity cosine": lambda s, **k: influence.gradient_similarity(
        apply, s.params, s.data, lambda p: s.queries(p), similarity="cosine", **k
    ),
    "tracin": lambda s, **k: influence.tracin(apply, s.checkpoints, s.data, s.queries, **k),
    "trak": lambda s, **k: influence.trak(
        apply, s.checkpoints, s.data, s.asked, key=KEY, dimension=6, damping=1.0, **k
    ),
    "self_influence": lambda s, **k: influence.self_influence(apply, s.params, s.data, damping=1.0, **k),
    "representer_points": lambda s, **k: influence.representer_points(
        apply, s.params, s.data, s.asked, damping=1.0, **k
    ),
    "knn_shapley": lambda s: influence.knn_shapley(*s.data, *s.asked),
    "retrain": lambda s, **k: influence.retrain(s.run, MASKS[:5], s.queries, **k),
    "retraining": lambda s: jax.lax.map(influence.retraining(s.run, s.queries), jnp.asarray(MASKS[:5])),
    "leave_one_out": lambda s, **k: influence.leave_one_out(s.run, s.queries, rows=[1, 4, 6, 7], **k),
    "data_shapley": lambda s, **k: influence.data_shapley(s.run, s.queries, **SAMPLED, **k),
    "beta_shapley": lambda s, **k: influence.beta_shapley(s.run, s.queries, **SAMPLED, **k),
    "banzhaf": lambda s, **k: influence.banzhaf(s.run, s.queries, **{**SAMPLED, "samples": 16}, **k),
    "data_out_of_bag": lambda s, **k: influence.data_out_of_bag(s.run, s.own, **{**SAMPLED, "samples": 16}, **k),
    "metasmoothness": lambda s: influence.metasmoothness(s.run, key=KEY, fraction=0.3),
    "leave_out_curve": _curve("leave_out_curve"),
    "counterfactual_curve": _curve("counterfactual_curve"),
    "tail_patch": lambda s: influence.tail_patch(s.run, s.queries, FOUND, k=2),
    "query_scores": lambda s: s.queries(s.params),
}
"""What computes on a model or on data."""


def takes(name, argument):
    """Whether the function of a call has an argument."""
    return argument in inspect.signature(getattr(influence, name.split()[0])).parameters


def equal(found, right, name, bits=False):
    """Equal to 1e-5 of the largest entry, or to the bit."""
    for one, other in zip(jax.tree.leaves(values(found)), jax.tree.leaves(values(right)), strict=True):
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        scale = np.nanmax(np.abs(other), initial=1e-30)
        tolerance = {"rtol": 0, "atol": 0 if bits else 1e-5 * scale}
        np.testing.assert_allclose(one, other, **tolerance, equal_nan=True, err_msg=name)
