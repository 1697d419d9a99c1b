"""The graph of a model: what goes into what, cut off at a depth, as SVG and DOT."""

import functools
import itertools
import re
import xml.etree.ElementTree as ElementTree

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jaxplain
from jaxplain import models


def score(module, x, **flags):
    params = jax.eval_shape(module.init, jax.random.key(0), x[None])
    return jaxplain.logit(functools.partial(module.apply, **flags), params)


def by_name(drawing):
    """Edges between the names of nodes."""
    names = [lines[0] for lines in drawing.nodes]
    return [(names[source], names[target]) for source, target in drawing.edges]


@pytest.fixture(scope="module")
def resnet():
    return score(models.resnet(3, widths=(4, 8), depth=1), jnp.zeros((8, 8, 3)), train=False), jnp.zeros((8, 8, 3))


def test_a_residual_network_shows_its_skip_connections(resnet):
    f, x = resnet
    drawing = jaxplain.draw(f)(x, 0)
    edges = by_name(drawing)
    assert edges.count(("relu", "add")) == 1  # the identity shortcut of the first block
    assert ("block_1/norm_shortcut", "add") in edges
    assert ("block_1/norm_1", "add") in edges
    assert ("relu", "head") in edges
    assert edges[-1] == ("head", "output")
    assert len(set(drawing.edges)) == len(drawing.edges)
    assert drawing.nodes[0] == ("input", "8x8x3")


def test_depth_folds_modules_and_keeps_their_parameters(resnet):
    f, x = resnet
    folded = jaxplain.draw(f, depth=2)(x, 0)
    names = [lines[0] for lines in folded.nodes]
    assert names == ["input", "conv_stem", "norm_stem", "relu", "block_0", "block_1", "head", "output"]
    assert by_name(folded) == list(itertools.pairwise(names))
    whole = jaxplain.draw(f, depth=1)(x, 0)
    assert [lines[0] for lines in whole.nodes] == ["input", "ResNet", "output"]
    total = sum(layer.parameters for layer in jaxplain.layers(f)(x, 0))
    for drawing in (whole, folded, jaxplain.draw(f)(x, 0)):
        written = re.findall(r"([\d,]+) parameters", drawing.dot)
        assert sum(int(number.replace(",", "")) for number in written) == total


def test_the_texts_are_well_formed(resnet):
    f, x = resnet
    drawing = jaxplain.draw(f)(x, 0)
    root = ElementTree.fromstring(drawing.svg)
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}g")) == len(drawing.nodes)
    assert len(root.findall(f"{space}path")) == len(drawing.edges)
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    for box in root.iter(f"{space}rect"):
        if "x" in box.attrib:
            assert float(box.attrib["x"]) >= 0
            assert float(box.attrib["x"]) + float(box.attrib["width"]) <= width
            assert float(box.attrib["y"]) + float(box.attrib["height"]) <= height
    assert drawing.dot.count("{") == drawing.dot.count("}")
    assert 'subgraph "cluster_ResNet/block_1"' in drawing.dot
    assert drawing.dot.count("->") == len(drawing.edges)
    assert drawing._repr_svg_() == drawing.svg
    assert str(drawing) == drawing.dot


def test_a_module_that_is_called_twice_is_two_nodes():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            dense = nn.Dense(3, name="shared")
            return dense(nn.relu(dense(x)))

    drawing = jaxplain.draw(score(Twice(), jnp.zeros(3)))(jnp.zeros(3), 0)
    assert by_name(drawing) == [("input", "shared"), ("shared", "relu"), ("relu", "shared"), ("shared", "output")]
    assert drawing.dot.count("12 parameters") == 1  # they are the same ones


def test_loops_and_rematerialised_blocks_show_one_turn():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return x + nn.Dense(4, name="inner")(x), None

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            block = nn.scan(nn.remat(Block), variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
            return nn.Dense(2, name="head")(block(name="blocks")(x, None)[0])

    names = [lines[0] for lines in jaxplain.draw(score(Stack(), jnp.zeros(4)))(jnp.zeros(4), 0).nodes]
    assert [name.rpartition("/")[2] for name in names] == ["input", "inner", "add", "head", "output"]


def test_branches_and_plain_functions():
    def f(x):
        with jax.named_scope("left"):
            left = jnp.sin(x) * 2
        right = jax.lax.cond(x[0] > 0, lambda v: v @ jnp.ones((3, 3)), lambda v: v, x)
        return (left * right).sum()

    edges = by_name(jaxplain.draw(f)(jnp.ones(3)))
    assert ("input", "left") in edges
    assert ("left", "mul") in edges
    assert edges[-1] == ("mul", "output")


def test_what_leads_to_no_output_is_left_out():
    def f(x):
        with jax.named_scope("vain"):
            _ = x @ jnp.ones((3, 3))
        with jax.named_scope("used"):
            return (x * 2).sum()

    assert [lines[0] for lines in jaxplain.draw(f)(jnp.ones(3)).nodes] == ["input", "used", "output"]


@pytest.mark.parametrize(("depth", "error"), [(0, ValueError), ("all", TypeError)])
def test_a_depth_is_a_whole_number(depth, error):
    with pytest.raises(error, match="depth"):
        jaxplain.draw(lambda x: x.sum(), depth=depth)
