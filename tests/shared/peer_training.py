"""Data and weights of a linear classifier as formulas, the same for us and for peers."""

import numpy as np

X = np.sin(np.arange(24.0).reshape(6, 4) * 1.3 + 0.2)
LABELS = np.array([0, 1, 2, 1, 0, 2])
QUERIES = np.cos(np.arange(8.0).reshape(2, 4) * 0.9)
QUERY_LABELS = np.array([1, 2])
CHECKPOINTS = np.stack([scale * np.cos(np.arange(12.0).reshape(4, 3) * 0.7) for scale in (0.2, 0.8)])
RATES = (0.3, 0.1)
REGULARIZATION = 0.05
