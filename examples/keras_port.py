"""The classic first Keras program, in jaxplain: the same network, loss, optimizer, data and epochs.

    model = Sequential([Dense(64, activation="relu", input_dim=100), Dense(10, activation="softmax")])
    model.compile(loss="categorical_crossentropy", optimizer="sgd", metrics=["accuracy"])
    model.fit(random((1000, 100)), to_categorical(randint(10, size=1000)), epochs=10, batch_size=32)

Stochastic gradient descent with a rate of 0.01 and softmax cross-entropy are the defaults of `fit`, as they are Keras's
there; the network gives logits, and the loss takes their softmax. The labels are drawn by lot, so there is nothing to
learn but the lot itself: expect the loss to fall from 2.35 to about 2.29 while accuracy creeps from 10 % to about 13 %.
Then integrated gradients say which of the 100 inputs moved the predictions most; on every example they add up to the
score's difference from the baseline (the gap that is printed stays below 1 %).

    python examples/keras_port.py [--quick] [--output FOLDER]
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxplain
from jaxplain import models, plot, train


def main() -> None:
    parser = argparse.ArgumentParser(description="The first Keras program, and what it looked at.")
    parser.add_argument("--quick", action="store_true", help="explain 50 examples instead of all 1000")
    parser.add_argument("--output", type=Path, default=Path("keras_port"), help="where the figures go")
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    x = generator.random((1000, 100), dtype=np.float32)
    labels = generator.integers(0, 10, 1000)
    one_hot = np.eye(10, dtype=np.float32)[labels]

    module = models.mlp(10, widths=(64,), activation="relu")
    params = module.init(jax.random.key(0), x[:1])
    result = train.fit(module.apply, params, (x, one_hot), key=jax.random.key(1), epochs=10, batch_size=32)
    history, diagnosis = result.history, train.diagnose(result.history)
    for epoch, (loss, accuracy) in enumerate(zip(history.loss, history.accuracy, strict=True), start=1):
        print(f"epoch {epoch:2d}: loss {loss:.4f}, accuracy {accuracy:.3f}")
    print(f"{diagnosis}\nthe loss fell: {history.loss[-1] < history.loss[0]}")

    count = 50 if arguments.quick else len(x)
    f = jaxplain.logit(module.apply, result.params)
    e = jaxplain.integrated_gradients(f, baseline=jnp.asarray(x.mean(0)), steps=128)
    attributions = jaxplain.explain_batch(e, x[:count], labels[:count])
    scores = jax.vmap(f)(x[:count], labels[:count]) - jax.vmap(f, (None, 0))(x.mean(0), labels[:count])
    gap = jnp.abs(attributions.sum(1) - scores).mean() / jnp.abs(scores).mean()
    importance = np.abs(attributions).mean(0)
    print(f"completeness: the attributions miss {gap:.1e} of the scores' differences (below 1 %: {gap < 0.01})")
    print("most important inputs:", ", ".join(f"{i} ({importance[i]:.4f})" for i in np.argsort(-importance)[:5]))

    arguments.output.mkdir(parents=True, exist_ok=True)
    names = [f"input {i}" for i in range(100)]
    plot.learning_curves(history, diagnosis=diagnosis).savefig(arguments.output / "learning_curves.png")
    plot.attribution_bar(attributions, names=names).savefig(arguments.output / "important_inputs.png")
    print(f"figures in {arguments.output}")


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
