"""Train Flax models and explain them with composable JAX functions."""
