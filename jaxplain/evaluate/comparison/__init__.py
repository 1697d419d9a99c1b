"""Methods and metrics beside each other, with controls."""
