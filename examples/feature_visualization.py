"""Digits: what networks' classes and channels respond to, judged by numbers and by eye.

All ten class logits of a network are maximised in one compiled call, from many keys, as pixels, as Fourier coefficients
and as phases (MACO). Printed are the class's probability under transforms that the optimisation did not use, how many
of ten a second network recognises, and the Fréchet distance to real digits in a third network's features (mean over
classes, 95 % bootstrap interval; which is nearest is reported, not presumed).

Expect 0.99 or more and 8 or more of ten recognised, and digits that can be read in the gallery. It takes networks that
were trained under noise, which look at strokes, a penalty on ink, and normalised steps along the gradient.

    python examples/feature_visualization.py [--quick] [--model MODEL] [--data FOLDER OF IDX FILES] [--output FOLDER]
"""

import argparse
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from jaxplain import data, image, models, objective, plot, regulariser, train, transform
from jaxplain.explain.visualization.receptive import cut

CLASSES, KEY = jnp.arange(10), jax.random.key(7)
UNSEEN = (transform.rotate(10.0), transform.noise(0.1), transform.blur(0.5))


def shifts(side):
    """Shifts that bring in black, where `transform.jitter` brings in the other edge."""
    return transform.pad(side // 8), transform.crop(side)


def moved(transforms, key, x):
    for number, move in enumerate(transforms):
        x = move(jax.random.fold_in(key, number), x)
    return x


def network(module, seed, examples, copies, epochs):
    """Train on the digits and on shaken copies of them: under noise, what counts is whole strokes (of many pixels)."""
    key, (size, side) = jax.random.key(seed), examples.inputs.shape[:2]
    keys = [jax.random.split(jax.random.fold_in(key, copy), size) for copy in range(copies)]
    shakes = transform.rotate(15.0), transform.scale(0.85, 1.15), transform.noise(0.19 if side < 20 else 0.5)
    shaken = jax.jit(jax.vmap(functools.partial(moved, (*shakes, *shifts(side)))))
    inputs = np.concatenate([examples.inputs, *(shaken(part, examples.inputs) for part in keys)])
    steps = epochs * len(inputs) // 64
    optimizer = optax.adam(optax.warmup_cosine_decay_schedule(0.0, 3e-3, steps // 10, steps))
    params, rows = module.init(key, inputs[:1]), (inputs, np.tile(examples.targets, copies + 1))
    result = train.fit(module.apply, params, rows, key=key, optimizer=optimizer, epochs=epochs, batch_size=64)
    return jaxplain.logit(functools.partial(module.apply, train=False), result.params)


def ascent(kind, side):
    """Steps of a length along the gradient: Adam turns faint frequencies as far as strong ones, away from the best."""
    length, steps, samples = (0.1, 256, 8) if kind == "maco" else (0.03, 128, 4) if side < 20 else (0.05, 256, 4)
    descent = optax.sgd(optax.cosine_decay_schedule(length, steps), momentum=0.9)
    return {"optimizer": optax.chain(regulariser.normalize_gradient(), descent), "steps": steps, "samples": samples}


@jax.jit
def sure(f, images, labels):
    """The class's mean probability over images and 16 draws of the transforms that the optimisation did not use."""

    def draw(key):
        return jax.vmap(lambda x, k: jax.nn.softmax(f.outputs(moved(UNSEEN, key, x)))[k])(images, labels).mean()

    return jax.lax.map(draw, jax.random.split(KEY, 16)).mean()


@jax.jit
def distances(f, made, real):
    """Bootstrap draws of the Fréchet distance between `[K, N, ...]` images, the mean over classes."""
    features = [jax.lax.map(jax.vmap(lambda x: jaxplain.split(f, "dense")[0](x, 0)), x) for x in (made, real)]
    return jax.lax.map(lambda pair: jaxplain.evaluate.frechet_bootstrap(KEY, *pair, samples=100), features).mean(axis=0)


def shown(name, e, f, judges, real, keys):
    """Optimise all classes from `keys` keys, eight at once, print what the judges say, and return the first images."""
    run = jax.vmap(jax.vmap(e, (None, 0)), (0, None))
    found = [run(part, CLASSES) for part in jax.random.split(KEY, keys).reshape(-1, 8)]
    made = np.concatenate([part.image for part in found])  # [keys, 10, H, W, C]
    probability = float(sure(f, made[:8].reshape(-1, *made.shape[2:]), jnp.tile(CLASSES, 8)))
    known = int((jax.vmap(judges[0].outputs)(made[0]).argmax(axis=-1) == CLASSES).sum())
    sets = np.stack([real.inputs[real.targets == k][: min(np.bincount(real.targets))] for k in range(10)])
    draws = distances(judges[1], made.swapaxes(0, 1), sets)
    low, high = np.percentile(draws, [2.5, 97.5])
    print(f"{name:8s} under unseen transforms {probability:.4f} (0.99 or more: {probability >= 0.99})")
    print(f"{'':8s} recognised {known} of 10 (8 or more: {known >= 8})")
    print(f"{'':8s} Fréchet distance {draws.mean():.4g}, 95 % interval {low:.4g} to {high:.4g}, {keys} keys a class")
    return float(draws.mean()), (found[0].image[0], found[0].value[0])


def channels(f, real, settings):
    """What the last convolution's channels respond to beside real patches, and its atlas."""
    top, units = jaxplain.aggregate.top_activations(f, "conv_1", real.inputs, k=5, units=range(8)), jnp.arange(8)
    seen = jax.vmap(jaxplain.activation_maximization(objective.channel(f, "conv_1"), **settings), (None, 0))(KEY, units)
    view = jax.vmap(jax.vmap(jaxplain.deconv_view(f, "conv_1"), (0, None, 0)))
    views = cut(view(real.inputs[top.indices], units, top.positions), top.boxes)
    yield "channels", plot.unit_gallery(seen.image, seen.value, top.patches, top.values, views=views)
    atlas = jaxplain.aggregate.activation_atlas(f, "conv_1", real.inputs, key=KEY, grid=8, **settings)
    yield "atlas", plot.activation_atlas(atlas)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer keys, no pixels, no channels")
    parser.add_argument("--model", default="cnn", choices=("cnn", "resnet", "transformer"))
    parser.add_argument("--data", type=Path, help="a folder of IDX files (MNIST) in place of the small digits")
    parser.add_argument("--output", type=Path, default=Path("feature_visualization"))
    (options := parser.parse_args()).output.mkdir(parents=True, exist_ok=True)
    test = None if options.data and any(options.data.glob("*train-images*")) else 0.2  # MNIST's test file alone
    splits = data.load_idx_folder(options.data, test=test) if options.data else data.digits()
    shape = (real := splits.train).inputs.shape[1:]
    keys, (copies, epochs) = 8 if options.quick else 64, (6, 12) if shape[0] < 20 else (3, 4)
    nets = {"cnn": models.cnn(10, widths=(16, 32), dense=48), "resnet": models.resnet(10, widths=(8, 16, 32), depth=1)}
    nets["transformer"] = models.transformer(10, patch=shape[0] // 4, width=48)
    f, *judges = (network(nets[n], seed, real, copies, epochs) for seed, n in enumerate((options.model, "cnn", "cnn")))
    right = train.assess(f.apply, f.params, splits.test)[1]
    sureness = float(sure(f, splits.test.inputs[:80], splits.test.targets[:80]))  # as many as images: one program
    print(f"{options.model}: test accuracy {right:.1%}; real digits under unseen transforms {sureness:.4f}")
    kinds = {"fourier": image.fourier(shape), "maco": image.maco(real.inputs), "pixels": image.pixels(shape)}
    settings, distance = {"transforms": (*shifts(shape[0]), transform.scale(0.9, 1.1))}, {}
    top = jaxplain.aggregate.top_activations(f, "head", real.inputs, k=5)
    for kind in list(kinds)[: 2 if options.quick else 3]:
        penalties = () if kind == "maco" else (regulariser.l1(8.0), regulariser.total_variation(1.0))
        how = {"image": kinds[kind], "regularisers": penalties, **settings, **ascent(kind, shape[0])}
        distance[kind], images = shown(kind, jaxplain.activation_maximization(f, **how), f, judges, real, keys)
        file = options.output / f"{options.model}_{kind}.png"
        plot.unit_gallery(*images, top.patches, top.values).savefig(file, dpi=110)
    print("nearest to the real digits first:", ", ".join(sorted(distance, key=distance.get)))
    if options.model == "cnn" and not options.quick:
        for name, figure in channels(f, real, {"image": kinds["fourier"], **settings, **ascent("fourier", shape[0])}):
            figure.savefig(options.output / f"{name}.png", dpi=110)


if __name__ == "__main__":
    main()
