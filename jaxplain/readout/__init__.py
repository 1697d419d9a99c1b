"""Reading a model's outputs: the part, the target, the loss of one example."""
