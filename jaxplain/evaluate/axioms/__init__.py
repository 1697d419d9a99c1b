"""Properties that an attribution is meant to have."""
