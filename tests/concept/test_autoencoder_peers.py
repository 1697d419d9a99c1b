"""Codes, losses and gradients of each architecture beside SAELens' with equal weights (`tests/peers/sae_peers.py`)."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import concept
from jaxplain.concept.autoencoder import SparseModel
from shared import peer_dictionaries as p

RECORDED = json.loads((Path(__file__).parents[1] / "peers" / "sae.json").read_text(encoding="utf-8"))
OURS = {
    "standard": concept.relu_l1(p.PENALTY),
    "topk": concept.top_k(p.K),
    "batchtopk": concept.batch_top_k(p.K),
    "jumprelu": concept.jump_relu(penalty=p.PENALTY, bandwidth=p.BANDWIDTH),
    "matryoshka": concept.matryoshka(p.K, p.SIZES),
    "gated": concept.gated(p.PENALTY),
}
NAMES = {
    "encoder": "W_enc", "atoms": "W_dec", "offset": "b_dec", "bias": "b_enc", "log_gain": "r_mag",
    "size_bias": "b_mag", "log_threshold": "threshold",
}  # fmt: skip


QUICK = ("batchtopk", "jumprelu")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in OURS])
@pytest.mark.slow
def test_codes_loss_and_gradients_are_those_of_the_peer(name):
    architecture, recorded = OURS[name], RECORDED[name]
    trained = {"encoder": p.ENCODER, "atoms": p.DECODER, "offset": p.OFFSET, "bias": p.BIAS}
    extra = {"log_threshold": np.log(p.THRESHOLD), "log_gain": p.GAIN, "size_bias": p.SIZE_BIAS}
    started, carried = architecture.start(p.ATOMS)
    trained = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), {**trained, **{n: extra[n] for n in started}})
    carried |= {"silent": jnp.zeros(p.ATOMS, jnp.int32), "scale": jnp.ones(()), "target_scale": jnp.ones(())}
    model, rows = SparseModel(architecture, auxiliary=0.0), jnp.asarray(p.ROWS, jnp.float32)

    def loss(trained):
        return model.train({"trained": trained, "carried": carried}, (rows,), jax.random.key(0))[0].mean()

    value, gradient = jax.value_and_grad(loss)(trained)
    np.testing.assert_allclose(value, recorded["loss"], rtol=1e-5)
    before = (rows - trained["offset"][None]) @ trained["encoder"] + trained["bias"][None]
    codes = architecture.batch_codes({**trained, **carried}, before)
    np.testing.assert_allclose(codes, np.asarray(recorded["codes"]), atol=1e-5)
    for own, values in gradient.items():
        if name == "gated" and own in ("atoms", "offset"):
            continue  # in the gate's reconstruction ours are held still, as the source says, and the peer's are not
        theirs = "b_gate" if name == "gated" and own == "bias" else NAMES[own]
        expected = np.asarray(recorded["gradients"][theirs])
        expected = expected * p.THRESHOLD if own == "log_threshold" else expected  # the peer trains it as it is
        np.testing.assert_allclose(values, expected, atol=2e-5, err_msg=own)
