"""Reads and rewrites a traced function: the engine under capture, rules and layouts."""
