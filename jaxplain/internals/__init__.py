"""Looking inside a model: its layers, its graph, its values."""
