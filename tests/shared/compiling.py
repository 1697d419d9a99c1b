"""How programs that tests start compile."""

import jax

FLAGS = "--xla_cpu_use_fusion_emitters=false" if jax.__version_info__ < (0, 11) else ""
"""The CPU compiler's former way to write fused loops takes three quarters of the time; newer ones have it no more."""
