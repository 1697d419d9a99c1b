"""Train networks in JAX and explain them: scores, methods, wrappers and metrics that compose as `jax.grad` does.

The idea. A score is a function `f(x, *args) -> scalar`, like a loss. A method makes an explanation of it,
`method(f, **settings) -> e`, with `e(x, *args) -> attribution` of x's structure. A wrapper changes an explanation,
`wrapper(e) -> e`. A metric judges one, `metric(f) -> m`. All are written for one example and are immutable pytrees:
batches are `jax.vmap` or `explain_batch`, speed is `jax.jit`, devices are a sharding. What is random takes a key first.

    f = jaxplain.logit(apply, params)                           # (x, label) -> scalar
    e = jaxplain.integrated_gradients(f, steps=64)              # (x, label) -> attribution of x's shape
    attributions = jaxplain.explain_batch(e, images, labels)    # [B, H, W, C], one compiled program

The stages, each a namespace that is there after `import jaxplain`:

    jaxplain.data, models, train          examples, networks, training by compiled steps
    jaxplain                              scores, methods and wrappers, what looks inside a model (layers, capture,
                                          intervene, split, draw), explain_batch, explain_dataset, open_explanations
    jaxplain.baseline, relevance          what absent means; the rules of relevance propagation
    jaxplain.pattern                      signal and suppressors: PatternNet, PatternAttribution
    jaxplain.image, objective, transform, regulariser    what activation maximization is composed of
    jaxplain.language                     language models: scores of text, attribution of generated text, circuits
    jaxplain.genomics                     one-hot sequences: shuffled references, mutations, hypothetical contributions
    jaxplain.vision                       detection and segmentation: scores of boxes and regions, D-RISE
    jaxplain.evaluate                     is the explanation right: metrics, controls, comparisons
    jaxplain.influence                    which training examples did it: derivatives through training, retraining
    jaxplain.concept                      what features mean: concept vectors, dictionaries, sparse autoencoders
    jaxplain.aggregate                    the whole model: means, top-k, effects, importances, units
    jaxplain.dataset                      whole datasets: written, resumed, read back
    jaxplain.plot, report                 figures from arrays; one page

Where to look: `jaxplain.__all__` lists the names of this level, `dir(jaxplain.evaluate)` those of a namespace, and
`help(jaxplain.lrp)` says what one computes, with equation, shapes, cost, errors, an example and its source. A name from
another library (`jaxplain.IntegratedGradients`, `n_steps=`) is answered with the name here.

Settings. What means the same has the same name; name | meaning | unit | where | default, `-` where it has to be given:

    accuracy | how accuracy is measured | (outputs, targets) -> [B] | training | None
    activation | what makes probabilities of logits | - | scores | 'softmax'
    axes | axes counted from the front | - | images | None; (0,1): blur, blur_integrated_gradients
    baseline | what absent means: a number, an array, a function of x or (key, x) | units of x | all | 0.0; 0:
          context_cite, d_rise, feature_ablation, kernel_shap, lime, occlusion, owen_values, rise,
          shapley_interactions, shapley_sampling, shapley_sampling_with_error, shapley_values; (0.0,1.0): xrai;
          None: hypothetical_contributions, remove_and_retrain, road, road_curve
    batch_axis | where a layer's values carry the batch; 'auto' finds it | axis | layers | 'auto'
    batch_size | points, samples, masks or rows at once: the memory knob; None fills the device (`explain_batch`) |
          count | all | None; 8: deep_dream, frechet_bootstrap; 64: ace, concept_regions, concept_sensitivity,
          concept_vectors, counterfactual_examples, craft, estimate_patterns, explain_dataset, gradient_similarity,
          influence_function, loss_recovered, region_scores, representer_points, self_influence, sub_concepts, tcav,
          tcav_layers, tcav_t_test, tracin, trak, unrolled; 32: concept_curves, fit, hyperparameter_sweep,
          mode_connectivity, receptive_field, training_run, tuned_lens; 1: banzhaf, beta_shapley,
          counterfactual_curve, data_out_of_bag, data_shapley, explain_over, leave_one_out, leave_out_curve,
          parameter_randomization, parameter_randomization_curve, remove_and_retrain, retrain,
          smooth_parameter_randomization; 256: accumulated_local_effects, activation_stream, assess,
          individual_conditional_expectation, judge_dictionary, learning_dynamics, mean_loss, partial_dependence,
          permutation_importance, predict, prediction_depth, sparse_surrogate, spray, train_autoencoder,
          tree_surrogate; 128: activation_atlas, top_activations, unit_activity; 4096: recovery
    bias | whether biases take part in a rule | - | rules | True; 0.0: concept_score
    cells | of the coarse grid that masks are drawn on | count | masks | 7; 16: d_rise
    channel_axis | a layer's axis of channels | axis | maps | -1
    checkpoint | a folder in which a run is saved | path | training | None
    colour | correlation of colour channels, from `colour_matrix` | - | images | None
    confidence | of an interval | share | intervals | 0.95
    counts | how many examples are left out | examples | influence | (1,4,16)
    curvature | of which second derivative | - | influence | 'gauss_newton'; 'hessian': sharpness
    damping | L2 penalty of the summed loss, added to its curvature | loss | influence | None; 'fit':
          influence_function; -: representer_points
    decay | of a running average; of frequencies, in an image | - | dictionaries, images | 0.99; 1.0: fourier
    epochs | passes over the data | count | training | 10
    epsilon | largest change of an attack, in `norm` | units of x | attacks | -
    fill | what stands where nothing is | units of x | all | 0.0
    floor | least denominator of a relative quantity | as what it divides | all | 0.001; 1e-06:
          relative_input_stability, relative_output_stability, relative_representation_stability
    fraction | of the features | share | all | 0.25; 0.1: f_fidelity, sub_concepts; 0.2: mu_fidelity; 0.01:
          metasmoothness, unrolled; 0.5: random_masks
    fractions | of the pixels or edges, each a step | shares | all | (0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9);
          (0.1,0.3,0.5,0.7,0.9): remove_and_retrain, soft_comprehensiveness, soft_sufficiency;
          (0.001,0.002,0.005,0.01,0.02,0.05,0.1,0.2,0.5,1.0): circuit_areas, circuit_curve
    gamma | weight of positive contributions | - | rules | None; 0.25: epsilon_gamma_box
    grid | how tokens lie in the image, (rows, columns) | tokens | maps | None; 8: activation_atlas
    groups | features that go together, integers of x's shape | - | all | None
    high | largest value of an input | units of x | inputs | 1.0; None: ball, counterfactual, fgsm, pgd
    how | which vector; which embedding | - | concepts | 'ridge'; 'pca': cluster_places
    image | an example of the input that is made | units of x | made inputs | None; -: activation_atlas,
          activation_maximization
    independent | new parameters for one layer, the others kept | - | randomization | False
    initialize | how a layer is drawn anew | - | randomization | None
    k | how many examples of each kind | count | all | 9; 5: prototypes, tail_patch; 25: ace; 1:
          counterfactual_examples; 10: craft; None: relu_l1, spray; 3: sub_concepts
    key | randomness; each example folds its index in | PRNG key | all | -; None: banzhaf, beta_shapley,
          compare_models, counterfactual_curve, craft, data_shapley, evaluate_batch, explain_batch, explain_dataset,
          explain_generation, influence_function, k_means, leave_out_curve, linear_datamodeling_score,
          non_negative_dictionary, non_negative_factorization, sobol_importance, sobol_indices, sub_concepts,
          tail_patch, tcav, unrolled
    label | what of the target an explanation is called with; of a consistency the class | - | training | None
    layers | which layers, and in which order | - | randomization | None
    least | fewest members of a group | count | all | 20; 3: activation_atlas; 2: ace; 5: tree_surrogate
    limit | the largest share of features that is removed; above which share of examples a unit is seen as always on
          | share of 1 | metrics, training | 0.1; 0.95: unit_activity
    loss | (outputs, target) -> loss of one example | - | training | cross_entropy
    low | smallest value of an input | units of x | inputs | 0.0; None: ball, counterfactual, fgsm, pgd; 0.05: blur
    margin | how near a bound is at it | share of the range | all | 0.02
    mask | where, True or 1 in the object or the free part | - | all | None; 1.0: counterfactual
    max_groups | most groups where `groups` is traced | count | all | None
    max_steps | most gradients that a tolerance may take | count | paths | 1024
    mean | whether a sum is divided by its count | - | scores | False; 0.0: vector
    most | how many at most | count | regions, clusters | 512; 16: spray
    neighbours | how many examples count as near | count | neighbours | 5; 30: prediction_depth; 10: spray
    norm | how a difference is measured | - | all | 'l2'; 'l1': counterfactual; 'linf': pgd
    normalize | divide a map by its largest absolute value | - | maps | False
    optimizer | an optax transformation | - | all | None; sgd(0.01): fit, init, mode_connectivity, train_step,
          training_run; sgd: hyperparameter_sweep
    order | most ('morf') or least ('lerf') relevant first | - | removal | 'morf'
    pairs | how many pairs of features interact | count | models whose mechanism is known | 3
    patience | epochs without a better validation loss | epochs | training | None
    penalty | on a model's coefficients, and what else is added to a loss; in `fit` a function | as its loss | all |
          0.0; None: concept_vectors, fit, hyperparameter_sweep, tcav_layers; 0.001: concept_readout; 0.1:
          concept_regions; 1.0: jump_relu, prototypes; 0.01: context_cite, sparse_surrogate
    platform | where it is to run; None for where a call would | name | all | None
    points | of the grid over a feature | count | effects | 32; 33: accumulated_local_effects; 25: interpolation,
          mode_connectivity; 20: mislabel_curve
    pool | examples that random concepts are drawn from | examples | concepts | None
    positions | a value for each position | - | circuits | False
    power | of the cosine between vectors | exponent | directions | 4.0; 1.0: caricature; 0.0: direction
    probability | that a cell is kept | share | masks | 0.5
    radius | how far inputs are moved | units of x | robustness | -
    relative | divide by the size of what is compared | - | all | True; False: completeness
    relu | keep the positive part of a map | - | maps | True
    residual | share of the residual connection | share | attention | 0.5
    resize | lay a map over the input's size | - | maps | True
    resume | go on with what a folder holds | - | runs | True; False: fit, train_autoencoder
    rule | of quadrature, or of the backward pass | - | all | 'gauss_legendre'; 'deconvnet': deconv_view; 'rescale':
          deep_lift, deep_shap
    rules | rules for further nodes; what relevance holds | - | DeepLIFT, circuits | None;
          ('normalization','softmax','activation','product'): detached, edge_attribution, node_attribution,
          site_attribution
    samples | random draws | count | all | 10; 1: activation_maximization, metasmoothness; 64: context_cite,
          expected_gradients, mechanism_table, mechanisms, shapley_sampling; None: banzhaf, beta_shapley,
          data_shapley, feature_permutation, influence_function, owen_values, tcav, tcav_layers; 1024: kernel_shap,
          lime; 1000: linear_datamodeling_score, rise; 256: shapley_sampling_with_error; 16: smoothgrad,
          smoothgrad_squared, vargrad; 2000: compare; 50: f_fidelity, tcav_t_test; 100: data_out_of_bag,
          faithfulness_correlation, infidelity, sensitivity_n, sensitivity_n_curve; 200: frechet_bootstrap,
          mu_fidelity; 10000: paired_difference, score_table; 20: hypothetical_contributions,
          soft_comprehensiveness, soft_sufficiency; 8: permutation_importance; 32: craft, sobol_importance,
          sobol_indices, sub_concepts; 5000: d_rise
    scale | in which units differences are taken | units of x | all | True; 1.0: counterfactual, vector
    select | which part of the model's output | - | scores | None
    sequence | which evenly spread points | - | concepts | 'sobol'
    settings | an optimizer's settings to be swept over; what a run was made with | - | training | None; -:
          hyperparameter_sweep
    sigma | standard deviation of noise, or width of a blur | units of x, pixels | all | -; 0.01: imputed_baseline,
          noisy_linear_imputation, road, road_curve; 0.2: infidelity; None: concept_regions, prototypes, spray,
          structural_similarity; 0.1: ball, fourier, pixels, pyramid, vector; 0.02: random_crop
    similarity | how two attributions are compared | - | all | 'spearman'; 'dot': gradient_similarity
    site | the layer and model that a dictionary describes | - | dictionaries | None
    size | of a subset; of maps before they are compared | features, pixels | all | None
    sizes | of the subsets | features | all | None
    smooth | softplus(beta z) / beta in the place of ReLU | 1 / units | second derivatives | None
    stabiliser | what keeps a denominator away from zero | relevance | rules | 1e-06
    start | 'top' (outputs first) or 'bottom' | - | randomization | 'top'; None: k_means, non_negative_factorization
    statistic | what of a concept is tested | - | concepts | 'mean'; 'score': tcav_t_test
    step_size | of one step | units of x | all | 0.01; -: pgd; 0.5: metasmoothness
    steps | gradients on a path, steps of a search or a curve | count | all | None; 256: activation_maximization;
          50: blur_integrated_gradients, guided_integrated_gradients, representer_points; 32: conductance,
          hypothetical_contributions, integrated_hessians, internal_influence, xrai; 500: counterfactual, craft,
          non_negative_dictionary, non_negative_factorization, sub_concepts; 10: concept_curves, deep_dream, pgd;
          200: extremal_perturbation; 8: continuity, edge_attribution, node_attribution; 20: concept_vectors; 1:
          feature_circuit; 300: k_means; 1000: sparse_surrogate; 16: site_attribution
    stride | between patches; None is the window | pixels | images | None
    target | of which class | class | all | None
    targeted | move towards the target | - | attacks | False
    threshold | from which on something counts | as what is compared | all | 0.0; 1e-05: non_sensitivity; -:
          sufficiency; 0.9: concept_similarity, tcav; 0.1: feature_circuit, jump_relu
    tolerance | error that is let pass | as what is compared | all | None; 1e-05: effective_complexity; 0.0001:
          implementation_invariance, symmetry; 0.02: mechanism_table; 0.0: monotonicity; 0: pointing_game; 1e-06:
          non_negative_dictionary, non_negative_factorization
    validation | examples after each epoch | (inputs, targets) | training | None
    weight | of a penalty beside what it is added to | - | training | 1.0; 300.0: extremal_perturbation
    weights | a weight for each example's loss | - | training | None
    where | which values count | - | all | None
    window | side of a patch | pixels | all | None; -: occlusion; 7: structural_similarity
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from jaxplain.explain import (
    ablation_cam,
    accentuate,
    activation_grid,
    activation_maximization,
    audit,
    blur_integrated_gradients,
    class_activation_map,
    conductance,
    counterfactual,
    deconv_view,
    deconvnet,
    deep_dream,
    deep_lift,
    deep_shap,
    eigen_cam,
    eigen_grad_cam,
    excitation_backprop,
    expected_gradients,
    explain_batch,
    extremal_perturbation,
    feature_ablation,
    feature_inversion,
    feature_permutation,
    fgsm,
    full_grad,
    full_grad_terms,
    grad_cam,
    grad_cam_plus_plus,
    gradient,
    guided_backprop,
    guided_grad_cam,
    guided_integrated_gradients,
    hires_cam,
    image_regions,
    input_x_gradient,
    integrated_gradients,
    integrated_gradients_with_gap,
    integrated_hessians,
    internal_influence,
    kernel_shap,
    layer_cam,
    lime,
    lrp,
    occlusion,
    owen_values,
    pgd,
    receptive_field,
    relevance_balance,
    rise,
    saliency,
    score_cam,
    shapley_interactions,
    shapley_sampling,
    shapley_sampling_with_error,
    shapley_values,
    smoothgrad,
    smoothgrad_squared,
    vargrad,
    xgrad_cam,
    xrai,
)
from jaxplain.explain import genomics as genomics
from jaxplain.explain import language as language
from jaxplain.explain import vision as vision
from jaxplain.explain.backward import pattern as pattern
from jaxplain.explain.backward import relevance as relevance
from jaxplain.explain.visualization import image as image
from jaxplain.explain.visualization import objective as objective
from jaxplain.explain.visualization import regulariser as regulariser
from jaxplain.explain.visualization import transform as transform
from jaxplain.internals import (
    activation_patching,
    attribution_patching,
    capture,
    draw,
    fused_attentions,
    intervene,
    layers,
    split,
)
from jaxplain.program import Function, keep_programs, meant
from jaxplain.program.fast import fast_layout
from jaxplain.readout import black_box
from jaxplain.score import log_probability, logit, loss, margin, output, probability

if TYPE_CHECKING:
    from jaxplain import aggregate as aggregate
    from jaxplain import baseline as baseline
    from jaxplain import concept as concept
    from jaxplain import data as data
    from jaxplain import dataset as dataset
    from jaxplain import evaluate as evaluate
    from jaxplain import influence as influence
    from jaxplain import models as models
    from jaxplain import plot as plot
    from jaxplain import report as report
    from jaxplain import train as train
    from jaxplain.dataset import explain_dataset, open_explanations
    from jaxplain.models import from_nnx

NAMESPACES = (
    "evaluate",
    "baseline",
    "aggregate",
    "data",
    "models",
    "train",
    "influence",
    "concept",
    "dataset",
    "plot",
    "report",
    "relevance",
    "pattern",
    "image",
    "objective",
    "transform",
    "regulariser",
    "language",
    "genomics",
    "vision",
)
"""Where everything else is reached, without a second import."""

__all__ = [
    "Function",
    "ablation_cam",
    "accentuate",
    "activation_grid",
    "activation_maximization",
    "activation_patching",
    "attribution_patching",
    "audit",
    "black_box",
    "blur_integrated_gradients",
    "capture",
    "class_activation_map",
    "conductance",
    "counterfactual",
    "deconv_view",
    "deconvnet",
    "deep_dream",
    "deep_lift",
    "deep_shap",
    "draw",
    "eigen_cam",
    "eigen_grad_cam",
    "excitation_backprop",
    "expected_gradients",
    "explain_batch",
    "explain_dataset",
    "extremal_perturbation",
    "fast_layout",
    "feature_ablation",
    "feature_inversion",
    "feature_permutation",
    "fgsm",
    "from_nnx",
    "full_grad",
    "full_grad_terms",
    "fused_attentions",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "guided_backprop",
    "guided_grad_cam",
    "guided_integrated_gradients",
    "hires_cam",
    "image_regions",
    "input_x_gradient",
    "integrated_gradients",
    "integrated_gradients_with_gap",
    "integrated_hessians",
    "internal_influence",
    "intervene",
    "keep_programs",
    "kernel_shap",
    "layer_cam",
    "layers",
    "lime",
    "log_probability",
    "logit",
    "loss",
    "lrp",
    "margin",
    "occlusion",
    "open_explanations",
    "output",
    "owen_values",
    "pgd",
    "probability",
    "receptive_field",
    "relevance_balance",
    "rise",
    "saliency",
    "score_cam",
    "shapley_interactions",
    "shapley_sampling",
    "shapley_sampling_with_error",
    "shapley_values",
    "smoothgrad",
    "smoothgrad_squared",
    "split",
    "vargrad",
    "xgrad_cam",
    "xrai",
]

# `import jaxplain.image` finds the namespaces of deeper folders by their public names, too, as `import os.path` does.
_DEEPER = {"image": image, "objective": objective, "regulariser": regulariser, "relevance": relevance}
_DEEPER["transform"] = transform
_DEEPER["pattern"] = pattern
_DEEPER["language"], _DEEPER["genomics"], _DEEPER["vision"] = language, genomics, vision
for _name, _space in _DEEPER.items():
    sys.modules[f"jaxplain.{_name}"] = _space

_LATE = {"explain_dataset": "dataset", "open_explanations": "dataset", "from_nnx": "models"}


def __getattr__(name: str) -> Any:
    """Import what is heavy (Flax, optax, matplotlib, TensorStore) when it is first asked for."""
    if name in _LATE:
        return getattr(importlib.import_module(f"jaxplain.{_LATE[name]}"), name)
    if name in NAMESPACES:
        return importlib.import_module(f"jaxplain.{name}")
    text = f"module 'jaxplain' has no attribute {name!r}"
    if not name.startswith("_"):
        spaces = {space: importlib.import_module(f"jaxplain.{space}").__all__ for space in NAMESPACES}
        own = meant(name, [("jaxplain", __all__), *((f"jaxplain.{space}", names) for space, names in spaces.items())])
        text += f"; it is called {own} here." if own else ". help(jaxplain) lists where to look."
    raise AttributeError(text)


def __dir__() -> list[str]:
    """Every name and namespace; to `help`, which would print each function's whole text, only the namespaces."""
    reader = sys._getframe(1)
    for _ in range(3):
        if reader.f_globals.get("__name__") == "pydoc":
            return ["__doc__", *NAMESPACES]
        reader = reader.f_back or reader
    return sorted({*globals(), *__all__, *NAMESPACES})
