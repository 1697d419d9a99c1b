"""Activation maximization and what it is composed of."""
