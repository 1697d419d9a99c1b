"""Names: where each lives, what old and foreign ones are answered, the table of settings, the README's tables."""

import collections
import importlib
import inspect
import pydoc
import random
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxplain
from shared.metrics import METRICS

ROOT = Path(jaxplain.__file__).parent
README = (ROOT.parent / "README.md").read_text(encoding="utf-8")

# fmt: off
FORMER = """
    blur gaussian_noise mean sample uniform_noise zeros nearest_counter_class accumulated_local_effects
    individual_conditional_expectation partial_dependence consistency sufficiency completeness evaluate_batch
    compare compare_models effective_complexity entropy sparseness continuity paired_difference random_attribution
    faithfulness_correlation faithfulness_estimate mu_fidelity sensitivity_n sensitivity_n_curve deletion
    deletion_curve insertion insertion_curve frechet_bootstrap frechet_distance infidelity implementation_invariance
    input_invariance symmetry attribution_localization focus mosaic pointing_game relevance_mass_accuracy
    relevance_rank_accuracy roc_auc top_k_intersection average_drop average_gain average_increase monotonicity
    monotonicity_correlation non_sensitivity random_logit efficient_parameter_randomization parameter_randomization
    parameter_randomization_curve smooth_parameter_randomization irof pixel_flipping region_perturbation selectivity
    imputed_baseline road road_curve average_sensitivity local_lipschitz_estimate max_sensitivity pearson spearman
    structural_similarity relative_input_stability relative_output_stability relative_representation_stability
    score_table jitter l2 pixels total_variation permutation_importance linear_imputation noisy_linear_imputation
    superpixels activation_atlas top_activations unit_activity
""".split()  # noqa: SIM905
FOREIGN = {
    "IntegratedGradients": "jaxplain.integrated_gradients", "LayerIntegratedGradients": "jaxplain.integrated_gradients",
    "Saliency": "jaxplain.saliency", "InputXGradient": "jaxplain.input_x_gradient", "DeepLift": "jaxplain.deep_lift",
    "DeepLiftShap": "jaxplain.deep_shap", "GradientShap": "jaxplain.expected_gradients",
    "GuidedBackprop": "jaxplain.guided_backprop", "Deconvolution": "jaxplain.deconvnet", "Lime": "jaxplain.lime",
    "KernelShap": "jaxplain.kernel_shap", "ShapleyValueSampling": "jaxplain.shapley_sampling",
    "NoiseTunnel": "jaxplain.smoothgrad", "FeatureAblation": "jaxplain.feature_ablation",
    "KernelExplainer": "jaxplain.kernel_shap", "DeepExplainer": "jaxplain.deep_shap", "gradcam": "jaxplain.grad_cam",
    "GradCAM": "jaxplain.grad_cam", "GradCAMPlusPlus": "jaxplain.grad_cam_plus_plus", "ScoreCAM": "jaxplain.score_cam",
    "EigenCAM": "jaxplain.eigen_cam", "PixelFlipping": "jaxplain.evaluate.pixel_flipping",
    "MaxSensitivity": "jaxplain.evaluate.max_sensitivity", "EpsilonPlus": "jaxplain.relevance.epsilon_plus",
    "HookedTransformer": "jaxplain.capture", "LLMAttribution": "jaxplain.language.explain_generation",
    "ContextCiter": "jaxplain.language.context_cite", "squared_error": "jaxplain.train.squared_error",
    "load_safetensors": "jaxplain.models.load_safetensors", "save": "jaxplain.train.save",
}
# fmt: on


def publics():
    """Every public function: its namespace (the first that has it), its name, itself."""
    seen = set()
    for space in ("", *jaxplain.NAMESPACES):
        module = getattr(jaxplain, space) if space else jaxplain
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) and value not in seen:
                seen.add(value)
                yield space, name, value


def test_the_top_level_is_short_and_every_namespace_is_there():
    assert len(jaxplain.__all__) <= 81
    for space in jaxplain.NAMESPACES:
        module = getattr(jaxplain, space)
        assert module.__doc__, space
        assert importlib.import_module(f"jaxplain.{space}") is module
        for name in module.__all__:
            assert getattr(module, name).__doc__, f"{space}.{name}"


def test_without_a_second_import():
    line = "import jaxplain; " + "; ".join(f"jaxplain.{space}.__all__" for space in jaxplain.NAMESPACES)
    environment = {"PYTHONPATH": str(ROOT.parent), "JAX_PLATFORMS": "cpu", "PATH": ""}
    subprocess.run([sys.executable, "-c", line], check=True, env=environment)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_importing_files_replaces_no_public_function(seed):
    files = [file for file in sorted(ROOT.rglob("*.py")) if file.stem != "__main__"]
    modules = [
        ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__") for file in files
    ]
    random.Random(seed).shuffle(modules)
    code = f"""
        import importlib, inspect
        for module in {modules!r}:
            importlib.import_module(module)
        import jaxplain
        for space in ["", *jaxplain.NAMESPACES, "explain", "internals", "program"]:
            module = importlib.import_module("jaxplain" + ("." + space if space else ""))
            for name in module.__all__:
                value = getattr(module, name)
                assert not inspect.ismodule(value), (space, name)
                if inspect.isfunction(value):
                    assert getattr(value, "__name__", "") == name, (space, name)
                    try:  # it is the function and no module: called with what it has not, it says so
                        value(no_such_setting=1)
                    except (TypeError, ValueError) as error:
                        assert str(error)
    """
    environment = {"PYTHONPATH": str(ROOT.parent), "JAX_PLATFORMS": "cpu", "PATH": ""}
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


def test_former_names_are_answered_with_the_new():
    for name in FORMER:
        with pytest.raises(AttributeError, match=rf"it is called jaxplain\.\w+\.{name} here"):
            getattr(jaxplain, name)


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_names_are_answered_with_ours(name):
    with pytest.raises(AttributeError, match=rf"it is called {FOREIGN[name]} here"):
        getattr(jaxplain, name)
    module, _, own = FOREIGN[name].rpartition(".")
    assert callable(getattr(importlib.import_module(module), own))


def test_a_name_that_means_nothing_is_said():
    with pytest.raises(AttributeError, match=r"no attribute 'frobnicate'. help\(jaxplain\) lists where to look"):
        _ = jaxplain.frobnicate
    assert not hasattr(jaxplain, "__path_of_nothing__")


def test_foreign_settings_are_answered_with_ours():
    for made, words in {
        lambda: jaxplain.integrated_gradients(jnp.sum, n_steps=3): "no setting `n_steps`; it is called `steps` here",
        lambda: jaxplain.integrated_gradients(jnp.sum, baselines=0): "`baselines`; it is called `baseline` here",
        lambda: jaxplain.expected_gradients(jnp.sum, baselines=0): "`baselines`; it is called `baseline` here",
        lambda: jaxplain.occlusion(jnp.sum, sliding_window_shapes=3): "it is called `window` here",
        lambda: jaxplain.kernel_shap(jnp.sum, n_samples=3): "it is called `samples` here",
        lambda: jaxplain.lime(jnp.sum, perturbations_per_eval=3): "it is called `batch_size` here",
        lambda: jaxplain.feature_ablation(jnp.sum, feature_mask=3): "it is called `groups` here",
        lambda: jaxplain.smoothgrad(jnp.sum, stdevs=3): "it is called `sigma` here",
        lambda: jaxplain.grad_cam(jnp.sum, target_layers="a"): "it is called `layer` here",
        lambda: jaxplain.gradient(jnp.sum, target=3): "`target` is no setting; it is passed when",
        lambda: jaxplain.evaluate.deletion(jnp.sum, stpes=3): "it is called `steps` here",
        lambda: jaxplain.evaluate.sparseness(foo=3): "there is no setting `foo`",
    }.items():
        with pytest.raises(TypeError, match=re.escape(words)):
            made()


def test_help_is_a_page():
    page = pydoc.render_doc(jaxplain, renderer=pydoc.plaintext)
    assert page.count("\n") < 230
    assert "\n    ablation_cam(" not in page
    assert {"lrp", "evaluate", "relevance"} <= set(dir(jaxplain))


def settings_table():
    """The rows of the docstring's table: setting to default and, for functions with another, theirs."""
    lines = jaxplain.__doc__.split("where it has to be given:\n")[1].strip("\n").splitlines()
    rows = re.sub(r"\n {6,}", " ", textwrap.dedent("\n".join(lines))).splitlines()
    found = {}
    for row in rows:
        name, meaning, unit, where, defaults = row.split(" | ")
        assert meaning, unit
        assert where
        common, *others = defaults.split("; ")
        own = {who: default for default, names in (o.split(": ") for o in others) for who in names.split(", ")}
        found[name] = (common, own)
    return found


def shown(default):
    if default is inspect.Parameter.empty:
        return "-"
    if type(default).__name__.startswith("GradientTransformation"):
        return "sgd(0.01)"
    return getattr(default, "__name__", None) or repr(default).replace(" ", "")


OTHER_MEANINGS = {"depth", "gain", "index", "name", "progress"}
"""Words that mean something else in each function that has them."""


def test_the_table_of_settings_is_what_signatures_say():
    table, used = settings_table(), collections.Counter()
    for space, name, function in publics():
        if space in ("plot", "report", "data", "models"):
            continue
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is not parameter.KEYWORD_ONLY:
                continue
            used[parameter.name] += 1
            if parameter.name in table:
                common, own = table[parameter.name]
                assert own.get(name, common) == shown(parameter.default), (name, parameter.name)
    assert {name for name, count in used.items() if count > 1} - OTHER_MEANINGS <= set(table)
    names = {name for _, name, _ in publics()}
    assert all(who in names for _, own in table.values() for who in own)


def test_the_readmes_table_of_namespaces_is_what_there_is():
    rows = re.findall(r"^\| `jaxplain\.(\w+)` \| .+ \| (.+) \|$", README, re.M)
    assert {space for space, _ in rows} == set(jaxplain.NAMESPACES)
    for space, names in rows:
        listed = re.findall(r"`(\w+)`", names)
        assert listed, space
        assert set(listed) <= set(getattr(jaxplain, space).__all__), space
    for name in re.findall(r"jaxplain\.(\w+(?:\.\w+)*)\(", README):
        value = jaxplain
        for part in name.split("."):
            value = getattr(value, part)


def test_the_readmes_table_of_calls_is_that_of_the_metrics():
    calls = set(re.findall(r"^\| `(m\([^`]*\))` \|", README, re.M))
    made = [
        row.build(lambda x, label: x.sum(), jaxplain.gradient(jnp.sum)) for row in METRICS if "param" not in row.name
    ]
    assert {m.call for m in made} <= calls
    assert calls <= {m.call for m in made} | {"m(key, x, *args)"}


X, KEY = jnp.ones((2, 3)), jax.random.key(0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda m: m.deletion(fails)(X, 1),
            r"deletion: the attribution is 1, .* m\(x, attribution, \*args\)",
        ),
        (lambda m: m.deletion(fails)(X), r"deletion: called with \(f32\[2,3\]\); it is called m\(x, attribution"),
        (lambda m: m.infidelity(fails)(X, X), r"infidelity: it is random .* m\(key, x, attribution, \*args\)"),
        (lambda m: m.max_sensitivity(fails, radius=0.1)(X, X), r"max_sensitivity: .* m\(key, x, \*args\)"),
        (
            lambda m: m.max_sensitivity(fails, radius=0.1)(KEY),
            r"called with \(\) after the key; .* m\(key, x",
        ),
        (lambda m: m.pointing_game()(X, X, X > 0), r"pointing_game: called with .* m\(attribution, mask\)"),
        (lambda m: m.sparseness()(X, X), r"sparseness: called with .* m\(attribution\)"),
        (lambda m: m.completeness(fails)(X), r"completeness: called with .* m\(x, attribution, \*args\)"),
        (lambda m: m.consistency()(X, X), r"m\(x, attribution, predictions\)"),
        (lambda m: m.random_logit(fails, classes=3)(KEY, X), r"m\(key, x, label, \*args\)"),
    ],
)
def test_a_wrong_call_prints_the_signature(call, words):
    with pytest.raises(TypeError, match=words):
        call(jaxplain.evaluate)


def fails(*_):
    raise AssertionError("the user's function is not reached")


def test_what_fails_inside_says_how_the_metric_is_called():
    def explain(x):
        return x

    with pytest.raises(TypeError) as caught:
        jaxplain.evaluate.max_sensitivity(explain, radius=0.1)(KEY, X, X)
    assert "max_sensitivity: it is called m(key, x, *args)." in caught.value.__notes__
