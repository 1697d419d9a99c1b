"""Figures and sections of concepts: what is drawn where, what is written, what is refused."""

import jax
import numpy as np
import pytest

from jaxplain import plot, report
from jaxplain.concept import concept_vectors, spray, tcav

KEY = jax.random.key(0)


def clusters(channels=()):
    rng = np.random.default_rng(0)
    maps = 0.2 * rng.normal(size=(40, 6, 6, *channels))
    maps[:28, 3:, 3:] += 1
    maps[28:, :2, :2] += 1
    return spray(maps, key=KEY), rng.random((40, 6, 6))


def result(samples=99):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(200, 24)).astype(np.float32)
    labels = np.zeros((2, 200), int)
    labels[0, :10], labels[0, 10:20], labels[1, 30:40], labels[1, 50:60] = 1, -1, 1, -1
    rows[:10, 0] += 12
    found = concept_vectors(rows, {"planted $x$": labels[0], "_none": labels[1]})
    return tcav(lambda h: 2 * h[0] + h[3] ** 2, found, rows[100:150], key=KEY, samples=samples)


def test_clusters_are_drawn_the_most_separate_first():
    found, images = clusters()
    assert found.count == 2
    figure = plot.attribution_clusters(found, images, labels=np.arange(40) % 3, names=["a", "b", "c"], k=4)
    top, rest = figure.subfigs
    values, plane = top.axes
    assert values.get_title() == "eigenvalues: 2 clusters"
    assert sum(len(part.get_offsets()) for part in plane.collections) == 40
    assert len(rest.axes) == 2 * 5
    order = found.suspicious()
    for row, cluster in enumerate(order):
        mean, *examples = rest.axes[5 * row : 5 * row + 5]
        assert mean.get_title() == f"cluster {cluster}: {found.sizes[cluster]}"
        np.testing.assert_allclose(mean.images[0].get_array(), found.means[cluster])
        for axes, member in zip(examples, found.members(int(cluster)), strict=False):
            np.testing.assert_allclose(axes.images[0].get_array(), images[member])
            assert axes.get_xlabel() == "abc"[member % 3]
    assert "2 clusters of 40" in figure.get_label()
    coloured, _ = clusters((3,))
    assert plot.attribution_clusters(coloured, images, limit=1).subfigs[1].get_suptitle() == "first 1 of 2 clusters"


def test_concepts_are_drawn_beside_chance():
    found = result()
    (axes,) = plot.concept_scores(found).axes
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    np.testing.assert_allclose(bars, np.stack([found.random_low, found.random_high], 1))
    assert [text.get_text() for text in axes.get_yticklabels()] == [r"planted \$x\$", " _none"]
    assert f"p {found.corrected[0]:.3g}, accuracy 1.00" in axes.texts[0].get_text()
    assert "not tested" in plot.concept_scores(result(0)).axes[0].texts[0].get_text()


def test_sections_say_what_was_found(tmp_path):
    found, images = clusters()
    first, second = report.concept_section(result()), report.clusters_section(found, images)
    assert "1 with a corrected p of at most 0.05, by rank among 99 random concepts" in first.content[0]
    assert [row["examples"] for row in second.content[2]] == [int(found.sizes[c]) for c in found.suspicious()]
    page = report.report(tmp_path / "page.html", [first, second]).read_text()
    assert page.count("<img") == 2
    assert "fall into 2 clusters (largest gap between eigenvalues" in page
    asked = spray(np.random.default_rng(0).random((40, 6, 6)) + found.labels[:, None, None], key=KEY, k=5)
    assert "fall into 5 clusters (as many as were asked for)" in report.clusters_section(asked, images).content[0]
    assert "separation</th>" in page


def test_what_cannot_be_drawn_is_refused():
    found, images = clusters()
    flat = spray(np.random.default_rng(0).normal(size=(12, 4)), key=KEY)
    for call, words in (
        (lambda: plot.attribution_clusters(found, images[:5]), "`inputs` holds 5, but `clusters` holds 40"),
        (lambda: plot.attribution_clusters(flat, images[:12]), r"`clusters` are of maps \(4,\)"),
        (lambda: plot.attribution_clusters(None, images), "`clusters` has to be a Clusters"),
        (lambda: plot.attribution_clusters(found, images, places=np.zeros((40, 3, 1))), "`places` has shape"),
        (lambda: plot.concept_scores(result(0), level=2.0), "`level` has to lie between 0 and 1"),
        (lambda: plot.concept_scores(None), "`result` has to be a Tcav"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            call()
