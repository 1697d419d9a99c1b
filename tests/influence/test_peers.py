"""Equal to peers after the documented factors: dattri 0.3.0 and Captum 0.9, by `tests/peers/influence_peers.py`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxplain import influence
from shared.peer_training import (
    ASKED_DIGITS,
    CHECKPOINTS,
    DAMPING,
    DIGITS,
    EARLIER,
    LABELS,
    LAYERS,
    QUERIES,
    QUERY_LABELS,
    RATES,
    REGULARIZATION,
    X,
)

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
# The network of digits, after the factors: of each query the sum over all 40 examples, and the first six of them.
DIGITS_TRACIN = [4.766111585915805, -28.474696556835774, -58.93739810036881], [
    [3.285051711026041, -3.7347625437053766, -1.2028490830915457, 3.2076275880480294, -5.395200648432118,
     1.8839831133646001],
    [-5.487040390342013, 4.840009477470716, -1.5387166407232993, -2.1251749957775243, 3.7433229919541384,
     -4.527737583927067],
    [-3.5492101013325668, 8.658962006368283, -7.793208238973919, 2.36806375114417, 1.6006966483201746,
     -9.803508450884424],
]
DIGITS_DOT = [5.7988832280102764, -158.089791698159, -401.3662135947547], [
    [15.005572914116982, -17.161543148426304, -10.516973261473852, 18.45084785282701, -24.333908752396926,
     5.713602659267136],
    [-25.421462653426705, 26.093564960350147, -11.455806991947492, -8.783616782608092, 15.37751943653791,
     -24.20316836686771],
    [-21.544926744785627, 53.66731882079554, -49.18750004116853, 16.434225541116735, 5.956108835600415,
     -55.344458233025215],
]
DIGITS_EXPLICIT = [0.6818612654769532, -2.6952957505976882, -13.959051036052287], [
    [0.1677049483750676, -0.07938264926246014, 0.047576301221925285, 0.00829478205222147, -0.37711235573031315,
     0.1417804555307409],
    [-0.423245742060539, -0.03523500050749, -0.030795165855239864, -0.028277727425134035, 0.15015114998642065,
     -0.21056674268143075],
    [-0.5105984825353997, 0.14177526760994505, 0.0025982830593749584, 0.08783128613339289, 0.08572196156410289,
     -0.8526883589065074],
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


def network(params, x):
    (a, c), (b, d) = params
    return jnp.tanh(x @ a + c[None]) @ b + d[None]


@pytest.mark.slow
def test_a_network_of_digits_has_the_values_of_dattri_and_captum(double):
    x, y = load_digits(return_X_y=True)
    data, asked = (x[DIGITS] / 16, y[DIGITS]), (x[ASKED_DIGITS] / 16, y[ASKED_DIGITS])
    queries, last = influence.query_scores(network, asked), jax.tree.map(jnp.asarray, LAYERS)
    stacked = jax.tree.map(lambda one, other: jnp.stack([one, other]), EARLIER, LAYERS)
    found = {
        "TracIn": influence.tracin(network, stacked, data, queries, learning_rates=np.array(RATES)),
        "dot": influence.gradient_similarity(network, last, data, queries),
        "explicit": influence.influence_function(network, last, data, queries, curvature="hessian", damping=DAMPING),
    }
    for name, (sums, first) in zip(found, (DIGITS_TRACIN, DIGITS_DOT, DIGITS_EXPLICIT), strict=True):
        np.testing.assert_allclose(found[name].values.sum(1), sums, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(found[name].values[:, :6], first, rtol=1e-6, err_msg=name)
