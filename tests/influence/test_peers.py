"""Equal to peers after the documented factors: dattri 0.3.0 and Captum 0.9, by `tests/peers/influence_peers.py`."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import influence
from shared.peer_training import CHECKPOINTS, LABELS, QUERIES, QUERY_LABELS, RATES, REGULARIZATION, X

# fmt: off
TRACIN = [
    [-0.2098417098433676, -0.23805405060453516, 0.2894839653180433, -0.3387701762949343,
     -0.15726135714554834, -0.2557118611640091],
    [0.12983784497381462, -0.23374322702898528, 0.5259235029104645, -0.08982429090373166,
     0.13054766704058943, -0.5837320612834016],
]
DOT = [
    [-0.5700707168736752, -0.627713197982355, 0.6781814959374378, -0.8449760720419361,
     -0.4092158119508028, -0.4528564607479144],
    [0.31614116499886524, -0.7338100947454625, 1.0787450284598412, -0.18951472182660836,
     0.12801989910153852, -1.4143281614032146],
]
EXPLICIT = [
    [-1.2874097356900416, -1.2871681126109553, 1.476119104579121, -1.9330389152382648,
     -0.8825368008473061, -0.974627572462198],
    [0.5206374074367701, -1.9740150961844432, 2.47715978548627, -0.2962170992298941,
     0.4085785043609408, -3.2181885923839264],
]
# fmt: on


def linear(params, x):
    return x @ params


@pytest.mark.slow
def test_products_and_influence_functions_are_those_of_dattri(double):
    data, queries = (X, LABELS), influence.query_scores(linear, (QUERIES, QUERY_LABELS))
    checkpoints = jnp.asarray(CHECKPOINTS)
    # Products have the other sign there.
    found = influence.tracin(linear, checkpoints, data, queries, learning_rates=np.array(RATES))
    np.testing.assert_allclose(found.values, -np.array(TRACIN), rtol=1e-6)
    found = influence.gradient_similarity(linear, checkpoints[-1], data, queries)
    np.testing.assert_allclose(found.values, -np.array(DOT), rtol=1e-6)
    # There the curvature is of the mean loss, and its penalty beside the mean: ours is of the sum, and per example.
    found = influence.influence_function(
        linear, checkpoints[-1], data, queries, curvature="hessian", damping=len(X) * REGULARIZATION
    )
    np.testing.assert_allclose(found.values, -np.array(EXPLICIT) / len(X), rtol=1e-6)
