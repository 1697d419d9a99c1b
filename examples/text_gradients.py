"""Which words decide: integrated gradients at the embedding of a small text transformer.

Token ids have no gradient, so the model is cut at its embedding (methods do so by themselves where `x` is ids alone;
here it is seen how): `head` maps embeddings to the class's logit, with the positions and the mask still computed from
the ids. The path runs from the embedding of the padding token, at every position, to the sentence's own. The sentences
are synthetic: a few marker words decide the class, all others are filler, so the true answer is known. Expect an
accuracy near 100 %; attributions that add up to the difference of logits within 1e-3 of it; the same attributions, to
1e-5, when more padding is added; exactly 0 for padding; and markers that get about 70 % of the attribution (as many
random tokens would get about 16 %).

    python examples/text_gradients.py [--quick] [--output FOLDER]
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from jaxplain import data, models, plot, train

KEY = jax.random.key(0)
LONGER = 8


def attribute(f: Any, ids: Any, labels: Any) -> tuple[Any, Any]:
    """Attributions of tokens `[B, T]`, and their gap to the difference of scores, relative to it `[B]`."""
    body, head = jaxplain.split(f, "token_embedding")
    padding = body(jnp.zeros_like(ids[0]), 0)  # [T, D]: the embedding of token 0 everywhere
    e = jaxplain.integrated_gradients(head, baseline=padding, steps=64)
    embedded = jax.jit(jax.vmap(body))(ids, labels)
    tokens = jaxplain.explain_batch(e, embedded, ids, labels).sum(-1)
    change = jax.jit(jax.vmap(lambda h, x, k: head(h, x, k) - head(padding, x, k)))(embedded, ids, labels)
    return tokens, jnp.abs(tokens.sum(-1) - change) / jnp.abs(change)


def main() -> None:
    parser = argparse.ArgumentParser(description="Integrated gradients at the embedding of a text transformer.")
    parser.add_argument("--quick", action="store_true", help="train on fewer sentences")
    parser.add_argument("--output", type=Path, default=Path("text_gradients"), help="where the figure goes")
    arguments = parser.parse_args()
    sentences, _ = data.marker_tokens(KEY, 1000 if arguments.quick else 4000, length=16, vocabulary=40)
    splits = sentences.split(jax.random.key(1), test=200)
    module = models.transformer(2, vocabulary=40, length=16 + LONGER, width=32, depth=2, heads=4)
    ids, _ = splits.train.inputs
    fitted = train.fit(
        module.apply,
        module.init(KEY, ids[:1]),
        (ids, splits.train.targets),
        key=KEY,
        optimizer=optax.adam(2e-3),
        epochs=10,
    )
    ids, mask = (np.asarray(part) for part in splits.test.inputs)
    labels, markers = np.asarray(splits.test.targets), np.asarray(splits.test.truth)
    accuracy = train.assess(module.apply, fitted.params, (ids, labels))[1]
    print(f"test accuracy: {accuracy:.1%}")

    f = jaxplain.logit(module.apply, fitted.params)
    tokens, gap = attribute(f, ids, labels)
    print(f"completeness: largest relative gap {gap.max():.1e} (at most 1e-3: {bool(gap.max() <= 1e-3)})")
    longer, _ = attribute(f, np.pad(ids, ((0, 0), (0, LONGER))), labels)
    change = float(np.abs(longer[:, :16] - tokens).max())
    print(f"{LONGER} more padding tokens change attributions by at most {change:.1e} (1e-5: {change <= 1e-5})")
    print(f"padding gets exactly 0: {not np.asarray(tokens)[~mask].any() and not np.asarray(longer)[:, 16:].any()}")
    sizes = np.abs(tokens)
    share, chance = sizes[markers].sum() / sizes.sum(), markers.sum() / mask.sum()
    print(f"share of the attribution on marker words: {share:.1%}; of a random one: {chance:.1%}")

    words = np.array(["-", "bad", "awful", "good", "great", *(f"word{i}" for i in range(35))])
    shown = [words[row[:length]] for row, length in zip(ids[:6], mask[:6].sum(1), strict=True)]
    values = [np.asarray(row[: len(line)]) for row, line in zip(tokens[:6], shown, strict=True)]
    arguments.output.mkdir(parents=True, exist_ok=True)
    plot.tokens(shown, values).savefig(arguments.output / "tokens.png", dpi=150)
    print("figure:", arguments.output / "tokens.png")


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
