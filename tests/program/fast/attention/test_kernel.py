"""The canonical form: as exact as what is written, one kernel for a batch, and what JAX hands to cuDNN."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn

import jaxplain
from jaxplain.program.fast.attention import CUDNN, WRITTEN, kernel, listed, rewritten, trial
from jaxplain.program.trace import attention_context, compat
from tests.shared.attentions import exact, operands, plain

SLOW = functools.partial(pytest.param, marks=pytest.mark.slow)
MASK = np.tril(np.ones((12, 16), bool), 3)
BIAS = np.random.default_rng(4).normal(size=(2, 12, 16))


@pytest.mark.parametrize("dtype", [SLOW(jnp.float32), jnp.bfloat16, SLOW(jnp.float16)])
@pytest.mark.parametrize("options", [{}, {"mask": MASK}, {"bias": BIAS}, {"bias": BIAS, "mask": MASK, "wide": True}])
@pytest.mark.sampled(2)
def test_no_further_from_the_truth_than_what_is_written(dtype, options, monkeypatch):
    """The largest difference from float64 is at most twice that of the plain form, and one unit in the last place."""
    monkeypatch.setattr(trial, "LARGEST", 0)
    given = {k: jnp.asarray(v, dtype)[None][0] if k == "bias" else v for k, v in options.items()}
    with jax.numpy_rank_promotion("allow"):
        for seed, kv in ((0, 2), (1, 1), (2, 2)):
            q, k, v = operands(seed, dtype, 12, 16, 2, kv, 16)
            attend = lambda q, k, v: plain(q, *(jnp.repeat(a, 2 // a.shape[1], 1) for a in (k, v)), **given)  # noqa: E731
            program, _ = compat.trace(attend, q, k, v)
            (row,) = listed(program, WRITTEN, False)
            assert row.reason is None
            (got,) = rewritten(program, WRITTEN, gradient=False)(q, k, v)
            want = exact(q, k, v, **{n: o for n, o in given.items() if n != "wide"})
            error, allowed = (np.abs(np.asarray(a).astype(np.float64) - want).max() for a in (got, attend(q, k, v)))
            assert error <= 2 * allowed + float(jnp.finfo(dtype).eps) * np.abs(want).max()


def test_the_gradient_is_that_of_float64():
    """dq, dk, dv of the written-out backward against central differences of the float64 form."""
    form = kernel.Form(0.4, False, True, True, None)
    q, k, v = (a[None] for a in operands(0, jnp.float32, 4, 6, 4, 2, 8))
    bias = jnp.asarray(np.random.default_rng(5).normal(size=(1, 4, 4, 6)), jnp.float32)
    mask = jnp.asarray(np.random.default_rng(6).random((1, 1, 4, 6)) < 0.8).at[..., 0].set(True)
    ct = jnp.asarray(np.random.default_rng(7).normal(size=q.shape), jnp.float32)
    out, total = kernel.written_forward(form, q, k, v, bias, mask)
    found = kernel.written_backward(form, q, k, v, bias, mask, total, out, ct)
    scores = kernel.bias_backward(form, q, k, v, bias, mask, total, out, ct)

    def value(*moved):
        q, k, v, bias = (np.asarray(a, np.float64)[0] for a in moved)
        return float(np.sum(np.asarray(ct)[0] * exact(q, k, v, 0.4, bias, np.asarray(mask)[0])))

    draw, args = np.random.default_rng(8), [np.asarray(a, np.float64) for a in (q, k, v, bias)]
    for place, gradient in enumerate((*found, scores)):
        step = draw.normal(size=args[place].shape)
        up, down = ([*args[:place], args[place] + sign * 1e-5 * step, *args[place + 1 :]] for sign in (1, -1))
        np.testing.assert_allclose(np.sum(np.asarray(gradient) * step), (value(*up) - value(*down)) / 2e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_batch_is_one_kernel():
    form = kernel.Form(0.4, False, False, True, None)
    q, k, v = operands(0, batch=(3, 5, 1))
    mask = jnp.asarray(np.random.default_rng(6).random((5, 1, 1, 6, 4)) < 0.8).at[..., 0].set(True)
    seen = []

    def spy(form, *args):
        seen.append(tuple(a.shape for a in args))
        return kernel.written_forward(form, *args)

    how = WRITTEN._replace(forward=spy)

    def call(*args):
        return kernel.operation(*args, how=how, form=form, stage="forward")

    out, total = jax.vmap(jax.vmap(call, (0, 0, None, None)), (0, 0, None, None))(q, k, v[0, 0], mask[0])
    assert seen[-1] == ((15, 6, 2, 8), (15, 4, 2, 8), (15, 4, 2, 8), (1, 1, 6, 4))
    assert out.shape == (3, 5, 1, 6, 2, 8)
    assert total.shape == (3, 5, 1, 2, 6)
    np.testing.assert_allclose(out[2, 4, 0], exact(q[2, 4, 0], k[2, 4, 0], v[0, 0, 0], 0.4, mask=mask[0, 0]), atol=2e-6)
    jax.vmap(call, (0, 0, 0, 0))(q[0], k[0], v[0], mask)
    assert seen[-1][-1] == (5, 1, 6, 4)


@pytest.fixture
def with_cudnn(monkeypatch):
    """JAX as it is beside a GPU's library, for tracing and for lowering."""
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
    kernel._cudnn_program.cache_clear()
    yield
    kernel._cudnn_program.cache_clear()


def lowered(f, *args):
    """The calls of cuDNN in what is compiled for CUDA, by name, and the exponentials beside them."""
    text = jax.jit(lambda *args: f(*args)).trace(*args).lower(lowering_platforms=("cuda",)).as_text()
    return re.findall(r"custom_call @__cudnn\$(\w+)\(.*?-> \(tensor<(\w+)>", text), text.count("stablehlo.exponential")


CASES = {
    "plain": {},
    "mask": {"mask": np.arange(16) < 9},
    "causal": {"mask": np.tril(np.ones((12, 16), bool))},
    "bias": {"bias": jnp.asarray(BIAS, jnp.bfloat16)},
    "bias and mask": {"bias": jnp.asarray(BIAS[:1], jnp.bfloat16), "mask": MASK},
}


@pytest.mark.parametrize(
    "name", ["bias and mask", *(pytest.param(n, marks=pytest.mark.slow) for n in list(CASES)[:-1])]
)
@pytest.mark.slow
def test_what_is_compiled_for_a_gpu(name, with_cudnn):
    """One forward and one backward kernel of the whole batch, and nothing written out beside them."""
    q, k, v = operands(0, jnp.bfloat16, 12, 16, 4, 2, 16)
    options = CASES[name]
    scaled = "ScaleBias" if name != "plain" else ""

    def score(q, k, v):
        z = jnp.einsum("tkgh,skh->kgts", q.reshape(12, 2, 2, 16), k) / 4
        z = z + options["bias"].repeat(2 // options["bias"].shape[0], 0)[:, None] if "bias" in options else z
        z = jnp.where(options["mask"], z, -1e9) if "mask" in options else z
        return jnp.sum(jnp.einsum("kgts,skd->tkgd", jax.nn.softmax(z), v).astype(jnp.float32) ** 2)

    with jax.numpy_rank_promotion("allow"), attention_context("cudnn"):
        batch = jnp.stack([q, q, q])
        e = jax.vmap(jaxplain.gradient(lambda q: score(q, k, v)))
        calls, exponentials = lowered(e, batch)
        assert calls == [(f"fmha{scaled}Softmax", "3x4x12x16xbf16"), (f"fmha{scaled}SoftmaxBackward", "3x4x12x16xbf16")]
        assert exponentials == 0
        rows = [jnp.stack([a, a, a]) for a in (q, k, v)]
        calls, exponentials = lowered(lambda *rows: jaxplain.fast_layout(jax.vmap(score))(*rows), *rows)
        assert calls == [(f"fmha{scaled}Softmax", "3x4x12x16xbf16")]
        assert exponentials == 0
        # Traced for a GPU and compiled for the host, it is computed as written.
        got = jax.jit(lambda x: e(x))(batch[:1])
    with jax.numpy_rank_promotion("allow"):
        truth, written = (
            jax.grad(lambda q, k=k, v=v: score(q, k, v))(q).astype(jnp.float32)
            for q, k, v in ([a.astype(dtype) for a in (q, k, v)] for dtype in (jnp.float32, jnp.bfloat16))
        )
    error, allowed = (jnp.abs(a.astype(jnp.float32) - truth).max() for a in (got[0], written))
    assert error <= 2 * allowed + float(jnp.finfo(jnp.bfloat16).eps) * jnp.abs(truth).max()


def test_without_cudnn_it_stays_as_it_is(monkeypatch):
    kernel._cudnn_program.cache_clear()
    q, k, v = operands(0, jnp.bfloat16, 12, 16, 2, 2, 16)
    program, _ = compat.trace(plain, q, k, v)
    (row,) = listed(program, CUDNN, False)
    assert row.reason is None
    (row,) = listed(program, CUDNN, True)
    assert "JAX does not give it to cuDNN" in str(row.reason)
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(cudnn, "check_is_flash_attention", lambda *args, **_: (_ for _ in ()).throw(ValueError("no")))
    kernel._cudnn_program.cache_clear()
    (row,) = listed(program, CUDNN, True)
    assert row.reason == "JAX does not give it to cuDNN: no"
