"""What a notebook shows of results: figures as pictures, tables as tables, sentences as sentences; no pyplot needed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import plot, train
from shared.html_rows import rows_of

KEY = jax.random.key(0)
X = np.asarray(jax.random.normal(KEY, (12, 4)))
Y = np.arange(12) % 3
WEIGHTS = {"w": jnp.ones((4, 3)) / 3}


def apply(params, x):
    return x @ params["w"]


F = jaxplain.logit(apply, WEIGHTS)


@pytest.fixture(scope="module")
def fitted():
    return train.fit(apply, WEIGHTS, (X, Y), key=KEY, epochs=2, batch_size=4, validation=(X, Y))


def test_a_figure_is_a_picture_without_pyplot():
    table = plot.layer_table(jaxplain.layers(F)(X[0], 0))
    for figure in (plot.heatmaps(np.zeros((1, 4, 4)), np.ones((1, 4, 4))), table):
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_layer_table_is_a_table():
    table = jaxplain.layers(F)(X[0], 0)
    rows = rows_of(table._repr_html_())
    assert rows[0][0] == "layer"
    assert len(rows) == len(table) + 2
    assert rows[-1][0] == "total"
    for cell in rows[1]:
        assert cell in str(table)


@pytest.mark.slow
def test_scores_and_comparisons_are_tables():
    attributions = {"<gradient>": np.asarray(jax.vmap(jaxplain.gradient(F))(X, Y))}
    table = jaxplain.evaluate.score_table(attributions, {"deletion": jaxplain.evaluate.deletion(F)}, X, Y, key=KEY)
    rows = rows_of(table._repr_html_())
    assert [row[0] for row in rows] == ["method", "<gradient>", "random"]
    assert rows[0][1] == "deletion (lower is better)"
    assert f"{table.mean[0, 0]:.4g}" in rows[1][1]
    assert "* better than the control, ! worse" in table._repr_html_()
    metrics = {"sparseness": lambda f: jaxplain.evaluate.sparseness()}
    grid = jaxplain.evaluate.compare(F, {"gradient": jaxplain.gradient}, metrics, (X, Y), KEY, samples=20)
    rows = rows_of(grid._repr_html_())
    assert [row[0] for row in rows[1:]][:1] == ["gradient"]
    assert len({len(row) for row in rows}) == 1


def test_training_is_a_table_and_its_diagnosis_a_sentence(fitted):
    rows = rows_of(fitted._repr_html_())
    curves = ["loss", "accuracy", "gradient norm", "validation loss", "validation accuracy"]
    assert [row[0] for row in rows[1:]] == curves
    curve = np.asarray(fitted.history.loss)
    assert rows[1][1:] == [f"{value:.4g}" for value in (curve[0], curve[-1], curve.min(), curve.max())]
    assert "params of 12 numbers in 1 arrays" in fitted._repr_html_()
    found = train.diagnose(fitted.history)
    assert found._repr_html_().startswith("<p>The model ")
    assert len(rows_of(found._repr_html_())) == len(found.numbers) + 1
    run = jax.vmap(lambda key: train.fit(apply, WEIGHTS, (X, Y), key=key, epochs=2, batch_size=4))
    several = run(jax.random.split(KEY, 2))
    assert len(rows_of(several._repr_html_())) == 4


def test_convergence_is_a_table():
    result = jaxplain.integrated_gradients_with_gap(F, steps=4)(X[0], 1)
    rows = dict(rows_of(result._repr_html_())[1:])
    assert rows["attribution"] == "float32[4]"
    assert rows["steps"] == "4"
    assert float(rows["gap"]) == pytest.approx(float(result.gap), abs=1e-6)


def test_a_report_shows_them(tmp_path, fitted):
    page = jaxplain.report.report(tmp_path / "page.html", [("Layers", jaxplain.layers(F)(X[0], 0)), ("Fit", fitted)])
    text = page.read_text(encoding="utf-8")
    assert "gradient norm" in text
    assert "total" in text


def test_a_stopped_run_ends_where_it_stopped():
    """Runs of 2 and 3 of 4 epochs: last losses 3 and 5, their mean 4; of the mean curve 2, 3, 5 least and largest."""
    loss = np.array([[1.0, 3.0, np.nan, np.nan], [3.0, 3.0, 5.0, np.nan]])
    history = train.History(loss, loss, loss, epochs=np.array([2, 3]))
    fit = train.Fit(WEIGHTS, None, history)
    assert rows_of(fit._repr_html_())[1] == ["loss", "2", "4", "2", "5"]
    assert "2 runs, curves are their means; 2 to 3 epochs" in fit._repr_html_()
    alone = train.Fit(WEIGHTS, None, train.History(loss[0], loss[0], loss[0], epochs=2))
    assert rows_of(alone._repr_html_())[1] == ["loss", "1", "3", "1", "3"]
    broken = train.Fit(WEIGHTS, None, train.History(*[np.full(2, np.nan)] * 3))
    assert rows_of(broken._repr_html_())[1] == ["loss", *["nan"] * 4]


def test_odd_results_show_themselves(fitted):
    """Whatever a transformation puts into a result: shapes, nothing, traced values."""
    result = jaxplain.integrated_gradients_with_gap(F, steps=4)(X[0], 1)
    for own in (fitted, result):
        odd = [
            jax.tree.map(put, own)
            for put in (jnp.shape, lambda leaf: None, lambda leaf: "<b>", lambda leaf: jnp.asarray(leaf)[None])
        ]
        for value in (*odd, jax.eval_shape(lambda own=own: own)):
            assert rows_of(value._repr_html_()) is not None
            assert "<b>" not in value._repr_html_()

        def look(own):
            assert rows_of(own._repr_html_()) is not None
            return own

        jax.jit(look)(jax.tree.map(jnp.asarray, own))
    assert rows_of(fitted._replace(history=None)._repr_html_()) == []
    assert [row[0] for row in rows_of(type(jaxplain.layers(F)(X[0], 0))()._repr_html_())] == ["layer", "total"]
