"""Double precision for the closed forms of this family."""

import jax
import pytest


@pytest.fixture
def double():
    """Compute in float64 within one test."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)
