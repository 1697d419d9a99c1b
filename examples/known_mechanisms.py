"""What must a method not be asked? Models whose mechanism is known, and judges of methods that know no mechanism.

Five small networks with set weights ask one question each: a weight that a switch chooses, two features that cancel
each other, a feature whose paths cancel, features that raise all classes alike, a feature whose absence matters. The
table says which methods pass. Expect none to pass all five: what is multiplied by the input, or starts from zeros, does
not see an absence (from ones it does); what removes features one by one, and every gradient, is blind to two that
cancel each other, which Shapley values and DeepLIFT's reveal-cancel rule see; these share the weight that the switch
chooses with the switch; guided backpropagation sees a feature whose paths cancel.

A second table removes what a method found and trains again (ROAR), on a task of which two of eight features say
everything, and only together. Expect the accuracy to fall from 0.94 to chance (0.51) without the true ones, nearly as
far (0.54) without those that integrated gradients find, and to 0.72 without random ones.

    python examples/known_mechanisms.py [--quick] [--output FOLDER]
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

import jaxplain
from jaxplain import evaluate

METHODS = {
    "gradient": jaxplain.gradient,
    "input_x_gradient": jaxplain.input_x_gradient,
    "integrated_gradients": partial(jaxplain.integrated_gradients, steps=32),
    "integrated_gradients from 1": partial(jaxplain.integrated_gradients, steps=64, rule="midpoint", baseline=1.0),
    "feature_ablation": jaxplain.feature_ablation,
    "shapley_values": jaxplain.shapley_values,
    "deep_lift": jaxplain.deep_lift,
    "deep_lift, reveal_cancel": partial(jaxplain.deep_lift, rule="reveal_cancel"),
    "lrp, epsilon": lambda f: jaxplain.lrp(f, jaxplain.relevance.epsilon()),
    "lrp, alpha 2 beta 1": lambda f: jaxplain.lrp(f, jaxplain.relevance.alpha_beta()),
    "guided_backprop": jaxplain.guided_backprop,
    "smoothgrad": lambda f: jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.3, samples=16),
}


def apply(params, x):
    """A network of one hidden layer."""
    return jax.nn.relu(x @ params["a"] + params["b"]) @ params["c"]


def train_and_test(key, data, test):
    """Train from the start, and return the accuracy."""
    one, two = jax.random.split(key)
    width = data[0].shape[1]
    params = {"a": jax.random.normal(one, (width, 24)) / 2, "b": jnp.zeros(24)}
    params["c"] = jax.random.normal(two, (24, 2)) / 4
    run = jaxplain.train.fit(apply, params, data, key=key, optimizer=optax.adam(2e-2), epochs=20, progress=False)
    return jnp.mean(apply(run.params, test[0]).argmax(1) == test[1])


def main() -> None:
    parser = argparse.ArgumentParser(description="Models whose mechanism is known, and retraining.")
    parser.add_argument("--quick", action="store_true", help="fewer examples and retrainings")
    parser.add_argument("--output", type=Path, default=Path("known_mechanisms"), help="where the tables go")
    arguments = parser.parse_args()
    key = jax.random.key(0)
    table = evaluate.mechanism_table(METHODS, key, samples=24 if arguments.quick else 256)
    print(table)
    passes = dict(zip(table.methods, table.passes.sum(1).tolist(), strict=True))
    print(f"\nno method passes all: {max(passes.values()) < len(table.mechanisms)}")

    count = 256 if arguments.quick else 1024
    x = jax.random.normal(jax.random.fold_in(key, 1), (count, 8))
    data = x, (x[:, 0] * x[:, 1] > 0).astype(jnp.int32)
    train, test = (
        jax.tree.map(lambda leaf, part=part: leaf[part], data) for part in (slice(0, None, 2), slice(1, None, 2))
    )
    own = jaxplain.train.fit(
        apply,
        {"a": jax.random.normal(key, (8, 24)) / 2, "b": jnp.zeros(24), "c": jnp.zeros((24, 2))},
        train, key=key, optimizer=optax.adam(2e-2), epochs=20, progress=False,
    ).params  # fmt: skip
    e = jaxplain.integrated_gradients(jaxplain.margin(apply, own), steps=16)
    found = tuple(jnp.abs(jaxplain.explain_batch(e, *part)) for part in (train, test))
    truth = tuple(jnp.zeros_like(part[0]).at[:, :2].set(1.0) for part in (train, test))
    curves = evaluate.remove_and_retrain(
        train_and_test, train, test, {"truth": truth, "|integrated_gradients|": found}, key=key, fractions=(0.25, 0.5),
        repeats=2 if arguments.quick else 5, batch_size=4,
    )  # fmt: skip
    print(f"\n{curves}")
    print(f"the true features are missed more than random ones: {curves.beats_control[0]}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "tables.txt").write_text(f"{table}\n\n{curves}\n", encoding="utf-8")


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
