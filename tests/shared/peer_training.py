"""Data and weights of a linear classifier, and of a network of digits, as formulas: the same for us and for peers."""

import numpy as np

X = np.sin(np.arange(24.0).reshape(6, 4) * 1.3 + 0.2)
LABELS = np.array([0, 1, 2, 1, 0, 2])
QUERIES = np.cos(np.arange(8.0).reshape(2, 4) * 0.9)
QUERY_LABELS = np.array([1, 2])
CHECKPOINTS = np.stack([scale * np.cos(np.arange(12.0).reshape(4, 3) * 0.7) for scale in (0.2, 0.8)])
RATES = (0.3, 0.1)
REGULARIZATION = 0.05

# A network of digits, 64-6-10 tanh: 40 training examples and 3 queries of scikit-learn's, by number.
DIGITS, ASKED_DIGITS = list(range(40)), [100, 101, 102]
LAYERS = [
    (np.sin(np.arange(384.0).reshape(64, 6) * 1.7) / 4, np.cos(np.arange(6.0)) / 5),
    (np.cos(np.arange(60.0).reshape(6, 10) * 2.3), np.sin(np.arange(10.0)) / 5),
]
EARLIER = [(0.5 * weight, 0.5 * bias) for weight, bias in LAYERS]
DAMPING = 20.0
