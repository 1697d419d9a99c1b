"""What does a language model's next word rest on? A small causal transformer, and what it says about its own words.

A transformer of two layers learns sentences whose verb agrees with a subject up to eight words before it (or a text
file). Why "bark" and not "barks" (of a file: not what the model says)? Expect: at least 95 % of verbs that agree;
contrastive attributions that equal the difference of two to 1e-4; the subject's number to change the most in 90 %.

    python examples/language_model.py [--data FILE] [--quick] [--output FOLDER]
"""

import argparse
import functools
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.ad_checkpoint import checkpoint_name

import jaxplain
from jaxplain import language, plot, report, train

NOUNS, VERBS, LENGTH = ("dog", "car", "girl", "bird", "king"), ("bark", "run", "sing", "sleep"), 24


class Decoder(nn.Module):
    """Causal self-attention and perceptrons over words."""

    vocabulary: int

    @nn.compact
    def __call__(self, ids: jax.Array, train: bool = False) -> jax.Array:
        places = self.param("places", nn.initializers.normal(0.02), (1, LENGTH, 64))[:, : ids.shape[1]]
        h = nn.Embed(self.vocabulary, 64, name="words")(ids) + places
        for block in range(2):
            h += nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(h), mask=nn.make_causal_mask(ids))
            h = checkpoint_name(h + nn.Dense(64)(nn.gelu(nn.Dense(256)(nn.LayerNorm()(h)))), f"block_{block}")
        return nn.Dense(self.vocabulary)(nn.LayerNorm()(h))


def sentence(draw: np.random.Generator) -> list[str]:
    words = ["the", draw.choice(NOUNS) + "s" * (number := draw.integers(2))]
    for _ in range(draw.integers(1, 3)):
        words += [draw.choice(("near", "behind")), "the", draw.choice(NOUNS) + "s" * draw.integers(2)]
    return [*words, draw.choice(VERBS) + "s" * (1 - number), "."]


def loss(logits: jax.Array, words: jax.Array) -> jax.Array:
    return jnp.average(optax.softmax_cross_entropy_with_integer_labels(logits[:-1], words[1:]), weights=words[1:] > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description="What does a language model's next word rest on?")
    parser.add_argument("--data", type=Path, help="a text file; its lines are continued")
    parser.add_argument("--quick", action="store_true", help="fewer sentences")
    parser.add_argument("--output", type=Path, default=Path("language_model"))
    arguments = parser.parse_args()
    lines = arguments.data.read_text().splitlines() if arguments.data else []
    draws = map(np.random.default_rng, range(3000 if arguments.quick else 16_000))
    texts = [line.split()[:LENGTH] for line in lines] or [sentence(draw) for draw in draws]
    words = ["<pad>", *sorted({word for text in texts for word in text})]
    number = {word: index for index, word in enumerate(words)}
    rows = [[number[word] for word in text] for text in texts if len(text) > 4]
    ids, key = np.array([row + [0] * (LENGTH - len(row)) for row in rows]), jax.random.key(0)
    module, settings = Decoder(len(words)), {"optimizer": optax.adam(2e-3), "epochs": 6, "batch_size": 64, "loss": loss}
    last, own = np.arange(count := min(100, len(rows) // 5)), rows[-count:]
    params = train.fit(module.apply, module.init(key, ids[:1]), (ids[:-count],) * 2, key=key, **settings).params
    logit, contrast = (score(module.apply, params) for score in (language.token_logit, language.contrastive))
    other = np.array([number.get(word[:-1] if word.endswith("s") else f"{word}s", number[word]) for word in words])
    prompts, verbs = [row[:-2] for row in own], np.array([row[-2] for row in own])
    says = jax.jit(module.apply)(params, ids[-count:])[last, np.array([len(p) - 1 for p in prompts])]
    foils = np.asarray(says.at[last, verbs].set(-jnp.inf).argmax(-1)) if arguments.data else other[verbs]
    absent = 0 if arguments.data else lambda x: jnp.asarray(other)[x]
    changed = functools.partial(jaxplain.feature_ablation, baseline=absent)
    explain = functools.partial(language.explain_generation, changed, prompt=prompts, longest=LENGTH)
    apart = [explain(logit, continuation=k[:, None].tolist()) for k in (verbs, foils)]
    why = explain(contrast, continuation=verbs[:, None].tolist(), against=foils[:, None].tolist())
    gap = max(float(jnp.abs(a - (b - c)).max()) for a, b, c in zip(why, *apart, strict=True))
    print(f"contrastive is the difference of two attributions, to {gap:.1e} (at most 1e-4: {gap < 1e-4})")
    if not arguments.data:
        agree, top = says[last, verbs] > says[last, foils], [np.argmax(np.abs(a[0])) == 1 for a in why]
        print(f"verbs that agree: {np.mean(agree):.1%}; whose subjects have the largest value: {np.mean(top):.1%}")
    text, path = max(prompts, key=len), functools.partial(jaxplain.integrated_gradients, baseline=0)
    rests = language.explain_generation(path, logit, text[:3], text[3:], longest=LENGTH)
    shown, asked = [words[word] for word in text], [[words[word] for word in row] for row in prompts[:6]]
    asks = [f"why {words[k]}, not {words[j]}?" for k, j in zip(verbs[:6], foils[:6], strict=True)]
    read = jax.jit(language.lens(lambda x: module.apply(params, x[None])[0], "*block_?"))(jnp.array(text))
    patterns = jax.jit(language.attention_weights(logit))(jnp.array(text), len(text) - 1, 0)
    sections = [report.Section("Why this word", plot.tokens(asked, [a[0] for a in why[:6]], asks))]
    sections += [report.Section("What each word rests on", plot.token_map(shown[3:], shown[:-1], rests))]
    sections += [report.Section("What each block would say", plot.lens_table(read, words, tokens=shown))]
    sections += [report.Section("What the heads attend to", plot.attention_heads(patterns, tokens=shown))]
    arguments.output.mkdir(parents=True, exist_ok=True)
    report.report(arguments.output / "generated.html", sections, title="What words rest on")


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
