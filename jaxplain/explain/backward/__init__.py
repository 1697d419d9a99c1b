"""Rules for the backward pass."""
