"""Settings every test runs under."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")

# Scripts for environments with torch, and programs that tests start: the latter change how many devices JAX sees.
collect_ignore_glob = ["peers/*", "dataset/eight_devices.py", "dataset/two_processes.py", "dataset/killed.py"]
