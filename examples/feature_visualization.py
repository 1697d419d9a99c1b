"""Digits: what a network's classes and channels respond to, judged by numbers and by eye.

All ten classes of one network are visualised in one compiled call from many keys, as pixels, as Fourier coefficients,
and as phases alone (MACO). Printed are the class's probability under transforms that the optimisation did not use
(expect 0.99 or more on average), how many of ten a second network recognises (8 or more), and the Fréchet distance to
real digits in a third network's features, averaged over classes, with 95 % bootstrap intervals: which is nearest is
reported, not presumed. Figures: classes and channels beside real patches, and the atlas of the last convolution.

    python examples/feature_visualization.py [--quick] [--data FOLDER OF IDX FILES] [--output FOLDER]
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from jaxplain import data, image, models, objective, plot, regulariser, train, transform
from jaxplain.explain.receptive import cut

CLASSES, KEY = jnp.arange(10), jax.random.key(7)
UNSEEN = (transform.rotate(10.0), transform.noise(0.1), transform.blur(0.5))


def network(seed, examples, epochs):
    """Train on shifted, noisy digits, so that the network looks at strokes and not at single pixels."""
    shake = jax.jit(jax.vmap(lambda key, x: transform.noise(0.1)(key, transform.jitter(1)(key, x))))
    inputs = np.asarray(shake(jax.random.split(jax.random.key(seed), len(examples.inputs)), examples.inputs))
    module, rows = models.cnn(10, widths=(16, 32), dense=48), (inputs, examples.targets)
    params, optimizer = module.init(jax.random.key(seed), inputs[:1]), optax.adam(3e-3)
    result = train.fit(module.apply, params, rows, key=KEY, optimizer=optimizer, epochs=epochs, batch_size=32)
    return jaxplain.logit(module.apply, result.params)


def sure(f, x, label, key):
    """The class's probability under transforms that the optimisation did not use."""
    for number, move in enumerate(UNSEEN):
        x = move(jax.random.fold_in(key, number), x)
    return jaxplain.probability(f.apply, f.params)(x, label)


def figures(f, real, images, settings, grid):
    """Classes and channels beside the real patches, and the atlas."""
    top = jaxplain.top_activations(f, "head", real.inputs, k=5)
    for name, found in images.items():
        yield f"classes_{name}", plot.unit_gallery(*found, top.patches, top.values)
    top, units = jaxplain.top_activations(f, "conv_1", real.inputs, k=5, units=range(8)), jnp.arange(8)
    e = jaxplain.activation_maximization(objective.channel(f, "conv_1"), **settings)
    seen = jax.vmap(e, (None, 0))(KEY, units)
    view = jax.vmap(jax.vmap(jaxplain.deconv_view(f, "conv_1"), (0, None, 0)))
    views = cut(view(real.inputs[top.indices], units, top.positions), top.boxes)
    yield "channels", plot.unit_gallery(seen.image, seen.value, top.patches, top.values, views=views)
    atlas = jaxplain.activation_atlas(f, "conv_1", real.inputs, key=KEY, grid=grid, **settings)
    yield "atlas", plot.activation_atlas(atlas)


def main() -> None:
    parser = argparse.ArgumentParser(description="What classes and channels respond to.")
    parser.add_argument("--quick", action="store_true", help="fewer keys and steps")
    parser.add_argument("--data", type=Path, help="a folder of IDX files (MNIST) in place of the small digits")
    parser.add_argument("--output", type=Path, default=Path("feature_visualization"))
    (options := parser.parse_args()).output.mkdir(parents=True, exist_ok=True)
    keys, steps, epochs = (8, 96, 12) if options.quick else (64, 192, 24)
    one_part = options.data and not any(options.data.glob("*train-images*"))
    splits = data.load_idx_folder(options.data, test=0.2 if one_part else None) if options.data else data.digits()
    real, shape = splits.train, splits.train.inputs.shape[1:]
    f, second, third = (network(seed, real, max(2, epochs * 8 // shape[0])) for seed in range(3))
    right = [train.assess(g.apply, g.params, splits.test)[1] for g in (f, second, third)]
    print("test accuracies:", ", ".join(f"{share:.1%}" for share in right))
    features = jax.jit(jax.vmap(lambda x: jaxplain.split(third, "dense")[0](x, 0)))
    moves = (transform.jitter(shape[0] // 8), transform.scale(0.9, 1.1))
    kinds = {"pixels": image.pixels(shape), "fourier": image.fourier(shape), "maco": image.maco(real.inputs)}
    draws, images = {}, {}
    for name, kind in kinds.items():
        penalties = () if name == "maco" else (regulariser.l1(2.0), regulariser.total_variation(3.0))
        e = jaxplain.activation_maximization(f, image=kind, transforms=moves, regularisers=penalties, steps=steps)
        run = jax.vmap(jax.vmap(e, (None, 0)), (0, None))
        found = [run(part, CLASSES) for part in jax.random.split(KEY, keys).reshape(-1, 8)]
        made, images[name] = np.concatenate([part.image for part in found]), (found[0].image[0], found[0].value[0])
        one = jax.vmap(sure, (None, 0, 0, None))  # all classes, then all images, then all draws of the transforms
        seen = jax.jit(jax.vmap(jax.vmap(one, (None, 0, None, None)), (None, None, None, 0)))
        mean = float(seen(f, made[:8], CLASSES, jax.random.split(KEY, 16)).mean())
        known = round(10 * train.assess(second.apply, second.params, (made[0], CLASSES))[1])
        sets = [(features(made[:, k]), features(real.inputs[real.targets == k])) for k in range(10)]
        draws[name] = np.mean([jaxplain.frechet_bootstrap(KEY, *pair, samples=100) for pair in sets], axis=0)
        low, high = np.percentile(draws[name], [2.5, 97.5])
        print(f"{name:8s} under unseen transforms {mean:.4f} (0.99 or more: {mean >= 0.99}), recognised {known} of 10")
        print(f"{'':8s} Fréchet distance {draws[name].mean():.4g}, 95 % interval {low:.4g} to {high:.4g}, {keys} keys")
    print("nearest to the real digits first:", ", ".join(sorted(draws, key=lambda name: draws[name].mean())))
    settings = {"image": kinds["fourier"], "transforms": moves, "steps": steps}
    for name, figure in figures(f, real, images, settings, 4 if options.quick else 8):
        figure.savefig(options.output / f"{name}.png", dpi=110)


if __name__ == "__main__":
    main()
