"""Which words decided? Words and sentences removed from a text, and their weight as colour.

By default the sentences are synthetic, and the words that mark a class are known: expect a test accuracy near 100 %,
and the two tokens of highest attribution to be the two markers in at least 90 % (a random attribution: about 20 %).
With `--data` they are movie reviews (`rt-polarity.pos` and `.neg` of that folder): expect an accuracy of 65 to 78 %.
For both, removing words in the order of their attribution lowers the score faster than in random order: the 95 %
interval of the difference lies below 0. Writes `tokens.html`, of words and of sentences: red speaks for the prediction.

    python examples/text.py [--data FOLDER] [--quick] [--output FOLDER]
"""

import argparse
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import optax

import jaxplain
from jaxplain import data, language, models, plot, report, train

LENGTH = 32


def synthetic(count: int) -> tuple[np.ndarray, np.ndarray, list[list[str]], np.ndarray]:
    """Marker words among fillers: ids, classes, the words, and which tokens are markers."""
    drawn, _ = data.marker_tokens(jax.random.key(0), count, length=16, vocabulary=32)
    words = ["", "awful", "boring", "lovely", "great", *(f"word{i}{'.' * (i % 6 == 0)}" for i in range(5, 32))]
    return drawn.inputs[0], drawn.targets, [[words[i] for i in row if i] for row in drawn.inputs[0]], drawn.truth


def sentences(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray, list[list[str]], None]:
    """The first sentences of each class, mixed: ids of the 4,000 most frequent words, 1 for all others; the words."""
    files = [(folder / f"rt-polarity.{kind}").read_text("latin-1").splitlines() for kind in ("neg", "pos")]
    split = [(line.split()[:LENGTH], label) for label, lines in enumerate(files) for line in lines[: count // 2]]
    order = np.random.default_rng(0).permutation(len(split))
    split = [split[i] for i in order]
    counts = Counter(word for words, _ in split[: len(split) * 4 // 5] for word in words)
    vocabulary = ["", "<rare>", *(word for word, _ in counts.most_common(4000))]
    number = {word: i for i, word in enumerate(vocabulary)}
    ids = np.zeros((len(split), LENGTH), np.int32)
    for row, (words, _) in zip(ids, split, strict=True):
        row[: len(words)] = [number.get(word, 1) for word in words]
    return ids, np.array([label for _, label in split]), [words for words, _ in split], None


def sentence_numbers(words: list[str], length: int) -> np.ndarray:
    """The sentence that each word is in; padding goes with the last."""
    ends = np.cumsum([len(word) + 1 for word in words])
    places = np.stack([ends - [len(word) + 1 for word in words], ends - 1], axis=1)
    parts = language.segments(" ".join(words), places, by="sentence")
    return np.pad(parts.groups, (0, length - len(words)), mode="edge")


def main() -> None:
    parser = argparse.ArgumentParser(description="Which words decided?")
    parser.add_argument("--data", type=Path, help="a folder with rt-polarity.pos and rt-polarity.neg")
    parser.add_argument("--quick", action="store_true", help="fewer sentences and epochs")
    parser.add_argument("--output", type=Path, default=Path("text"))
    arguments = parser.parse_args()
    count = 3000 if arguments.quick else 10_000
    ids, labels, words, truth = sentences(arguments.data, count) if arguments.data else synthetic(count)
    cut = len(ids) * 4 // 5
    test, names = ids[cut : cut + (200 if arguments.quick else 1000)], ("negative", "positive")
    module = models.transformer(2, vocabulary=int(ids.max()) + 1, length=ids.shape[1], width=32, depth=1, heads=2)
    params = module.init(jax.random.key(1), ids[:1])
    settings = {"optimizer": optax.adam(2e-3), "epochs": 6 if arguments.data or arguments.quick else 10}
    fitted = train.fit(module.apply, params, (ids[:cut], labels[:cut]), key=jax.random.key(2), **settings)
    predicted = np.asarray(train.predict(module.apply, fitted.params, test)).argmax(1)
    print(f"test accuracy: {np.mean(predicted == labels[cut : cut + len(test)]):.1%}")
    f, mask = jaxplain.margin(module.apply, fitted.params), test != 0
    parts = np.stack([sentence_numbers(text, ids.shape[1]) for text in words[cut : cut + len(test)]])

    def removed(x: jax.Array, k: jax.Array, groups: jax.Array) -> jax.Array:  # a word becomes padding, whose id is 0
        return jaxplain.feature_ablation(f, baseline=0, groups=groups, max_groups=ids.shape[1])(x, k)

    units, explain = {"words": np.arange(ids.shape[1]) + 0 * parts, "sentences": parts}, jax.jit(jax.vmap(removed))
    found = {name: np.where(mask, explain(test, predicted, groups), 0) for name, groups in units.items()}
    random = np.where(mask, np.asarray(jax.random.normal(jax.random.key(3), mask.shape)), -np.inf)
    if truth is not None:
        for name, value in (("ablation", np.where(mask, found["words"], -np.inf)), ("random", random)):
            top = np.argsort(-value, axis=1)[:, :2]
            share = np.take_along_axis(truth[cut : cut + len(test)], top, axis=1).mean()
            print(f"two highest tokens that are markers: {name} {share:.1%}")
    removal = jax.jit(jax.vmap(jaxplain.evaluate.deletion(f, baseline=0)))
    areas = [np.asarray(removal(test, np.where(mask, a, -1e9), predicted)) for a in (found["words"], random)]
    gain = jaxplain.evaluate.paired_difference(*areas, key=jax.random.key(4))
    print(f"deletion: {gain.mean:.2f} against random, 95 % interval [{gain.low:.2f}, {gain.high:.2f}] (below 0)")
    arguments.output.mkdir(parents=True, exist_ok=True)
    texts, answers = words[cut : cut + 6], zip(labels[cut:], predicted[:6], strict=False)
    heads = [f"predicted: {names[answer]}, labelled: {names[label]}" for label, answer in answers]
    cuts = {name: [v[: len(t)] for v, t in zip(value, texts, strict=False)] for name, value in found.items()}
    sections = [report.Section(name, plot.tokens(texts, values, heads)) for name, values in cuts.items()]
    report.report(arguments.output / "tokens.html", sections, title="Which words decided?")


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
