"""Settings every test runs under."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")

collect_ignore_glob = ["peers/*"]  # scripts for environments with torch
