"""The benchmark refuses programs that disagree, and judges by the fastest of a kind."""

import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from bench import harness
from bench.harness import BOUND, OURS, PEER, Case, Program


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
