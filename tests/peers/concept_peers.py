"""Regenerate the numbers of captum 0.9 and CoRelAy 1.0 that the tests of concepts hold.

    python tests/peers/concept_peers.py

Needs torch, captum, scikit-learn and corelay; not collected by pytest. Network and data are those of
`shared.concept_peers`.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from captum.concept import TCAV, Concept

sys.path.insert(0, str(Path(__file__).parents[1]))
from shared.concept_peers import ASKED, FIRST, MAPS, NEIGHBOURS, SECOND, TARGET, WITH, WITHOUT


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = torch.nn.Linear(6, 5, bias=False)
        self.last = torch.nn.Linear(5, 3, bias=False)
        with torch.no_grad():
            self.hidden.weight.copy_(torch.tensor(FIRST.T))
            self.last.weight.copy_(torch.tensor(SECOND.T))

    def forward(self, x):
        return torch.tanh(self.last(torch.sin(self.hidden(x))))


def captum():
    """The vector that its classifier fits, and what it says of it."""
    rows = [torch.tensor(a, dtype=torch.float32) for a in (WITH, WITHOUT)]
    concepts = [Concept(n, str(n), torch.utils.data.DataLoader(a, batch_size=30)) for n, a in enumerate(rows)]
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        method = TCAV(Network(), layers="hidden", save_path=folder)
        found = method.interpret(torch.tensor(ASKED, dtype=torch.float32), [concepts], target=TARGET)["0-1"]["hidden"]
        stats = method.cavs["0-1"]["hidden"].stats
    return {"weights": stats["weights"].tolist(), **{name: value.tolist() for name, value in found.items()}}


def corelay():
    """The smallest eigenvalues of its Laplacian."""
    from corelay.processor.affinity import SparseKNN
    from corelay.processor.distance import SciPyPDist
    from corelay.processor.embedding import EigenDecomposition
    from corelay.processor.laplacian import SymmetricNormalLaplacian

    distances = SciPyPDist(metric="euclidean")(MAPS)
    affinity = SparseKNN(n_neighbors=NEIGHBOURS, symmetric=True)(distances)
    laplacian = SymmetricNormalLaplacian()(affinity)
    values, _ = EigenDecomposition(n_eigval=6)(laplacian)
    return np.asarray(values).tolist(), np.asarray(affinity.sum(axis=1)).ravel().tolist()


if __name__ == "__main__":
    print(captum())
    print(corelay())
