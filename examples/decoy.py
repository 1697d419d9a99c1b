"""A network that is right for the wrong reasons, and the same network trained on its explanations.

A grey patch in the corner of every training digit gives the class away (1 - class / 10, beside digits in faint ink); in
the test set it stands for another digit's class. Plain training reads the patch. A penalty on what explanations find
there (`right_for_the_right_reasons`) makes the same network read the digit. Expect of plain training at least 25 points
less than of a network that never saw a patch, and of both penalties at most 1.5 points less, over five keys; training
on attacked examples, for comparison, knows nothing of the patch and stays below. The figure shows integrated gradients
on test digits before and after.

    python examples/decoy.py [--quick] [--data FOLDER OF IDX FILES] [--output FOLDER]
"""

import argparse
from pathlib import Path

import jax
import numpy as np
import optax

import jaxplain
from jaxplain import data, models, plot, train

KEY, INK, NET = jax.random.key(0), 0.35, models.mlp(10, widths=(64,))


def load(folder):
    """The small digits, or those of a folder of IDX files (of MNIST's test file alone, a fifth is the test set)."""
    test = None if folder and any(folder.glob("*train-images*")) else 0.2
    return data.load_idx_folder(folder, test=test) if folder else data.digits()


def decoys(images, classes, side):
    """Images with a grey patch in the corner that says a class."""
    result = np.array(images)
    result[:, :side, :side] = (1 - classes / 10)[:, None, None, None]
    return result


def log_probabilities(params):
    """The gradient that the source penalises: of all log-probabilities together."""
    return jaxplain.gradient(lambda x, label: jax.nn.log_softmax(NET.apply(params, x[None])[0]).sum())


def training(examples, penalty, epochs):
    """The params of five networks, one a key, trained in one program."""

    def one(key):
        params = NET.init(key, examples[0][:1])
        settings = {"key": key, "optimizer": optax.adam(2e-3), "epochs": epochs, "penalty": penalty}
        return train.fit(NET.apply, params, examples, **settings).params

    return jax.jit(jax.vmap(one))(jax.random.split(KEY, 5))


def main() -> None:
    parser = argparse.ArgumentParser(description="Right for the right reasons on digits with a patch.")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, without attacked examples")
    parser.add_argument("--data", type=Path, help="a folder of IDX files (MNIST) in place of the small digits")
    parser.add_argument("--output", type=Path, default=Path("decoy"))
    options = parser.parse_args()
    splits, epochs = load(options.data), 30 if options.quick else 60
    (inputs, labels), (images, classes) = ((INK * s.inputs, s.targets) for s in (splits.train, splits.test))
    side = inputs.shape[1] // 4 if inputs.shape[1] < 20 else 4
    mask = np.zeros(inputs.shape[1:], np.float32)
    mask[:side, :side] = 1
    seen, tested = decoys(inputs, labels, side), decoys(images, np.random.default_rng(0).permutation(classes), side)
    expected = lambda p: jaxplain.expected_gradients(jaxplain.logit(NET.apply, p), seen[:256], samples=1)  # noqa: E731
    score = lambda p: jaxplain.loss(NET.apply, p)  # noqa: E731
    attack = lambda p: jaxplain.pgd(score(p), epsilon=0.05, step_size=0.02, steps=4)  # noqa: E731
    runs = {
        "no patch": (inputs, None),
        "plain": (seen, None),
        "gradient": (seen, train.right_for_the_right_reasons(log_probabilities, mask, weight=10.0)),
        "expected gradients": (seen, train.right_for_the_right_reasons(expected, mask, weight=100.0)),
        "attacked": (seen, train.adversarial_loss(attack, score)),
    }
    params, right = {}, {}
    for name, (given, penalty) in list(runs.items())[: 4 if options.quick else 5]:
        params[name] = training((given, labels), penalty, epochs)
        answers = jax.vmap(NET.apply, (0, None))(params[name], images if name == "no patch" else tested).argmax(-1)
        right[name] = 100 * np.asarray(answers == classes).mean(1)
        half = 2.776 * right[name].std(ddof=1) / np.sqrt(5)  # Student's t, five keys, 95 %
        print(f"{name:>20}: {right[name].mean():5.1f} % of test digits right, +- {half:.1f}")
    lost = {name: right["no patch"].mean() - value.mean() for name, value in right.items()}
    print(f"plain training loses {lost['plain']:.1f} points (25 or more: {lost['plain'] >= 25})")
    for name in ("gradient", "expected gradients"):
        print(f"trained on the {name}: {lost[name]:.1f} points (at most 1.5: {lost[name] <= 1.5})")
    shown = [jax.tree.map(lambda leaf: leaf[0], params[name]) for name in ("plain", "gradient")]
    maps = [
        jaxplain.explain_batch(jaxplain.integrated_gradients(jaxplain.logit(NET.apply, p)), tested[:4], classes[:4])
        for p in shown
    ]
    options.output.mkdir(parents=True, exist_ok=True)
    figure = plot.heatmaps(tested[:4], dict(zip(("plain", "right reasons"), maps, strict=True)), classes[:4])
    figure.savefig(options.output / "decoy.png", dpi=120)


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
