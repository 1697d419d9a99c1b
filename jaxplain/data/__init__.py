"""Data: sets that ship with scikit-learn, readers of files and data frames, sets of known attribution, batches.

Arrays stay NumPy arrays on the host until a program takes them. Images are float32 `[N, H, W, C]` in [0, 1], labels
int32 `[N]`.
"""

from jaxplain.data.arrays import load_npz
from jaxplain.data.batching import Batch, Batches, batch_indices, batches, common_length
from jaxplain.data.bundled import breast_cancer, diabetes, digits
from jaxplain.data.cifar import load_cifar10, read_cifar10
from jaxplain.data.idx import load_idx_folder, read_idx
from jaxplain.data.images import load_image_folder
from jaxplain.data.splits import Dataset, Splits, Standardization, standardize
from jaxplain.data.synthetic import (
    AdditiveScore,
    MarkerScore,
    PatchScore,
    Synthetic,
    additive_tabular,
    marker_tokens,
    planted_patches,
)
from jaxplain.data.table import Table, by_variable, table
from jaxplain.data.tetrominoes import tetrominoes

__all__ = [
    "AdditiveScore",
    "Batch",
    "Batches",
    "Dataset",
    "MarkerScore",
    "PatchScore",
    "Splits",
    "Standardization",
    "Synthetic",
    "Table",
    "additive_tabular",
    "batch_indices",
    "batches",
    "breast_cancer",
    "by_variable",
    "common_length",
    "diabetes",
    "digits",
    "load_cifar10",
    "load_idx_folder",
    "load_image_folder",
    "load_npz",
    "marker_tokens",
    "planted_patches",
    "read_cifar10",
    "read_idx",
    "standardize",
    "table",
    "tetrominoes",
]
