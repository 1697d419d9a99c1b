"""Gradients, paths and noise."""
