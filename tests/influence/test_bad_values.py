"""Values that cannot be right, in every function that would compute with them: told by name, none in silence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import influence, train
from shared.influence_calls import KEY, apply, setting

S = setting()
BEYOND = S.asked[0], jnp.array([0, 2, 7])


def fails_beyond_five(outputs, target):
    """Not a number for targets above 5."""
    return jnp.sqrt(5.0 - target) * jnp.sum(outputs**2)


@pytest.fixture(scope="module")
def bad():
    data = S.data[0], jnp.arange(8)
    return train.training_run(apply, S.params, data, key=KEY, epochs=1, batch_size=4, loss=fails_beyond_five)


REFUSED = {
    "a run's weights": (lambda: S.run(jnp.ones(5)), r"`weights` of shape \(5,\), but there are 8"),
    "a retraining's weights": (lambda: influence.retraining(S.run, S.queries)(jnp.ones(5)), r"of shape \(5,\)"),
    **{
        f"a query's label in {name}": (lambda call=call: call(S._replace(asked=BEYOND)), "target 7 is outside .* 3 out")
        for name, call in {
            "unrolled": lambda s: influence.unrolled(s.run, s.queries),
            "influence_function": lambda s: influence.influence_function(*s.given, damping=1.0),
            "gradient_similarity": lambda s: influence.gradient_similarity(*s.given),
            "tracin": lambda s: influence.tracin(apply, s.checkpoints, s.data, s.queries),
            "trak": lambda s: influence.trak(apply, s.checkpoints, s.data, s.asked, key=KEY),
            "representer_points": lambda s: influence.representer_points(apply, s.params, s.data, s.asked, damping=1.0),
            "retrain": lambda s: influence.retrain(s.run, jnp.ones((1, 8)), s.queries),
            "data_shapley": lambda s: influence.data_shapley(s.run, s.queries),
        }.items()
    },
    "a training label": (
        lambda: influence.trak(apply, S.checkpoints, (S.data[0], S.data[1] + 3), S.asked, key=KEY),
        "trak: target 3 is outside",
    ),
    "masks of nothing": (
        lambda: influence.influence_function(*S.given, held_out=(np.zeros((4, 8)), np.ones((4, 3)))),
        r"row 0 of `held_out\[0\]` leaves no example",
    ),
    "scores of a diverged retraining": (
        lambda: influence.influence_function(*S.given, held_out=(np.ones((4, 8)), np.full((4, 3), np.nan))),
        r"`held_out\[1\]` has 12 NaN",
    ),
    "another model's params": (
        lambda: influence.gradient_similarity(apply, {"w": jnp.ones(3)}, S.data, S.queries),
        r"`apply` does not run on the `params`, whose leaves have the shapes .*those of another model \(KeyError",
    ),
    "another model's checkpoints": (
        lambda: influence.tracin(apply, {"w": jnp.ones((2, 3))}, S.data, S.queries),
        "does not run on the `checkpoints`.* or are not stacked",
    ),
}
REFUSED["a Gram matrix without full rank"] = (
    lambda: influence.trak(
        lambda w, x: x[:, :1] * w[None], jnp.ones((1, 3)), S.data, S.asked, key=KEY, damping=0.0, dimension=8
    ),
    "trak: with `damping` 0 the Gram matrix of 8 examples in 8 dimensions is singular: the model has 3 params",
)


def test_what_cannot_be_right_is_refused_before_compute(monkeypatch):
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    for call, words in REFUSED.values():
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.slow
def test_an_example_without_a_finite_gradient_is_named_wherever_it_is_trained_on(bad):
    queries = S.queries
    for call in (
        lambda: influence.retrain(bad, jnp.ones((2, 8)), queries),
        lambda: influence.leave_one_out(bad, queries, rows=[0]),
        lambda: influence.banzhaf(bad, queries, samples=8, key=jax.random.key(5)),
        lambda: influence.data_shapley(bad, queries, samples=2, key=KEY),
        lambda: influence.metasmoothness(bad, key=KEY),
        lambda: influence.unrolled(bad, queries, masks=0),
    ):
        with pytest.raises(ValueError, match=r"training example 6 is not finite .*\(2 such examples"):
            call()
