"""The score with parts of the input replaced."""
