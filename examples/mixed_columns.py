"""A table with numbers and categories: one-hot columns explained as one variable, against a background of real rows.

The table is synthetic and its target known: a rent that grows with the area, depends on the city (4 one-hot columns;
the less the greater the distance) and on the heating (3), and not on the door's number. A small network learns
it. Its Shapley values put the columns of a variable together (`groups`) and average over 50 rows of the table, so that
no row of zeros (no city at all) ever enters the network. Expect attributions that correlate with those of the true
formula to more than 0.95 (random ones: about 0), that add up to better than 1e-4, and the door's number last.
`effects.png` shows the curves over the table, `importance.png` the loss when a variable is shuffled, `waterfall.png`
one row.

    python examples/mixed_columns.py [--quick] [--output FOLDER]
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from jaxplain import aggregate, data, models, plot, train

NAMES = ("area", "distance", "door number", "city", "heating")
CITIES = ("Ulm", "Bonn", "Kiel", "Jena")
GROUPS = [*NAMES[:3], *["city"] * 4, *["heating"] * 3]


def rent(row: jax.Array) -> jax.Array:
    """The true formula, in hundreds."""
    area, distance, _, *columns = row
    city, heating = jnp.stack(columns[:4]), jnp.stack(columns[4:])
    located = city @ jnp.array([0.0, 1.0, 2.0, -1.0]) * (1 - 0.4 * distance)
    return 2 * area + located + heating @ jnp.array([0.0, -0.5, 0.8])


def table(key: jax.Array, rows: int) -> np.ndarray:
    keys = jax.random.split(key, 3)
    city, heating = (jax.random.randint(k, (rows,), 0, n) for k, n in zip(keys[1:], (4, 3), strict=True))
    parts = [jax.random.normal(keys[0], (rows, 3)), jax.nn.one_hot(city, 4), jax.nn.one_hot(heating, 3)]
    return np.asarray(jnp.concatenate(parts, axis=1))


def main() -> None:
    parser = argparse.ArgumentParser(description="Categories and numbers, explained as variables.")
    parser.add_argument("--quick", action="store_true", help="train for fewer epochs")
    parser.add_argument("--output", type=Path, default=Path("mixed_columns"), help="where the figures go")
    arguments = parser.parse_args()
    x, test = table(jax.random.key(0), 2000), table(jax.random.key(1), 200)
    y, y_test = (np.asarray(jax.vmap(rent)(rows))[:, None] for rows in (x, test))
    module = models.mlp(1, widths=(64, 64), activation="gelu")
    params = module.init(jax.random.key(2), x[:1])
    settings = {"loss": jaxplain.train.squared_error, "optimizer": optax.adam(3e-3)}
    epochs = 20 if arguments.quick else 60
    params = train.fit(module.apply, params, (x, y), key=jax.random.key(3), epochs=epochs, **settings).params
    f = jaxplain.output(module.apply, params)
    error = np.sqrt(np.mean((np.asarray(jax.vmap(f)(test)) - y_test[:, 0]) ** 2))
    print(f"root mean square error: {error:.2f} (the rents' deviation is {y_test.std():.2f})")

    settings = {"baseline": x[:50], "groups": GROUPS, "batch_size": 50}
    found = data.by_variable(jaxplain.explain_batch(jaxplain.shapley_values(f, **settings), test), GROUPS)
    true = data.by_variable(jaxplain.explain_batch(jaxplain.shapley_values(rent, **settings), test), GROUPS)
    control = jaxplain.explain_batch(jaxplain.evaluate.random_attribution(), test, key=jax.random.key(4))
    control = data.by_variable(control, GROUPS)
    agreement = [np.corrcoef(values.ravel(), true.ravel())[0, 1] for values in (found, control)]
    print(f"correlation with the true formula's attributions: {agreement[0]:.3f} (random: {agreement[1]:.3f})")
    mean = float(jax.vmap(f)(x[:50]).mean())
    scores = np.asarray(jax.vmap(f)(test))
    print(f"largest completeness gap: {np.abs(found.sum(1) - (scores - mean)).max():.1e} (below 1e-4)")

    loss = jaxplain.loss(module.apply, params, jaxplain.train.squared_error)
    importance = aggregate.permutation_importance(loss, groups=GROUPS)(jax.random.key(5), test, y_test)
    order = np.argsort(-np.asarray(importance.mean))
    print("importance: " + ", ".join(f"{NAMES[k]} {importance.mean[k]:.3f}" for k in order))
    effect = {
        "area": aggregate.accumulated_local_effects(f, "area", groups=GROUPS)(test),
        "distance": aggregate.individual_conditional_expectation(f, "distance", groups=GROUPS, centered=True)(test),
        "city": aggregate.partial_dependence(f, "city", groups=GROUPS)(test),
    }
    rugs = {"area": test[:, 0], "distance": test[:, 1]}
    arguments.output.mkdir(parents=True, exist_ok=True)
    figures = {
        "effects": plot.effects(effect, data=rugs, categories={"city": CITIES}, ylabel="rent in hundreds"),
        "importance": plot.importance(importance, names=NAMES, xlabel="increase of the squared error"),
        "waterfall": plot.waterfall(found[0], mean, scores[0], names=NAMES),
    }
    for name, figure in figures.items():
        figure.savefig(arguments.output / f"{name}.png", dpi=150)


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
