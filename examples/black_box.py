"""A scikit-learn forest on a data frame with numbers, texts and truths, explained without a derivative of it.

The table is synthetic and its rent known: it grows with the area, depends on the city (the less the farther from the
centre) and on the heating, and not on the door's number. The forest is a black box to JAX: `black_box` calls its
`predict` with data frames of the training columns, a few hundred rows at a time. Expect KernelSHAP to give the exact
Shapley values (all coalitions of five columns fit), to add up to the prediction less the mean prediction of the
background, and to agree with those of the true formula to a correlation above 0.9; permutation importance puts the
door's number last. `summary.png`, `dependence.png` and `waterfall.png` show columns by name and categories in words.

    python examples/black_box.py [--quick] [--output FOLDER]
"""

import argparse
import itertools
import math
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import jaxplain
from jaxplain import aggregate, data, plot

WORTH = {"Bonn": 1.0, "Jena": -1.0, "Kiel": 2.0, "Ulm": 0.0}


def flats(seed: int, rows: int) -> pd.DataFrame:
    """A table as one meets them: numbers, truths, texts, and an index of its own."""
    draw = np.random.default_rng(seed)
    columns = {"area": draw.normal(size=rows).round(2), "distance": draw.uniform(0, 2, rows).round(2)}
    columns |= {"door": draw.integers(1, 200, rows), "city": draw.choice(list(WORTH), rows)}
    columns["heated"] = draw.random(rows) < 0.7
    return pd.DataFrame(columns, index=[f"flat {seed}-{number}" for number in range(rows)])


def rent(df: pd.DataFrame) -> np.ndarray:
    """The true formula, in hundreds."""
    return (2 * df["area"] + df["city"].map(WORTH) * (1 - 0.4 * df["distance"]) + 0.8 * df["heated"]).to_numpy()


def by_hand(predict, row: pd.DataFrame, background: pd.DataFrame) -> np.ndarray:
    """Shapley values by their definition, for comparison: every coalition of columns, in NumPy and pandas."""
    n, value = row.shape[1], {}
    for kept in itertools.chain.from_iterable(itertools.combinations(range(n), size) for size in range(n + 1)):
        mixed = background.copy()
        for column in kept:
            mixed[row.columns[column]] = row.iloc[0, column]
        value[frozenset(kept)] = predict(mixed).mean()
    weight = [math.factorial(s) * math.factorial(n - s - 1) / math.factorial(n) for s in range(n)]
    return np.array(
        [sum(weight[len(s)] * (value[s | {i}] - v) for s, v in value.items() if i not in s) for i in range(n)]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="A forest on a data frame, explained from outside.")
    parser.add_argument("--quick", action="store_true", help="fewer rows and trees")
    parser.add_argument("--output", type=Path, default=Path("black_box"), help="where the figures go")
    arguments = parser.parse_args()
    train, test = flats(0, 600 if arguments.quick else 3000), flats(1, 20 if arguments.quick else 100)
    encoder = make_column_transformer((OneHotEncoder(), ["city"]), remainder="passthrough")
    forest = RandomForestRegressor(20 if arguments.quick else 100, min_samples_leaf=2, random_state=0)
    model = make_pipeline(encoder, forest).fit(train, rent(train))
    error = np.sqrt(np.mean((model.predict(test) - rent(test)) ** 2))
    print(f"root mean square error: {error:.2f} (the rents' deviation is {rent(test).std():.2f})")

    table = data.table(train, one_hot=False)
    background = train[:40]
    baseline, x = table.encode(background), table.encode(test)
    f = jaxplain.black_box(model.predict, table=table)
    e = jaxplain.kernel_shap(f, baseline=baseline, samples=2**5)
    found = jaxplain.explain_batch(e, x, key=jax.random.key(0))
    a = data.by_variable(found, table, like=test)
    exact = by_hand(model.predict, test[:1], background)
    print(f"equal to the Shapley values by hand: {np.allclose(a.iloc[0], exact, atol=1e-4)}")
    gap = np.abs(a.sum(axis=1) - (model.predict(test) - model.predict(background).mean())).max()
    print(f"adds up to the prediction: {gap < 1e-4} ({gap:.1e})")
    truth = jaxplain.kernel_shap(jaxplain.black_box(rent, table=table), baseline=baseline, samples=2**5)
    true = np.asarray(jaxplain.explain_batch(truth, x, key=jax.random.key(0)))
    agreement = np.corrcoef(a.to_numpy().ravel(), true.ravel())[0, 1]
    print(f"correlation with the true formula's: {agreement:.3f}, above 0.9: {agreement > 0.9}")

    loss = aggregate.permutation_importance(lambda x, y: (f(x) - y) ** 2, samples=4)
    importance = loss(jax.random.key(1), x, rent(test))
    order = [table.names[k] for k in np.argsort(-importance.mean)]
    print(f"importance: {', '.join(order)}; the door's number is last: {order[-1] == 'door'}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    start, end = model.predict(background).mean(), model.predict(test[:1])[0]
    plot.summary(test, a).savefig(arguments.output / "summary.png", dpi=150)
    plot.dependence(test, a, "city", colour_by="distance").savefig(arguments.output / "dependence.png", dpi=150)
    plot.waterfall(a.iloc[0], start, end, values=test[:1]).savefig(arguments.output / "waterfall.png", dpi=150)


if __name__ == "__main__":
    main()
