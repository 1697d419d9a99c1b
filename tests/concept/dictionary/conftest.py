"""Double precision for closed forms and central differences."""

import jax
import pytest


@pytest.fixture
def double():
    """Compute in float64 within one test."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)
