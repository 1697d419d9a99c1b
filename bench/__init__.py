"""Benchmarks: `python -m bench`. Each file is an area and exposes `cases(quick) -> list[Case]`; `harness` runs them."""
