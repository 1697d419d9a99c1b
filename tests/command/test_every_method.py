"""Every method, wrapper, score and metric through the command line, on a tiny network and on a tiny transformer."""

import argparse
import inspect
import re
import sys

import numpy as np
import pytest

import jaxplain
from jaxplain import evaluate, open_explanations
from jaxplain.command import catalogue, main
from jaxplain.command.asked import asked, stand_in
from jaxplain.command.evaluate import as_compare_takes, checked_metric
from jaxplain.command.subject import Subject

MODULE = """
import jax, numpy as np
from flax import linen as nn
from jaxplain.models import transformer

class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(3, (3, 3), name="conv")(x))
        x = nn.Conv(2, (1, 1), name="last")(x)
        return nn.Dense(2, name="dense")(x.mean((1, 2)))

def build():
    m = Network()
    return m.apply, m.init(jax.random.key(0), np.ones((1, 6, 6, 1), np.float32))

def data():
    return np.random.default_rng(0).uniform(size=(4, 6, 6, 1)).astype(np.float32), np.array([0, 1, 1, 0])

def text():
    m = transformer(2, vocabulary=8, length=5, width=4, depth=1, heads=1)
    return m.apply, m.init(jax.random.key(0), np.ones((1, 5), np.int32))

def tokens():
    return np.random.default_rng(0).integers(0, 8, (4, 5)).astype(np.int32), np.array([0, 1, 1, 0])

def same(x):
    return x

def language_model():
    return (lambda p, x: jax.numpy.cumsum(p[x], 1) @ p.T), jax.random.normal(jax.random.key(0), (8, 4))

def one_token():
    return tokens()[0], np.array([4, 3, 2, 1]), np.array([1, 2, 3, 4])

def two_tokens():
    return tokens()[0], np.array([4, 3, 2, 1]), (np.array([1, 2, 3, 4]), np.array([2, 3, 4, 5]))

def pairs():
    x, y = tokens()
    return x, (x + 1) % 8, y

def sequences():
    x = np.eye(4, dtype=np.float32)[np.random.default_rng(0).integers(0, 4, (4, 6))]
    return x, np.array([0, 1, 1, 0])

def motif():
    return (lambda p, x: jax.numpy.tanh(x.reshape(x.shape[0], -1)) @ p), jax.random.normal(jax.random.key(0), (24, 2))

def detector():
    def apply(p, x):
        boxes = jax.numpy.broadcast_to(p["boxes"], (x.shape[0], 2, 4))
        return boxes, jax.numpy.stack([x[:, :3].mean((1, 2)), x[:, 3:].mean((1, 2))], 1) * p["classes"]
    return apply, {"boxes": np.array([[0.0, 0, 6, 3], [0, 3, 6, 6]]), "classes": np.array([[[1.0, -1.0]]])}

def boxes():
    return data()[0], (np.tile(np.array([0.0, 0, 6, 3]), (4, 1)), np.array([0, 1, 1, 0]))

def segmenter():
    return (lambda p, x: x * p), np.array([[[[1.0, -1.0]]]])

def regions():
    return data()[0], (np.ones((4, 6, 6), bool), np.array([0, 1, 1, 0]))

def no_token():
    return tokens()[0], np.array([4, 3, 2, 1])
"""

SETTINGS = {
    "accentuate": "steps=2 drift=1.0",
    "activation_grid": "path=conv steps=1",
    "activation_patching": "path=block_0 axes=0",
    "attention_rollout": "",
    "attribution_patching": "path=block_0 axes=0",
    "blur_integrated_gradients": "sigma=1.0 steps=2",
    "class_activation_map": "layer=last",
    "conductance": "path=conv steps=2",
    "context_cite": "samples=4 unseen=2 groups=@groups.npy",
    "counterfactual": "steps=2 optimizer=adam(0.1)",
    "d_rise": "cells=2 samples=4 activation=sigmoid",
    "deconv_view": "path=conv",
    "deep_dream": "steps=1 octaves=1",
    "deep_shap": "baseline=data[:2]",
    "expected_gradients": "baseline=data samples=2",
    "extremal_perturbation": "steps=2 baseline=blur(1.5)",
    "feature_ablation": "groups=@groups.npy baseline=mean(data)",
    "feature_inversion": "path=conv steps=2",
    "feature_permutation": "data=data samples=2 groups=@groups.npy",
    "fgsm": "epsilon=0.1",
    "guided_integrated_gradients": "steps=2",
    "integrated_gradients": "steps=2 baseline=blur(sigma=2)",
    "integrated_gradients_with_gap": "steps=2 rule=trapezoid",
    "integrated_hessians": "steps=2 smooth=5.0",
    "internal_influence": "path=conv steps=2",
    "kernel_shap": "samples=32 groups=@groups.npy baseline=sample(data)",
    "lime": "samples=32 groups=@groups.npy regression=lasso penalty=0.01",
    "lrp": "rule={'conv':z_plus,'dense':epsilon(1e-3)}",
    "occlusion": "window=(2,2,1)",
    "owen_values": "groups=@groups.npy samples=2",
    "pattern_attribution": "patterns=estimate_patterns(data,targets)",
    "pattern_net": "patterns=estimate_patterns(data,targets)",
    "path_patching": "path=['block_0/attention','output']",
    "pgd": "epsilon=0.1 step_size=0.05 steps=2 norm=l2",
    "receptive_field": "path=conv",
    "relevance_balance": "rule=epsilon_plus",
    "rise": "samples=4 cells=2 probability=0.25",
    "shapley_interactions": "groups=@groups.npy",
    "shapley_sampling": "samples=2 groups=@groups.npy",
    "shapley_sampling_with_error": "samples=4 groups=@groups.npy",
    "shapley_values": "groups=@groups.npy baseline=0.5",
    "site_attribution": "path=block_0 axes=0 steps=2",
    "sweep": "sites=['block_0'] axes=0",
    "xrai": "steps=2 regions=@regions.npy",
}
TEXT = ("attention_rollout", "gradient_rollout", "value_weighted_norms")
PAIRS = ("edge_attribution", "edge_patching", "node_attribution", "node_patching")
SUBJECTS = (
    dict.fromkeys(TEXT, ("text", "tokens"))
    | dict.fromkeys(PAIRS, ("text", "pairs"))
    | {
        "path_patching": ("text", "pairs"),
        "site_attribution": ("text", "pairs"),
        "sweep": ("text", "pairs"),
        "activation_patching": ("text", "pairs"),
        "attribution_patching": ("text", "pairs"),
        "d_rise": ("detector", "boxes"),
        "hypothetical_contributions": ("motif", "sequences"),
        "saturation_mutagenesis": ("motif", "sequences"),
    }
)
"""Models and data of methods that do not explain classes of images."""

METRICS = {
    "average_sensitivity": "radius=0.1, samples=2",
    "continuity": "steps=1",
    "deletion": "steps=3",
    "f_fidelity": "samples=2",
    "faithfulness_correlation": "samples=4",
    "implementation_invariance": "g=score",
    "infidelity": "samples=4",
    "input_invariance": "shift=0.1",
    "insertion": "steps=3",
    "irof": "groups=@groups.npy",
    "local_lipschitz_estimate": "radius=0.1, samples=2",
    "max_sensitivity": "radius=0.1, samples=2",
    "monotonicity": "steps=3",
    "monotonicity_correlation": "baseline=uniform_noise(0, 1), samples=2, groups=@groups.npy",
    "mu_fidelity": "samples=4",
    "non_sensitivity": "samples=2, groups=@groups.npy",
    "effective_complexity": "tolerance=0.1, groups=@groups.npy",
    "faithfulness_estimate": "groups=@groups.npy",
    "random_logit": "classes=2",
    "region_perturbation": "steps=3",
    "relative_input_stability": "radius=0.1, samples=2",
    "relative_output_stability": "radius=0.1, samples=2",
    "relative_representation_stability": "representation=score, radius=0.1, samples=2",
    "road": "fractions=[0.5]",
    "selectivity": "steps=3",
    "sensitivity_n": "samples=4, sizes=(2, 3)",
    "smooth_parameter_randomization": "sigma=0.1, samples=2, layers=['params/dense']",
    "parameter_randomization": "layers=['params/dense'], similarity=pearson",
    "soft_comprehensiveness": "samples=2",
    "soft_sufficiency": "samples=2",
    "symmetric_relevance_gain": "steps=3",
    "symmetry": "swap=@net.py:same",
    "top_k_intersection": "k=3",
}


STAND_INS = {
    "f": (stand_in(),),
    "e": (jaxplain.gradient(stand_in()),),
    "method": (jaxplain.gradient, stand_in()),
    "make": (lambda params: jaxplain.gradient(stand_in()),),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("methods")
    (folder / "net.py").write_text(MODULE)
    np.save(folder / "groups.npy", (np.arange(36) // 9).reshape(6, 6, 1))
    np.save(folder / "regions.npy", np.arange(3)[:, None, None] == np.arange(36).reshape(6, 6) // 12)
    np.save(folder / "masks.npy", np.arange(4 * 36).reshape(4, 6, 6, 1) % 3 == 0)
    path = list(sys.path)
    yield folder
    sys.path[:] = path
    sys.modules.pop("net", None)


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def explain(name, *more, out=None):
    model, data = SUBJECTS.get(name, ("build", "data"))
    subject = ("--model", f"net.py:{model}", "--data", f"net.py:{data}")
    return main(["explain", *subject, "--out", out or name, "--method", name, "--batch-size", "4", "--quiet", *more])


def test_every_public_method_is_reached_or_refused_by_name():
    own = {name: getattr(jaxplain, name) for name in jaxplain.__all__}
    public = {name for name, f in own.items() if getattr(f, "__module__", "").startswith("jaxplain.explain.")}
    assert public == (public & catalogue.methods().keys()) | (public & {*catalogue.INSTEAD, *catalogue.WRAPPERS})
    assert catalogue.INSTEAD.keys() & catalogue.methods().keys() == set()
    for space in ("internals", "language", "vision", "genomics"):
        for name in getattr(jaxplain, space).__all__:
            if name[0].islower() and not {name} & (catalogue.methods().keys() | catalogue.scores().keys()):
                with pytest.raises(ValueError, match=f"'{name}' is no method; it .*Python"):
                    catalogue.find(name, "method", "--method")
    for name, instead in catalogue.INSTEAD.items():
        with pytest.raises(ValueError, match=f"--method: '{name}' is no method; {instead[:12]}"):
            catalogue.find(name, "method", "--method")
    judged = {"compare", "evaluate_batch", "score_table"}
    assert judged.isdisjoint(catalogue.metrics())
    assert len(catalogue.metrics()) > 40
    assert set(evaluate.__all__) > catalogue.metrics().keys()


@pytest.mark.parametrize("name", sorted(catalogue.methods()))
@pytest.mark.sampled(30)
def test_every_method(here, capsys, name):
    settings = SETTINGS.get(name, "layer=conv" if name.endswith(("_cam", "_plus_plus")) else "")
    more = ("--set", *settings.split()) if settings else ()
    assert explain(name, *more) == 0, capsys.readouterr().err
    found = open_explanations(here / name)
    assert found.count == 4
    assert found.finished.all()


def test_regions_of_a_picture_are_found_by_name(here, capsys):
    pytest.importorskip("skimage")
    settings = ("--set", "steps=2", "regions=image_regions(data[0])")
    assert explain("xrai", *settings, out="by_name") == 0, capsys.readouterr().err


@pytest.mark.slow
def test_wrappers_and_scores(here, capsys):
    for name in catalogue.wrappers():
        assert explain("gradient", "--wrapper", f"{name}(sigma=0.1, samples=2)", out=name) == 0, capsys.readouterr().err
    f = jaxplain.logit(*sys.modules["net"].build())
    x, y = sys.modules["net"].data()
    for name in ("probability", "log_probability", "margin", "output", "loss"):
        more = ("--score-set", "criterion=cross_entropy") if name == "loss" else ()
        more = ("--score-set", "activation=sigmoid") if name == "probability" else more
        assert explain("gradient", "--score", name, *more, out=f"score_{name}") == 0, capsys.readouterr().err
    expected = jaxplain.explain_batch(jaxplain.gradient(f), x, y)
    np.testing.assert_allclose(open_explanations(here / "score_output")["attribution"], expected, atol=1e-6)
    assert explain("gradient", "--reduce", "group_sum(@groups.npy)", out="reduced") == 0, capsys.readouterr().err
    assert open_explanations(here / "reduced")["attribution"].shape == (4, 4)


@pytest.mark.slow
def test_scores_of_text(here, capsys):
    data = {"token_logit": "one_token", "token_log_probability": "one_token", "entropy": "no_token"}
    for name, function in {**data, "contrastive": "two_tokens"}.items():
        subject = ("--model", "net.py:language_model", "--data", f"net.py:{function}", "--quiet")
        call = ("explain", *subject, "--score", name, "--method", "feature_ablation", "--out", f"text_{name}")
        assert main(call) == 0, capsys.readouterr().err
    import net

    (apply, params), (x, position, token) = net.language_model(), net.one_token()
    f = jaxplain.language.token_logit(apply, params)
    found = open_explanations(here / "text_token_logit")
    expected = jaxplain.explain_batch(jaxplain.feature_ablation(f), x, position, token)
    np.testing.assert_allclose(found["attribution"], expected, atol=1e-5)
    np.testing.assert_allclose(found["score"][0], f(x[0], 4, 1), rtol=1e-5)


@pytest.mark.slow
def test_settings_reach_the_method(here, capsys):
    import net

    x, y = net.data()
    f = jaxplain.logit(*net.build())
    assert explain("lrp", "--set", "rule=epsilon(0.5)", out="as_function") == 0, capsys.readouterr().err
    expected = jaxplain.explain_batch(jaxplain.lrp(f, jaxplain.relevance.epsilon(0.5)), x, y)
    np.testing.assert_allclose(open_explanations(here / "as_function")["attribution"], expected, atol=1e-6)


BAD = ("bogus", "[1, 'a']")
FINE = {("accentuate", "high"), ("accentuate", "low"), ("xrai", "baseline")}  # read when there is an input
FINE |= {("d_rise", "select"), ("sweep", "sites")}  # of which every text may be one


def test_wrong_values_of_every_setting_are_refused_before_there_is_a_model(here):
    tried = 0
    for kind, known, option in (("method", SETTINGS, "--method"), ("metric", METRICS, "--metric")):
        for name, function in catalogue.known(kind).items():
            text = known.get(name, "layer=conv" if name.endswith(("_cam", "_plus_plus")) else "")
            pairs = re.split(r", (?=\w+=)", text) if kind == "metric" else text.split()
            for parameter in inspect.signature(function).parameters.values():
                texts = parameter.name in (
                    "f",
                    "e",
                    "make",
                    "method",
                    "params",
                    "layer",
                    "path",
                    "layers",
                    "groups",
                    "objective",
                )
                if texts or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    continue
                own = [p for p in pairs if "@" not in p and p and not p.startswith(f"{parameter.name}=")]
                for bad in BAD:
                    tried += 1
                    one = asked(name, kind, option, [*own, f"{parameter.name}={bad}"])
                    if (name, parameter.name) in FINE and (name != "sweep" or bad == "bogus"):
                        continue
                    with pytest.raises((ValueError, TypeError)):
                        one.check(*STAND_INS.get(one.first, ()))
    assert tried > 500


def test_every_metric_is_made(here):
    """Made as `evaluate` makes it; the families are run below."""
    options = argparse.Namespace(
        **{"model": "net.py:build", "data": "net.py:data", "checkpoint": None, "at": "", "score": "logit", "key": 0},
        **{
            "score_set": [],
            "select": None,
            "transform": None,
            "prepare": None,
            "inputs": "inputs",
            "targets": "targets",
        },
    )
    subject = Subject(options).check()
    for name in catalogue.metrics():
        text = f"{name}({METRICS[name]})" if name in METRICS else name
        one = checked_metric(text, folders=False, mask="@masks.npy")
        made = as_compare_takes(one, subject)
        first = {"f": subject.score(), "e": jaxplain.gradient(subject.score())}.get(one.first, jaxplain.gradient)
        metric = made if one.first not in ("f", "e", "make", "method") else made(first)
        assert isinstance(metric, jaxplain.Function), text
        assert metric.name == name or metric.better in ("lower", "higher", None), text


@pytest.mark.slow
def test_the_families_of_metrics_run(here, capsys):
    subject = ("--model", "net.py:build", "--data", "net.py:data", "--mask", "@masks.npy", "--quiet", "--examples", "2")
    names = ("deletion", "max_sensitivity", "parameter_randomization", "symmetry", "pointing_game", "sparseness")
    texts = [f"{name}({METRICS[name]})" if name in METRICS else name for name in names]
    assert main(["evaluate", *subject, "--method", "gradient", "--metric", *texts]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)
