"""The benchmark refuses programs that disagree, and judges by the fastest of a kind."""

import dataclasses
import pathlib
import sys

import jax
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from bench import gpu, gpu_attention, harness, language
from bench.harness import BOUND, OURS, PEER, PLAIN, Case, Program


def case(**changes):
    programs = [
        Program("ours", lambda: np.arange(3.0), OURS),
        Program("peer", lambda: {"found": np.arange(3.0) + 1e-6}, PEER, lambda out: out["found"]),
        Program("passes", lambda: None, BOUND, None, scale=8),
    ]
    return Case("work", **{"programs": programs, "targets": {PEER: 1e9, "passes": 0.0}, **changes})


@pytest.mark.slow
def test_a_case_is_measured_and_judged():
    rows = harness.measure("area", case(), rounds=2)
    assert [row.role for row in rows] == [OURS, PEER, BOUND]
    assert all(0 < row.low <= row.median <= row.high for row in rows)
    assert rows[1].difference == pytest.approx(5e-7)
    found = {verdict["against"]: verdict for verdict in harness.verdicts(case(), rows)}
    assert (found["peer"]["met"], found["passes"]["met"]) == (True, False)
    assert found["passes"]["quotient"] == pytest.approx(rows[0].median / rows[2].median)


def test_a_slow_peer_is_timed_less_often():
    slow = Program("peer", lambda: np.arange(3.0), PEER, most=1)
    rows = harness.measure("area", case(programs=[*case().programs[:1], slow]), rounds=3)
    assert [row.rounds for row in rows] == [3, 1]


@pytest.mark.parametrize("wrong", [np.arange(3.0) + 0.1, np.full(3, np.nan)])
def test_programs_that_disagree_are_not_timed(wrong):
    with pytest.raises(AssertionError, match=r"peer is .* away from ours"):
        harness.measure("area", case(programs=[*case().programs[:1], Program("peer", lambda: wrong, PEER)]), rounds=1)


def test_a_failed_proof_stops_a_case():
    def prove():
        raise AssertionError("no proof")

    with pytest.raises(AssertionError, match="no proof"):
        harness.measure("area", case(prove=prove), rounds=1)


@pytest.mark.slow
def test_results_are_written(tmp_path):
    results = harness.run({"area": [case()]}, rounds=1)
    harness.save(results, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "results.png"}
    assert results["machine"]["cores"] >= 1
    assert "jax" in results["machine"]["versions"]


def test_a_case_that_fails_is_told_and_the_others_go_on(tmp_path):
    def broken():
        raise MemoryError("too large")

    bad = case(programs=[Program("ours", broken, OURS)])
    bad = dataclasses.replace(bad, name="too much work")
    kept = []
    results = harness.run({"area": [bad, case()]}, 1, lambda found: kept.append(len(found["rows"])))
    assert results["failures"] == [{"area": "area", "case": "too much work", "error": "MemoryError: too large"}]
    assert kept == [0, 3]
    assert [row["case"] for row in results["rows"]] == ["work"] * 3
    results = harness.run({"area": [case(), case()]}, 1, limit=-1.0)
    assert results["left_out"] == ["area: work"] * 2
    assert not results["rows"]


@pytest.mark.slow
def test_every_case_of_a_gpu_runs():
    """In small, on whatever is here."""
    for made in (*gpu.gpu_cases(quick=True), *gpu_attention.gpu_cases(quick=True)):
        results = [jax.tree.leaves(program.run()) for program in made.programs]
        assert all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaves in results for leaf in leaves), made.name


@pytest.mark.slow
def test_the_cases_of_language_models_agree_in_small():
    size = language.Size(layers=2, width=16, heads=2, tokens=12, words=16)
    for made in (language.patching(size), language.generated(size, count=6)):
        rows = harness.measure("language", made, rounds=1)
        assert [row.role for row in rows[:2]] == [OURS, PLAIN]
        assert all(row.difference < 1e-3 for row in rows[1:]), made.name
