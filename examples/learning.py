"""One training run seen from inside: what each layer does, when each example is learnt, where the loss leads.

A network of tanh units learns scikit-learn's digits, of which every tenth training label is changed. First learning
rates are compared, side by side in one program; with the best, snapshots are kept, and all of them are explained at
once. Expect a best rate between too small (underfits) and too large (unstable or chance); explanations that settle with
training (rank correlation with the last above .8 half way); changed labels learnt later, or never, and more often
forgotten than the others; and a path that runs down the surface of the loss on the plane of its principal components,
which hold most of its variance. The page shows all of it.

    python examples/learning.py [--quick] [--output FOLDER]
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from jaxplain import data, report, train

KEY = jax.random.key(0)


def apply(params, x):
    hidden = jnp.tanh(x.reshape(len(x), -1) @ params["first"]["w"] + params["first"]["b"][None])
    return hidden @ params["second"]["w"] + params["second"]["b"][None]


def start(key):
    a, b = (jax.random.normal(jax.random.fold_in(key, n), (n, m)) / n**0.5 for n, m in ((64, 32), (32, 10)))
    return {"first": {"w": a, "b": jnp.zeros(32)}, "second": {"w": b, "b": jnp.zeros(10)}}


def spoilt(labels, share):
    """Labels of which a share is changed, and which ones."""
    draw = np.random.default_rng(0)
    changed = draw.permutation(len(labels)) < share * len(labels)
    return np.where(changed, (labels + draw.integers(1, 10, len(labels))) % 10, labels), changed


def main() -> None:
    parser = argparse.ArgumentParser(description="One training run seen from inside.")
    parser.add_argument("--quick", action="store_true", help="fewer epochs")
    parser.add_argument("--output", type=Path, default=Path("learning"), help="where the page goes")
    (options := parser.parse_args()).output.mkdir(parents=True, exist_ok=True)
    splits = data.digits(validation=0.2)
    x, (y, changed) = splits.train.inputs, spoilt(splits.train.targets, 0.1)
    epochs, batch_size = 12 if options.quick else 40, 64
    settings = {"key": KEY, "validation": splits.validation, "epochs": epochs, "batch_size": batch_size}

    rates = {"learning_rate": jnp.logspace(-3, 1, 9)}
    sweep = train.hyperparameter_sweep(
        apply, start(KEY), (x, y), **settings, settings=rates, seeds=3, initialize=start, optimizer=optax.sgd
    )
    best = sweep.best["learning_rate"]
    print(f"the best of nine learning rates: {best:.3g}; neither the least nor the largest: {0.001 < best < 10}")

    last = epochs * -(-len(x) // batch_size)
    steps = sorted({int(step) for step in np.linspace(0, last, 13)})
    result = train.fit(
        apply, start(KEY), (x, y), **settings, optimizer=optax.sgd(best), snapshots=steps, record_layers=True
    )
    print(train.diagnose(result.history))

    some = slice(4)
    maps = train.explain_over(
        lambda p: jaxplain.integrated_gradients(jaxplain.logit(apply, p), steps=16), result.snapshots
    )
    found = jaxplain.explain_batch(maps, x[:64], y[:64])  # [examples, snapshots, 8, 8, 1]
    drift = jax.vmap(train.explanation_drift)(found)
    print(f"half way, explanations rank as at the end: {float(np.median(drift[:, len(steps) // 2])):.3f}")

    dynamics = train.learning_dynamics(apply, result.snapshots, (x, y))
    lost = [np.mean(dynamics.learnt[group] < 0) for group in (changed, ~changed)]
    print("never learnt: {:.0%} of the changed labels, {:.0%} of the others".format(*lost))
    print(f"changed labels are learnt less: {bool(lost[0] > lost[1])}")

    objective = train.mean_loss(apply, result.params, (x, y))
    plane = train.principal_plane(objective, result.snapshots.params)
    surface = train.loss_surface(objective, plane)
    curvature = {"hessian": train.sharpness(objective, result.params, k=3, key=KEY)}
    sections = [
        report.training_section(result.history, params=result.params, sweep=sweep),
        report.learning_dynamics_section(dynamics, labels=y, drift=drift, inputs=x[some], attributions=found[some]),
        report.landscape_section(surface, spectra=curvature),
    ]
    page = report.report(options.output / "report.html", sections, title="One run seen from inside")
    print("report:", page)


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
