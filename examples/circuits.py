"""Which heads copy? The circuit of a two-layer transformer that learnt to continue what it has seen before.

A transformer of attention alone reads random letters that start over after 5 to 11 of them: from there on the next one
is what followed the same letter before. A head of the first layer passes on each letter's predecessor, and one of the
second looks for it (an induction head). Expect heads of the first on the token before (a third of their weight or more)
and of the second on the token to repeat (half or more), every head to cost something when lost, and the path from the
first to the second to go by its keys. Writes `heads.png`, `patching.png` and `circuit.svg`.

    python examples/circuits.py [--quick] [--output FOLDER]
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxplain import keep_programs, language, plot, train

LETTERS, LENGTH, WIDTH, HEADS = 12, 24, 32, 2


def apply(params: dict, ids: jax.Array) -> jax.Array:
    """Ids `[B, T]` to logits `[B, T, LETTERS]`."""
    x = params["letters"][ids] + params["positions"][None]
    for number, p in enumerate(params["layers"]):
        with jax.named_scope(f"layer_{number}"):
            q, k, v = (jnp.einsum("btd,dhe->bthe", x, p[name]) for name in "qkv")
            logits = jnp.einsum("bthe,bshe->bhts", q, k) / q.shape[-1] ** 0.5
            weights = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((LENGTH, LENGTH), bool)), logits, -1e9), axis=-1)
            mixed = jnp.einsum("bthe,dhe->btd", jnp.einsum("bhts,bshe->bthe", weights, v), p["o"])
        x = x + mixed
    return x @ params["letters"].T


def start(key: jax.Array) -> dict:
    draw = lambda number, *shape: 0.2 * jax.random.normal(jax.random.fold_in(key, number), shape)  # noqa: E731
    inner = (WIDTH, HEADS, WIDTH // HEADS)
    layers = [{name: draw(10 * n + i, *inner) for i, name in enumerate("qkvo")} for n in (1, 2)]
    return {"letters": draw(0, LETTERS, WIDTH), "positions": draw(1, LENGTH, WIDTH), "layers": layers}


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
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("circuits"))
    arguments = parser.parse_args()
    rows, targets, _ = repeated(jax.random.key(1), 4096)
    settings = {"epochs": 16 if arguments.quick else 40, "optimizer": optax.adam(3e-3), "loss": loss, "batch_size": 64}
    fitted = train.fit(apply, start(jax.random.key(0)), (rows, targets), key=jax.random.key(2), **settings)
    ids, targets, lengths = repeated(jax.random.key(3), 64)
    score = lambda x, target: -loss(apply(fitted.params, x[None])[0], target)  # noqa: E731
    found = jax.jit(jax.vmap(language.attention_weights(score)))(ids, targets)
    first, second = (np.asarray(weights) for weights in found.values())
    t, n = np.arange(LENGTH), lengths[:, None, None, None]
    repeats = (t % n == (t[:, None] + 1) % n) & (t <= t[:, None]) & (t[:, None] >= n)
    before = first[:, :, t[1:], t[:-1]].mean(axis=(0, 2))
    copying = (second * repeats).sum(axis=(0, 2, 3)) / (LENGTH - lengths).sum()
    print(f"weight on the token before, by head of the first layer: {before.round(2)}: {before.max() > 1 / 3}")
    print(f"weight on the token to repeat, by head of the second: {copying.round(2)}: {copying.max() > 0.5}")
    lost = jax.jit(jax.vmap(language.ablation(score, "*~heads", axes="head"), (0, None, 0)))(ids, rows[:64], targets)
    cost = np.stack([effects.mean(axis=0) for effects in lost.values()])
    print(f"log-probability that each head is worth: {-cost.round(2)}: {cost.max() < 0}")
    a, b = int(before.argmax()), int(copying.argmax())
    other = ids.at[:, 0].set((ids[:, 0] + 1) % LETTERS)
    paths = [(f"layer_0/head_{a}", f"layer_1/head_{b}/{part}", "output") for part in ("key", "query")]
    ways = [jax.jit(jax.vmap(language.path_patching(score, path))) for path in paths]
    keys, queries = (float(way(ids, other, targets).mean()) for way in ways)
    print(f"by the keys {keys:.3f}, by the queries {queries:.3f}: {keys > 3 * abs(queries)}")
    edges = language.edges(score)(ids[0], targets[0])
    sizes = jax.jit(jax.vmap(language.edge_attribution(score, "integrated")))(ids, other, targets).mean(axis=0)
    arguments.output.mkdir(parents=True, exist_ok=True)
    kept = language.greedy_circuit(edges, sizes, len(edges) // 3)
    (arguments.output / "circuit.svg").write_text(language.circuit_graph(edges, kept, sizes).svg, encoding="utf-8")
    letters, writers = [chr(97 + int(i)) for i in ids[0]], [*dict.fromkeys(writer for writer, _ in edges)]
    heads = plot.attention_heads({"first": first[0], "second": second[0]}, tokens=letters)
    effects = jax.jit(language.node_patching(score, positions=True))(ids[0], other[0], targets[0])
    for name, figure in (("heads", heads), ("patching", plot.patching_map(effects, rows=writers, tokens=letters))):
        figure.savefig(arguments.output / f"{name}.png", dpi=120)


if __name__ == "__main__":
    keep_programs()
    main()
