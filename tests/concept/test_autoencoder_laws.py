"""What each architecture of sparse autoencoders has to be by its formula."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxplain import concept
from jaxplain.concept.autoencoder import SparseModel, selection
from jaxplain.concept.autoencoder.architecture import squared


def of(architecture, encoder, bias=None, offset=None, **extra):
    """An autoencoder with given weights, whose atoms are the encoder's rows."""
    width, atoms = encoder.shape
    bias = jnp.zeros(atoms) if bias is None else bias
    offset = jnp.zeros(width) if offset is None else offset
    return concept.Autoencoder(encoder, bias, offset, encoder.T, offset, extra, architecture)


def test_top_k_of_an_orthonormal_dictionary_has_the_support_and_the_masked_linear_gradient():
    atoms = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (6, 6)))[0]
    codes = np.zeros((5, 6), np.float32)
    support = np.array([[0, 3], [1, 2], [4, 5], [0, 5], [2, 3]])
    np.put_along_axis(codes, support, np.array([[1.0, 2.0], [0.5, 3.0], [2.0, 1.0], [4.0, 0.1], [1.0, 1.0]]), 1)
    h = jnp.asarray(codes) @ atoms
    d = of(concept.top_k(2), atoms.T)
    np.testing.assert_allclose(d.encode(h), codes, atol=1e-5)
    np.testing.assert_allclose(d.reconstruct(h), h, atol=1e-5)
    weight = np.asarray(jax.random.normal(jax.random.key(1), codes.shape))
    found = jax.grad(lambda h: jnp.sum(d.encode(h) * weight))(h)
    np.testing.assert_allclose(found, (weight * (codes > 0)) @ atoms, atol=1e-5)
    by_encoder = jax.grad(lambda e: jnp.sum(dataclasses.replace(d, encoder=e).encode(h) * weight))(d.encoder)
    np.testing.assert_allclose(by_encoder, h.T @ (weight * (codes > 0)), atol=1e-4)


def test_batch_top_k_keeps_exactly_k_of_each_on_average_with_ties_by_index():
    a = concept.batch_top_k(2)
    values = np.array([[3.0, 1.0, 1.0, 0.0], [1.0, 1.0, -2.0, 5.0], [0.5, 1.0, 0.25, 0.75]], np.float32)
    kept = np.asarray(a.batch_codes({}, jnp.asarray(values)))
    expected = np.array([[3.0, 1, 1, 0], [1, 1, 0, 5], [0, 0, 0, 0]])  # the last 1 of three rows is the seventh
    np.testing.assert_array_equal(kept, expected)
    for count in range(13):
        chosen = np.asarray(selection.largest_of_all(jax.nn.relu(jnp.asarray(values)), count))
        order = np.argsort(-np.maximum(values, 0).reshape(-1), kind="stable")[:count]
        np.testing.assert_array_equal(np.flatnonzero(chosen.reshape(-1)), np.sort(order))
    sparse = jnp.asarray(np.where(values > 2, values, -1))
    assert int((a.batch_codes({}, sparse) != 0).sum()) == 2  # the rectifier leaves two: the other four add nothing
    rows = selection.largest_of_rows(jnp.asarray(values), 2)
    assert rows.tolist() == [[True, True, False, False], [True, False, False, True], [False, True, False, True]]


def test_batch_top_k_afterwards_encodes_each_activation_by_itself():
    a, h = concept.batch_top_k(1), jnp.abs(jax.random.normal(jax.random.key(2), (8, 4)))
    carried = a.start(4)[1]
    for part in (h[:4], h[4:]):
        carried = a.carried(carried, a.batch_codes({}, part))
    least = [np.sort(np.maximum(np.asarray(part), 0).reshape(-1))[-4] for part in (h[:4], h[4:])]
    np.testing.assert_allclose(carried["threshold"], np.mean(least), rtol=1e-6)  # both weigh the same so far
    d = of(a, jnp.eye(4), threshold=carried["threshold"])
    whole = d.encode(h)
    np.testing.assert_array_equal(whole, np.where(h > np.mean(least), h, 0))
    for row, own in zip(h, whole, strict=True):
        np.testing.assert_array_equal(d.encode(row), own)


def test_jump_relu_has_the_straight_through_gradient():
    width, level = 0.4, np.array([0.5, 1.0, 0.05], np.float32)
    z = np.array([[0.6, 0.9, 0.2], [0.45, 1.3, 0.1], [0.0, 1.1, 0.0], [0.71, 0.7, 0.24]], np.float32)
    weight = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0], [10.0, 11.0, 12.0]], np.float32)
    near = (np.abs((z - level) / width) < 0.5).astype(np.float32)
    np.testing.assert_array_equal(near, [[1, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 1]])
    for function, by_level, by_z in (
        (selection.jump, -level / width * near, (z > level) * weight),
        (selection.step, -near / width, 0 * z),
    ):
        found = jax.grad(lambda z, t, f=function: jnp.sum(f(z, t, jnp.float32(width)) * weight), argnums=(0, 1))(
            z, level
        )
        np.testing.assert_allclose(found[0], by_z)
        np.testing.assert_allclose(found[1], np.sum(by_level * weight, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(selection.jump(z, level, width), z * (z > level))
    # by the trained logarithm, through the loss |h - h'|^2 + penalty * L0 of an identity
    a = concept.jump_relu(penalty=0.3, bandwidth=width)
    trained = {"log_threshold": jnp.log(level), "atoms": jnp.eye(3)}

    def loss(log_threshold):
        params = {**trained, "log_threshold": log_threshold}
        return jnp.sum(a.cost(params, jnp.asarray(z), a.codes(params, z), lambda c: c, jnp.asarray(z)))

    left = np.where(z > level, 0, z)
    upstream = -2 * left  # of the codes
    expected = np.sum(-level / width * near * upstream - 0.3 / width * near, axis=0) * level
    np.testing.assert_allclose(jax.grad(loss)(trained["log_threshold"]), expected, rtol=1e-5)


def test_losses_are_those_of_their_papers():
    h = np.asarray(jax.random.normal(jax.random.key(3), (6, 4)))
    atoms = np.asarray(jax.random.normal(jax.random.key(4), (5, 4)))
    pre, offset = h @ atoms.T - 0.1, np.full(4, 0.2, np.float32)
    norms, flat = (
        np.linalg.norm(atoms, axis=1),
        {"atoms": jnp.asarray(atoms), "offset": offset, "bias": jnp.full(5, -0.1)},
    )

    def decode(codes, own=None):
        return codes @ (atoms if own is None else own) + (0 if own is not None else offset[None])

    def cost(a, **more):
        params = {**flat, **more}
        return np.asarray(a.cost(params, jnp.asarray(pre), a.batch_codes(params, jnp.asarray(pre)), decode, h))

    positive = np.maximum(pre, 0)
    np.testing.assert_allclose(
        cost(concept.relu_l1(0.7)), np.sum((h - decode(positive)) ** 2, 1) + 0.7 * positive @ norms, rtol=1e-5
    )
    kept = np.where(np.asarray(selection.largest_of_all(jnp.asarray(positive), 12)), positive, 0)
    nested = sum(np.sum((h - decode(np.where(np.arange(5) < size, kept, 0))) ** 2, 1) for size in (1, 3, 5))
    np.testing.assert_allclose(cost(concept.matryoshka(2, (1, 3))), nested, rtol=1e-5)
    gain, size_bias = np.log(np.array([1.0, 2, 1, 0.5, 1], np.float32)), np.full(5, 0.3, np.float32)
    sizes = np.where(pre > 0, np.maximum(np.exp(gain) * (pre + 0.1) + size_bias, 0), 0)
    gate = np.sum((h - decode(sizes)) ** 2, 1) + 0.7 * positive @ norms + np.sum((h - decode(positive)) ** 2, 1)
    np.testing.assert_allclose(cost(concept.gated(0.7), log_gain=gain, size_bias=size_bias), gate, rtol=1e-5)
    counted = np.sum(positive > 0.5, axis=1).astype(np.float32)
    jumped = np.sum((h - decode(np.where(positive > 0.5, positive, 0))) ** 2, 1)
    level = {"log_threshold": jnp.full(5, jnp.log(0.5))}
    np.testing.assert_allclose(cost(concept.jump_relu(penalty=0.2), **level), jumped + 0.2 * counted, rtol=1e-5)
    a = concept.jump_relu(2, penalty=0.2)
    np.testing.assert_allclose(cost(a, weight=0.6, **level), jumped + 0.6 * counted, rtol=1e-5)
    moved = a.carried({"weight": jnp.float32(0.6)}, jnp.asarray(np.where(positive > 0.5, positive, 0)))
    np.testing.assert_allclose(moved["weight"], 0.6 * np.exp(0.01 * np.clip(counted.mean() / 2 - 1, -1, 1)), rtol=1e-5)


@pytest.mark.slow
def test_dead_atoms_are_trained_by_what_is_left_alone():
    model = SparseModel(concept.top_k(1), auxiliary=1.0, dead_after=3)
    flat = {
        "encoder": jnp.eye(4),
        "bias": jnp.array([0.0, 0.0, -0.5, 0.0]),
        "atoms": jnp.eye(4),
        "offset": jnp.zeros(4),
    }
    carried = {"silent": jnp.array([0, 0, 5, 0]), "scale": jnp.ones(()), "target_scale": jnp.ones(())}
    h = jnp.array([[2.0, 0.0, 1.0, 0.0], [0.0, 3.0, 1.5, 0.0]])

    def loss(trained):
        losses, after = model.train({"trained": trained, "carried": carried}, (h,), jax.random.key(0))
        return losses.sum(), (losses, after)

    gradient, (losses, after) = jax.grad(loss, has_aux=True)(flat)
    assert after["carried"]["silent"].tolist() == [0, 0, 7, 2]
    share = 1 / 2  # one atom is dead, of the two that could be used
    left = np.array([[0, 0, 1.0, 0], [0, 0, 1.5, 0]])
    explained = np.maximum(np.asarray(h) @ np.eye(4)[2] - 0.5, 0)
    np.testing.assert_allclose(losses, np.sum(left**2, 1) + share * (left[:, 2] - explained) ** 2, rtol=1e-6)
    np.testing.assert_allclose(gradient["bias"], [0, 0, -2 * share * np.sum(left[:, 2] - explained), 0], rtol=1e-6)
    np.testing.assert_allclose(squared(jnp.asarray(left)), np.sum(left**2, 1))


def test_the_decoder_keeps_norm_one_and_its_gradient_has_no_part_outwards():
    from jaxplain.concept.autoencoder import of_unit_norm, random_atoms

    atoms = random_atoms(jax.random.key(5), 3, 4)
    params, gradient = {"atoms": atoms, "bias": jnp.ones(3)}, {"atoms": 3 * atoms, "bias": jnp.ones(3)}
    optimizer = of_unit_norm(optax.sgd(0.5))
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_allclose(updates["atoms"], 0, atol=1e-6)  # all of it pointed outwards
    np.testing.assert_allclose(updates["bias"], -0.5)
    updates, _ = optimizer.update({**gradient, "atoms": jnp.eye(3, 4)}, optimizer.init(params), params)
    after = np.asarray(atoms + updates["atoms"])
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1, rtol=1e-6)
    outwards = np.sum(np.eye(3, 4) * atoms, 1, keepdims=True) * atoms
    moved = atoms - 0.5 * (np.eye(3, 4) - outwards)
    np.testing.assert_allclose(after, moved / np.linalg.norm(moved, axis=1, keepdims=True), rtol=1e-5)


def test_a_transcoder_of_a_linear_map_is_exact_by_construction():
    matrix = np.asarray(jax.random.normal(jax.random.key(6), (3, 4)))  # y = x W
    encoder, atoms = jnp.concatenate([matrix, -matrix], axis=1), jnp.concatenate([jnp.eye(4), -jnp.eye(4)])
    parts = (encoder, jnp.zeros(8), jnp.zeros(3), atoms, jnp.zeros(4), {}, concept.relu_l1(0.0))
    x = np.asarray(jax.random.normal(jax.random.key(7), (10, 3)))
    one = concept.Transcoder(*parts)
    np.testing.assert_allclose(one.reconstruct(x), x @ matrix, atol=1e-5)
    with pytest.raises(ValueError, match="a transcoder reads one layer and writes another"):
        one.importance(jnp.sum, x[0])
