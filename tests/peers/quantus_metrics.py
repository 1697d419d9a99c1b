"""Print what Quantus says of fixed arrays: the constants of `tests/test_evaluate_quantus.py`. Not collected by pytest.

    python tests/peers/quantus_metrics.py

Run with Quantus 0.6.0, torch 2.13.0 and scikit-image 0.26.0, whose own normalisation and absolute values are switched
off. The second part prints what it says where its closed-form value is another (see the tests for those).
"""

import warnings

import numpy as np
import quantus
import torch
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

warnings.filterwarnings("ignore")
OFF = {"normalise": False, "abs": False, "disable_warnings": True, "display_progressbar": False}


def arrays():
    """Inputs, attributions, masks and the weights of a small network, from a fixed seed."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 1.0, (3, 1, 6, 6)).astype(np.float32)
    x[:, 0, 2, 3] = 0.0  # the library's "black" is the least value of an input
    a = rng.normal(size=(3, 1, 6, 6)).astype(np.float32)
    mask = np.zeros((3, 1, 6, 6), bool)
    mask[0, 0, 1:4, 2:5], mask[1, 0, :2, :], mask[2, 0, 3:, 3:] = True, True, True
    first, last = rng.normal(size=(36, 5)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    return x, a, mask, first, last


def network(first, last):
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(36, 5, bias=False), torch.nn.Tanh(), torch.nn.Linear(5, 3, bias=False)
    )
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor(first.T))
        model[3].weight.copy_(torch.tensor(last.T))
    return model.eval()


def show(name, values):
    print(f'    "{name}": {np.round(np.asarray(values, np.float64), 6).tolist()},')


class Linear(torch.nn.Module):
    """Two logits, a linear one and its opposite."""

    def __init__(self, weights):
        super().__init__()
        self.weights = torch.tensor(weights)

    def forward(self, x):
        value = x.flatten(1) @ self.weights
        return torch.stack([value, -value], 1)


def first_batch_only():
    """ROAD and Sensitivity-n read the scores of the first batch, 64 examples as it comes; completeness is `==`."""
    random, right = np.random.default_rng(0), np.arange(90) < 64
    ones = np.ones((90, 1, 6, 6), np.float32)
    call = {"model": Linear(np.ones(36, np.float32)).eval(), "x_batch": ones, "y_batch": np.where(right, 0, 1)}
    call |= {"a_batch": random.normal(size=ones.shape).astype(np.float32), "softmax": False}
    for size in (64, 90):
        road = quantus.ROAD(percentages=[50], noise=0.0, **OFF)(**call, batch_size=size)
        show(f"ROAD in batches of {size}, where 64 of 90 are right", list(road.values()))
    w = np.random.default_rng(1).normal(size=36).astype(np.float32)
    x = np.random.default_rng(2).uniform(0.1, 1.0, (90, 1, 6, 6)).astype(np.float32)
    call = {"model": Linear(w).eval(), "x_batch": x, "y_batch": np.zeros(90, int), "softmax": False}
    true = x * w.reshape(6, 6)
    for name, a in (("true", true), ("last 26 opposite", np.where(right[:, None, None, None], true, -true))):
        metric = quantus.SensitivityN(n_max_percentage=0.8, features_in_step=6, perturb_baseline="black", **OFF)
        show(f"sensitivity-n of a linear model, {name}", metric(**call, a_batch=a))
    x = x.copy()
    x[:, 0, 0, 0] = 0.0  # "black" is the least value
    metric = quantus.Completeness(perturb_baseline="black", **OFF)
    found = metric(**(call | {"x_batch": x}), a_batch=x * w.reshape(6, 6))
    show("completeness of a linear model, how many of 90 true", [np.sum(found)])


def main():
    x, a, mask, first, last = arrays()
    y, model = np.array([0, 1, 2]), network(first, last)
    call = {"model": model, "x_batch": x, "y_batch": y, "a_batch": a, "softmax": False}
    zero = {"perturb_baseline": "black"}
    print("EQUAL = {")
    show("pixel_flipping", quantus.PixelFlipping(features_in_step=1, **zero, **OFF)(**call))
    show("faithfulness_estimate", quantus.FaithfulnessEstimate(features_in_step=1, **zero, **OFF)(**call))
    show(
        "region_perturbation",
        list(quantus.RegionPerturbation(patch_size=2, regions_evaluation=9, order="morf", **zero, **OFF)(**call)),
    )
    show("selectivity", list(quantus.Selectivity(patch_size=2, **zero, **OFF)(**call)))
    show("sparseness", quantus.Sparseness(**(OFF | {"abs": True}))(**call))
    show("entropy", quantus.Complexity(**(OFF | {"abs": True}))(**call))
    show("effective_complexity", quantus.EffectiveComplexity(eps=0.5, **(OFF | {"abs": True}))(**call))
    local = call | {"s_batch": mask}
    show("pointing_game", quantus.PointingGame(**OFF)(**local))
    show("attribution_localization", quantus.AttributionLocalisation(positive_attributions=True, **OFF)(**local))
    show("top_k_intersection", quantus.TopKIntersection(k=7, **OFF)(**local))
    show("relevance_rank_accuracy", quantus.RelevanceRankAccuracy(**OFF)(**local))
    show("relevance_mass_accuracy", quantus.RelevanceMassAccuracy(**OFF)(**local))
    show("roc_auc", quantus.AUC(**OFF)(**local))
    rng = np.random.default_rng(1)
    u, v = rng.normal(size=(2, 12, 10)).astype(np.float32)
    show("spearman", [spearmanr(np.round(u, 0).ravel(), np.round(v, 0).ravel()).statistic])
    extent = float(max(u.max(), v.max()) - min(u.min(), v.min()))
    gaussian = {"gaussian_weights": True, "sigma": 1.0, "use_sample_covariance": False}
    show(
        "structural_similarity",
        [structural_similarity(u, v, data_range=extent), structural_similarity(u, v, data_range=extent, **gaussian)],
    )
    print("}\nOTHER = {")
    show("monotonicity", quantus.Monotonicity(features_in_step=1, **zero, **OFF)(**call))
    show(
        "monotonicity of the opposite",
        quantus.Monotonicity(features_in_step=1, **zero, **OFF)(**(call | {"a_batch": -a})),
    )
    empty = local | {"s_batch": np.zeros_like(mask)}
    show("pointing game of an empty mask", quantus.PointingGame(**OFF)(**empty))
    first_batch_only()
    print("}")


if __name__ == "__main__":
    main()
