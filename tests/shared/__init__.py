"""What several tests share: the tables of all methods and metrics, networks, cases, and numbers recorded from peers.

Nothing is tested here. `methods.py` and `metrics.py` have a row for every public method and metric; a test fails when
one is missing.
"""
