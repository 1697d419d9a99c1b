"""Non-negative factorisation and least squares: planted factors, losses, scikit-learn's, derivatives."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.decomposition import NMF

from jaxplain import concept


def planted(k=5, width=20, count=200, density=0.4, noise=0.0, seed=0):
    """Sparse factors, and what they make."""
    rng = np.random.default_rng(seed)
    atoms = rng.gamma(1.0, size=(k, width)) * (rng.random((k, width)) < density)
    codes = rng.gamma(1.0, size=(count, k)) * (rng.random((count, k)) < density)
    rows = codes @ atoms + noise * np.abs(rng.normal(size=(count, width)))
    return rows.astype(np.float32), codes, atoms


def test_planted_factors_are_recovered_and_the_loss_never_rises():
    rows, codes, atoms = planted()
    for key in (None, jax.random.key(0), jax.random.key(1), jax.random.key(2)):
        found = concept.non_negative_factorization(rows, 5, key=key, steps=2000, tolerance=1e-9)
        matched = concept.match_atoms(found.atoms, atoms)
        assert matched.cosine.min() >= 0.99
        losses = np.asarray(found.losses)
        assert (np.diff(losses) <= 0).all()  # each step, in float32, down to where rounding is all there is
        taken = int(found.steps)
        assert (np.diff(losses[: taken + 1]) < 0).all()
        assert (losses[taken:] == losses[taken]).all()
        assert losses[taken] < 1e-6 * losses[0]
        assert float(found.codes.min()) >= 0
        assert float(found.atoms.min()) >= 0
        np.testing.assert_allclose(np.linalg.norm(found.atoms, axis=1), 1, rtol=1e-5)
        energy = np.sum(np.asarray(found.codes) ** 2, axis=0)
        assert (np.diff(energy) <= 0).all()
        for mine, theirs in matched.order:
            a, b = np.asarray(found.codes[:, mine]), codes[:, theirs] * np.linalg.norm(atoms[theirs])
            np.testing.assert_allclose(a, b, atol=0.01 * b.max())


def test_the_same_steps_as_scikit_learn():
    rows, _, _ = planted(noise=0.05)
    rng = np.random.default_rng(1)
    u, v = (np.abs(rng.normal(size=shape)).astype(np.float32) for shape in ((200, 5), (5, 20)))
    peer = NMF(5, init="custom", solver="cd", max_iter=7, tol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        w = peer.fit_transform(rows, W=u.copy(), H=v.copy())
    found = concept.non_negative_factorization(rows, 5, start=(u, v), steps=7, tolerance=0.0)
    size = np.linalg.norm(peer.components_, axis=1)
    order = np.argsort(-np.sum((w * size) ** 2, axis=0), kind="stable")
    np.testing.assert_allclose(found.codes, (w * size)[:, order], atol=2e-4 * w.max())
    np.testing.assert_allclose(found.atoms, (peer.components_ / size[:, None])[order], atol=2e-4)
    np.testing.assert_allclose(found.losses[-1], peer.reconstruction_err_**2, rtol=1e-4)


def test_the_singular_start_is_scikit_learns():
    from sklearn.decomposition._nmf import _initialize_nmf

    from jaxplain.concept.dictionary.factorization import singular_start

    rows, _, _ = planted(noise=0.05)
    for mine, theirs in zip(
        singular_start(jnp.asarray(rows), 5), _initialize_nmf(rows, 5, "nndsvda", random_state=0), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, atol=2e-4 * theirs.max())


@pytest.mark.slow
def test_coefficients_are_scipys_whatever_else_is_in_the_batch():
    rng = np.random.default_rng(0)
    for k, width in ((4, 9), (9, 6)):  # fewer and more atoms than dimensions
        atoms, rows = np.abs(rng.normal(size=(k, width))), rng.normal(size=(30, width)) + 0.3
        right = np.stack([nnls(atoms.T, row)[0] for row in rows])
        found = concept.non_negative_coefficients(rows.astype(np.float32), atoms.astype(np.float32))
        rest = np.sum((rows - np.asarray(found) @ atoms) ** 2, axis=1)
        np.testing.assert_allclose(rest, np.sum((rows - right @ atoms) ** 2, axis=1), rtol=1e-5)
        if k < width:
            np.testing.assert_allclose(found, right, atol=1e-4)
            assert ((np.asarray(found) > 0) == (right > 0)).all()
        part = concept.non_negative_coefficients(rows[7:9].astype(np.float32), atoms.astype(np.float32))
        np.testing.assert_allclose(part, found[7:9], atol=1e-5)


def test_atoms_that_are_parallel_or_zero_leave_numbers():
    atoms = jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    found = concept.non_negative_coefficients(jnp.array([[3.0, -1.0], [0.0, 0.0], [-1.0, 2.0]]), atoms)
    np.testing.assert_allclose(found @ atoms, [[3.0, 0.0], [0.0, 0.0], [0.0, 0.0]], atol=1e-5)
    slopes = jax.grad(lambda h: concept.non_negative_coefficients(h, atoms).sum())(jnp.array([3.0, -1.0]))
    assert np.isfinite(slopes).all()


@pytest.mark.usefixtures("double")
def test_the_implicit_derivative_of_the_codes_is_that_of_central_differences():
    rng = np.random.default_rng(0)
    atoms, rows = np.abs(rng.normal(size=(5, 7))), rng.normal(size=(6, 7)) + 0.7
    codes = concept.non_negative_coefficients
    assert {int(n) for n in (codes(rows, atoms) > 0).sum(1)} == {2, 3}  # supports of several sizes
    step, by_rows, by_atoms = 1e-6, rng.normal(size=rows.shape), rng.normal(size=atoms.shape)
    for argument, along in ((0, (by_rows, 0 * atoms)), (1, (0 * rows, by_atoms))):
        _, found = jax.jvp(codes, (jnp.asarray(rows), jnp.asarray(atoms)), tuple(map(jnp.asarray, along)))
        ends = [codes(rows + sign * step * along[0], atoms + sign * step * along[1]) for sign in (1, -1)]
        np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * step), atol=1e-7, err_msg=f"argument {argument}")
    weight = rng.normal(size=(6, 5))
    pulled = jax.grad(lambda h: (codes(h, atoms) * weight).sum())(jnp.asarray(rows))
    _, pushed = jax.jvp(lambda h: codes(h, atoms), (jnp.asarray(rows),), (jnp.asarray(by_rows),))
    np.testing.assert_allclose((pulled * by_rows).sum(), (pushed * weight).sum(), rtol=1e-9)


@pytest.mark.usefixtures("double")
@pytest.mark.slow
def test_the_implicit_derivative_of_the_whole_factorisation_is_that_of_central_differences():
    rng = np.random.default_rng(2)
    atoms = np.array([[1.0, 0.2, 0.0, 0.0, 0.6], [0.0, 0.1, 1.0, 0.7, 0.0]])
    codes = np.array([[2.0, 0.0], [0.1, 1.0], [1.0, 0.2], [0.0, 2.0], [1.5, 0.9], [0.4, 0.6]])
    along, weight, step = jnp.asarray(rng.normal(size=(6, 5))), rng.normal(size=codes.shape), 1e-5

    def factors(a):
        u, v = concept.non_negative_factorization(a, 2, steps=5000, tolerance=0.0)[:2]
        return u, v, u @ v

    for noise, unique in ((0.3, True), (0.05, False)):
        rows = codes @ atoms + noise * rng.random((6, 5))
        rows[[0, 3]] = np.maximum(rows[[0, 3]] + noise * (atoms - atoms[::-1]), 0.01)
        rows = jnp.asarray(rows)
        zeros = (np.asarray(factors(rows)[0]) == 0).sum(axis=0)
        assert (zeros.min() > 0) == unique  # rows without each of the concepts
        _, found = jax.jvp(factors, (rows,), (along,))
        ends = [factors(rows + sign * step * along) for sign in (1, -1)]
        for name, one, up, down in zip(("codes", "atoms", "product"), found, *ends, strict=True):
            right = (up - down) / (2 * step)
            if unique or name == "product":
                np.testing.assert_allclose(one, right, atol=2e-5 * np.abs(right).max(), err_msg=name)
            assert np.abs(one).max() < 10
        pulled = jax.grad(lambda a: (factors(a)[0] * weight).sum())(rows)
        np.testing.assert_allclose((pulled * along).sum(), (found[0] * weight).sum(), rtol=1e-3)


def test_the_unit_of_the_activations_does_not_matter():
    rows, _, _ = planted(noise=0.05)
    right = concept.non_negative_factorization(rows, 5)
    for scale in (2.0**-60, 2.0**-20, 2.0**50):  # beyond the root of the smallest and of the largest float32, too
        found = concept.non_negative_factorization(scale * rows, 5)
        np.testing.assert_array_equal(found.atoms, right.atoms)
        np.testing.assert_array_equal(found.codes, scale * right.codes)
    found = concept.non_negative_factorization(jnp.float32(1e25) * rows, 5)
    np.testing.assert_allclose(found.atoms, right.atoms, atol=1e-3)


def test_fewer_factors_than_asked_for_explain_what_there_is():
    rows = np.diag([2.0, 3.0, 0.0]).astype(np.float32)
    found = concept.non_negative_factorization(rows, 3, steps=2000, tolerance=0.0)
    np.testing.assert_allclose(found.codes @ found.atoms, rows, atol=1e-5)
    assert np.isfinite(found.atoms).all()


def test_bfloat16_is_factorised_in_float32():
    rows, _, atoms = planted()
    found = concept.non_negative_factorization(jnp.asarray(rows, jnp.bfloat16), 5, steps=1000)
    assert found.atoms.dtype == jnp.float32
    assert concept.match_atoms(found.atoms, atoms).cosine.min() >= 0.99


BAD = {
    "negative": (
        lambda a: a.at[3, 2].set(-0.5).at[4, 1].set(-0.1),
        {},
        r"`activations` has 2 negative values of 1000 \(the first, -0.5, in row 3, unit 2; the least is -0.5; 2 of 20 "
        r"units have any\).*Cut after the ReLU, or find concepts with `principal_components`",
    ),
    "NaN": (lambda a: a.at[3, 2].set(np.nan), {}, r"1 NaN or infinite values \(the first at index \(3, 2\)\)"),
    "constant": (lambda a: 0 * a + 2, {}, "all 50 rows of `activations` are equal"),
    "k of 0": (lambda a: a, {"k": 0}, "`k` has to be at least 1, not 0"),
    "k above rows": (lambda a: a[:3], {"k": 4}, "`k` is 4, but there are 3 activations"),
    "k above width": (lambda a: a, {"k": 21}, "`k` is 21, but an activation has 20 numbers.*sparse autoencoder"),
    "axes": (lambda a: a[None], {}, r"has shape \(1, 50, 20\); it has to be \[N, D\]"),
    "start": (lambda a: a, {"start": (np.ones((50, 3)), np.ones((3, 20)))}, r"codes \(50, 2\) and atoms \(2, 20\)"),
    "negative start": (lambda a: a, {"start": (-np.ones((50, 2)), np.ones((2, 20)))}, "`start` holds negative values"),
    "start of one": (lambda a: a, {"start": np.ones((50, 2))}, "pass .codes"),
    "tolerance": (lambda a: a, {"tolerance": -1.0}, "`tolerance`"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_factorised_is_told(name):
    change, settings, words = BAD[name]
    rows = change(jnp.asarray(planted(count=50)[0]))
    with pytest.raises((ValueError, TypeError), match=words):
        concept.non_negative_factorization(rows, **{"k": 2, **settings})


def test_shapes_that_do_not_fit_are_told():
    for h, atoms in ((np.ones((2, 3)), np.ones((2, 4))), (np.ones(3), np.ones(3))):
        with pytest.raises(ValueError, match=r"they have to be \[..., D\] and \[k, D\]"):
            concept.non_negative_coefficients(h, atoms)
