"""Which heads copy? The circuit of a two-layer transformer that learnt to continue what it has seen before.

A transformer of attention alone reads random letters that start over after 5 to 11 of them. From there on the next
letter is the one that followed the same letter before: a head of the first layer has to pass on each letter's
predecessor, and one of the second to look for it (an induction head). Expect, from attention patterns, heads of the
first layer on the token before (more than a third of their weight, by chance a tenth) and heads of the second on the
token to repeat (more than half); the same heads by ablation, as their loss costs most; the path from the first through
the keys of the second worth more than through its queries; and a circuit of a third of the edges that is nearly as
faithful as all of them. Writes `heads.png`, `patching.png` and `circuit.svg`.

    python examples/circuits.py [--quick] [--output FOLDER]
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxplain import language, plot, train

LETTERS, LENGTH, WIDTH, HEADS = 12, 24, 32, 2


def apply(params: dict, ids: jax.Array) -> jax.Array:
    """Ids `[B, T]` to logits `[B, T, LETTERS]`."""
    x = params["letters"][ids] + params["positions"][None]
    for number, p in enumerate(params["layers"]):
        with jax.named_scope(f"layer_{number}"):
            q, k, v = (jnp.einsum("btd,dhe->bthe", x, p[name]) for name in "qkv")
            logits = jnp.einsum("bthe,bshe->bhts", q, k) / q.shape[-1] ** 0.5
            weights = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((LENGTH, LENGTH), bool)), logits, -1e9), axis=-1)
            mixed = jnp.einsum("bthe,hed->btd", jnp.einsum("bhts,bshe->bthe", weights, v), p["o"])
        x = x + mixed
    return x @ params["out"]


def start(key: jax.Array) -> dict:
    keys = iter(jax.random.split(key, 16))
    draw = lambda scale, *shape: scale * jax.random.normal(next(keys), shape)  # noqa: E731
    inner = (WIDTH, HEADS, WIDTH // HEADS)
    layers = [{**{n: draw(0.2, *inner) for n in "qkv"}, "o": draw(0.2, *inner[1:], WIDTH)} for _ in range(2)]
    table = {"letters": draw(0.3, LETTERS, WIDTH), "positions": draw(0.3, LENGTH, WIDTH)}
    return {**table, "layers": layers, "out": draw(0.1, WIDTH, LETTERS)}


def repeated(key: jax.Array, count: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Ids `[N, T]` that start over, the next letters (-1 where they are not known), and after how many they do."""
    lengths = jax.random.randint(jax.random.fold_in(key, 0), (count, 1), 5, 12)
    draws = jax.random.randint(jax.random.fold_in(key, 1), (count, LENGTH), 0, LETTERS)
    ids = jnp.take_along_axis(draws, jnp.arange(LENGTH)[None] % lengths, axis=1)
    known = (jnp.arange(LENGTH)[None] >= lengths) & (jnp.arange(LENGTH)[None] < LENGTH - 1)
    return ids, jnp.where(known, jnp.roll(ids, -1, axis=1), -1), lengths[:, 0]


def loss(outputs: jax.Array, target: jax.Array) -> jax.Array:
    each = optax.softmax_cross_entropy_with_integer_labels(outputs, jnp.maximum(target, 0))
    return jnp.where(target >= 0, each, 0).sum() / (target >= 0).sum()


def main() -> None:
    parser = argparse.ArgumentParser(description="The circuit of an induction head.")
    parser.add_argument("--quick", action="store_true", help="fewer epochs")
    parser.add_argument("--output", type=Path, default=Path("circuits"), help="where the figures go")
    arguments = parser.parse_args()
    rows, targets, _ = repeated(jax.random.key(1), 4096)
    settings = {"key": jax.random.key(2), "loss": loss, "optimizer": optax.adam(3e-3), "batch_size": 64}
    fitted = train.fit(apply, start(jax.random.key(0)), (rows, targets), epochs=16 if arguments.quick else 40, **settings)
    params, (ids, targets, lengths) = fitted.params, repeated(jax.random.key(3), 64)

    def score(x: jax.Array, target: jax.Array) -> jax.Array:
        return -loss(apply(params, x[None])[0], target)

    found = jax.jit(jax.vmap(language.attention_weights(score)))(ids, targets)
    first, second = (np.asarray(weights) for weights in found.values())
    t = np.arange(LENGTH)
    repeats = (t[None, None] % lengths[:, None, None] == (t[:, None] + 1) % lengths[:, None, None]) & (t <= t[:, None])
    before = first[:, :, t[1:], t[:-1]].mean(axis=(0, 2))
    copying = np.asarray([(second[n] * repeats[n])[:, lengths[n] :].sum(-1).mean(-1) for n in range(64)]).mean(axis=0)
    print(f"weight on the token before, by head of the first layer: {before.round(2)}: {before.max() > 1 / 3}")
    print(f"weight on the token to repeat, by head of the second: {copying.round(2)}: {copying.max() > 0.5}")
    lost = jax.jit(jax.vmap(language.ablation(score, "*~heads", axes="head"), (0, None, 0)))(ids, rows[:64], targets)
    cost = {path: np.asarray(effects).mean(axis=0).round(2) for path, effects in lost.items()}
    print(f"log-probability without each head: {cost}")

    a, b = int(before.argmax()), int(copying.argmax())
    other = ids.at[:, 0].set((ids[:, 0] + 1) % LETTERS)
