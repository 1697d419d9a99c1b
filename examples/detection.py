"""A detector of squares and discs: which pixels made this box, and which made that one?

Images of noise hold a square and a disc. A small network says of 8 x 8 cells which of them is there and where its box
is. A box is explained by `jaxplain.vision.box_score` (integrated gradients, LRP) and by D-RISE, which sees the boxes
that come out and no more; the cells of an object by `region_score`. Expect above 95 % of objects found; above half of
the positive attribution in the explained object (of D-RISE, less its mean, a quarter; of a random one 8 %), at most a
tenth in the other, and the highest place in the explained one in above 90 %. Writes `detection.png`.

    python examples/detection.py [--quick] [--output FOLDER]
"""

import argparse
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from jaxplain import plot, train, vision

SIDE, CELLS, MIDDLES = 32, 8, slice(2, None, 4)


class Detector(nn.Module):
    """Images to cells: boxes around their middles `[B, 64, 4]`, logits of nothing, square and disc `[B, 64, 3]`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        for features, stride in ((16, 2), (32, 2), (32, 1)):
            x = nn.relu(nn.Conv(features, (5, 5), (stride, stride))(x))
        cells = nn.Conv(7, (1, 1))(x).reshape(len(x), CELLS**2, 7)
        middle = jnp.stack(jnp.meshgrid(*[jnp.arange(SIDE)[MIDDLES]] * 2), -1).reshape(1, -1, 2)
        return jnp.tile(middle, 2) + jnp.array([[[-4, -4, 4, 4]]]) * nn.softplus(cells[..., :4]), cells[..., 4:]


def shapes(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise with a square and a disc in different quarters: images, boxes `[N, 2, 4]`, pixels `[N, 2, H, W]`."""
    random = np.random.default_rng(seed)
    size, quarters = random.integers(8, 12, (count, 2, 1)), random.permuted([range(4)] * count, axis=1)[:, :2]
    low = np.stack([quarters % 2, quarters // 2], -1) * (SIDE // 2) + random.integers(1, 5, (count, 2, 2))
    from_middle = np.abs(np.arange(SIDE) + 0.5 - (low + size / 2)[..., None])  # of x and of y
    across, down, half = from_middle[:, :, 0, None, :], from_middle[:, :, 1, :, None], size[..., None] / 2
    pixels = np.stack([(np.maximum(across, down) < half)[:, 0], (np.hypot(across, down) < half)[:, 1]], 1)
    x = (pixels.any(1) + random.normal(0, 0.3, (count, SIDE, SIDE)))[..., None]
    return x.astype(np.float32), np.concatenate([low, low + size], -1).astype(np.float32), pixels


def distance(outputs: tuple[jax.Array, jax.Array], target: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The loss of one image: classes of all cells, boxes of those with an object."""
    classes = optax.softmax_cross_entropy_with_integer_labels(outputs[1], target[1])
    return (classes + 0.1 * (target[1] > 0) * jnp.abs(outputs[0] - target[0]).sum(-1)).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description="Which pixels made this box?")
    parser.add_argument("--quick", action="store_true", help="fewer images and epochs")
    parser.add_argument("--output", type=Path, default=Path("detection"), help="where the figure goes")
    arguments = parser.parse_args()
    x, boxes, pixels = shapes(0, 1000 if arguments.quick else 4000)
    test, places, truth = shapes(1, 16 if arguments.quick else 100)
    cells = pixels[:, :, MIDDLES, MIDDLES].reshape(len(x), 2, -1)
    data = x, (np.where(cells[:, 0, :, None], boxes[:, :1], boxes[:, 1:]), cells[:, 0] + 2 * cells[:, 1])
    module, adam, epochs = Detector(), optax.adam(3e-3), 12 if arguments.quick else 20
    start, key = module.init(jax.random.key(0), x[:1]), jax.random.key(1)
    params = train.fit(module.apply, start, data, key=key, loss=distance, optimizer=adam, epochs=epochs).params
    sure = vision.box_score(module.apply, params, select=lambda out: (out[0], jax.nn.softmax(out[1])))
    found = [jax.vmap(lambda x, b, k=k: sure(x, (b, k)))(test, places[:, k - 1]) for k in (1, 2)]
    print(f"found (probability x overlap > 0.5): {np.mean(np.array(found) > 0.5):.1%}; pixels: {truth.mean():.0%} each")
    f, mean = vision.box_score(module.apply, params, fixed_boxes=True), float(x.mean())
    region = vision.region_score(module.apply, params, select=lambda out: out[1].reshape(-1, CELLS, CELLS, 3))
    methods = {
        "integrated gradients": jaxplain.integrated_gradients(f, baseline=mean, steps=32),
        "LRP": jaxplain.lrp(f, jaxplain.relevance.epsilon_plus()),
        "D-RISE": vision.d_rise(module.apply, params, cells=CELLS, samples=500, baseline=mean),
        "region": jaxplain.integrated_gradients(region, baseline=mean, steps=32),
    }
    maps, objects = {name: np.empty((2, *test.shape[:3])) for name in methods}, np.swapaxes(truth, 0, 1)
    for name, e in methods.items():
        for k in (0, 1):
            at = truth[:, k, MIDDLES, MIDDLES] if name == "region" else places[:, k]
            a = jaxplain.explain_batch(e, test, (at, np.full(len(test), k + 1)), key=key)[..., 0]
            maps[name][k] = a - (name == "D-RISE") * a.mean((1, 2), keepdims=True)
        share = np.maximum(maps[name], 0) / np.maximum(maps[name], 0).sum((2, 3), keepdims=True)
        own, other = ((share * there).sum((2, 3)).mean() for there in (objects, objects[::-1]))
        highest = np.mean((share * objects).max((2, 3)) == share.max((2, 3)))
        print(f"{name}: {own:.0%} in the object, {other:.0%} in the other; the highest place in it: {highest:.0%}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    columns = {name: pair[:, :3].swapaxes(0, 1).reshape(6, SIDE, SIDE) for name, pair in maps.items()}
    plot.heatmaps(test[[0, 0, 1, 1, 2, 2]], columns, ["square", "disc"] * 3).savefig(
        arguments.output / "detection.png", dpi=150
    )


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
