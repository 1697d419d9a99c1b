"""Digits: what networks' classes and channels respond to, judged by numbers and by eye.

All ten class logits of a network are maximised in one compiled call, from many keys, as pixels, as Fourier coefficients
and as phases (MACO). Printed are the class's probability under transforms that the optimisation did not use, how many
of ten a second network recognises, and the Fréchet distance to real digits in a third network's features (mean over
classes, 95 % bootstrap interval; which is nearest is reported, not presumed). Expect 0.99 or more and 8 or more of ten
recognised, and digits that can be read in the gallery. It takes networks that were trained under noise, which look at
strokes (`shaken_digits.py`), a penalty on ink, and normalised steps along the gradient.

    python examples/feature_visualization.py [--quick] [--model MODEL] [--data FOLDER OF IDX FILES] [--output FOLDER]
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from shaken_digits import KEY, load, network, shifts, sure

import jaxplain
from jaxplain import image, objective, plot, regulariser, train, transform
from jaxplain.explain.visualization.receptive import cut

CLASSES = jnp.arange(10)


def ascent(kind, side):
    """Steps of a length along the gradient: Adam turns faint frequencies as far as strong ones, away from the best."""
    length, steps, samples = (0.1, 256, 8) if kind == "maco" else (0.03, 128, 4) if side < 20 else (0.05, 256, 4)
    descent = optax.sgd(optax.cosine_decay_schedule(length, steps), momentum=0.9)
    return {"optimizer": optax.chain(regulariser.normalize_gradient(), descent), "steps": steps, "samples": samples}


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
    span = "{:.4g} to {:.4g}".format(*np.percentile(draws, [2.5, 97.5]))
    print(f"{name:8s} under unseen transforms {probability:.4f} (0.99 or more: {probability >= 0.99})")
    print(f"{'':8s} recognised {known} of 10 (8 or more: {known >= 8})")
    print(f"{'':8s} Fréchet distance {draws.mean():.4g}, 95 % interval {span}, {keys} keys a class")
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
    splits, keys = load(options.data), 8 if options.quick else 64
    shape = (real := splits.train).inputs.shape[1:]
    f, *judges = (network(name, seed, real) for seed, name in enumerate((options.model, "cnn", "cnn")))
    right = train.assess(f.apply, f.params, splits.test)[1]
    sureness = sure(f, splits.test.inputs[:80], splits.test.targets[:80])  # as many as images: one program
    print(f"{options.model}: test accuracy {right:.1%}; real digits under unseen transforms {sureness:.4f}")
    kinds = {"fourier": image.fourier(shape), "maco": image.maco(real.inputs), "pixels": image.pixels(shape)}
    settings, distance = {"transforms": (*shifts(shape[0]), transform.scale(0.9, 1.1))}, {}
    top = jaxplain.aggregate.top_activations(f, "head", real.inputs, k=5)
    for kind in list(kinds)[: 2 if options.quick else 3]:
        penalties = () if kind == "maco" else (regulariser.l1(8.0), regulariser.total_variation(1.0))
        how = {"image": kinds[kind], "regularisers": penalties, **settings, **ascent(kind, shape[0])}
        distance[kind], best = shown(kind, jaxplain.activation_maximization(f, **how), f, judges, real, keys)
        figure = plot.unit_gallery(*best, top.patches, top.values)
        figure.savefig(options.output / f"{options.model}_{kind}.png", dpi=110)
    print("nearest to the real digits first:", ", ".join(sorted(distance, key=distance.get)))
    if options.model == "cnn" and not options.quick:
        for name, figure in channels(f, real, {"image": kinds["fourier"], **settings, **ascent("fourier", shape[0])}):
            figure.savefig(options.output / f"{name}.png", dpi=110)


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
