"""Photographs: five explanations of a network that knows a thousand classes, drawn over the pictures and judged.

The network is that of `efficientnet.py`. Expect maps that lie on the cat's face and on the cup. Integrated gradients
need more steps here than on a small network: 64 miss a tenth of the score, and what is missing is printed. LRP's
epsilon-plus rule leaves 0.001 of a logit of 9.1 at the input, as Zennit does with the same weights: the biases of the
fifty normalised layers hold the rest, so that its map says where and not how much. Channels in the middle of the
network respond to textures.

    pip install jaxplain[photographs]
    python examples/photographs.py [--quick] [--output FOLDER]
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from efficientnet import Lite0, square, weights
from skimage import data as skimages
from skimage import segmentation

import jaxplain
from jaxplain import plot

KEY = jax.random.key(0)


def methods(f, quick):
    """Five explanations `e(x, label, superpixels)`; the last is of superpixels, `[H, W]`."""
    shap = {"max_groups": 40, "samples": 64 if quick else 1024, "batch_size": 16}
    pixels = {
        "integrated gradients": jaxplain.integrated_gradients(f, steps=64 if quick else 256, batch_size=8),
        "Grad-CAM": jaxplain.grad_cam(f, "_bn1"),
        "LRP": jaxplain.lrp(f, jaxplain.relevance.epsilon_plus()),
        "occlusion": jaxplain.occlusion(f, window=48, stride=48 if quick else 12, batch_size=16),
    }
    found = {name: jax.jit(lambda x, k, groups, e=e: e(x, k)) for name, e in pixels.items()}
    return found | {"KernelSHAP": lambda x, k, g: jaxplain.kernel_shap(f, groups=g, **shap)(KEY, x, k)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Photographs explained.")
    parser.add_argument("--quick", action="store_true", help="fewer evaluations")
    parser.add_argument("--output", type=Path, default=Path("photographs"), help="where the figures go")
    (options := parser.parse_args()).output.mkdir(parents=True, exist_ok=True)
    x, labels = np.stack([square(skimages.cat()), square(skimages.coffee())]), np.array([285, 967])
    f, pictures = jaxplain.logit(Lite0().apply, weights()), (x * 128 + 127) / 255
    regions = [segmentation.slic(picture, n_segments=36, start_label=0) for picture in pictures]
    maps = {
        name: np.stack([e(*row) for row in zip(x, labels, regions, strict=True)])
        for name, e in methods(f, options.quick).items()
    }
    heat = plot.heatmaps(pictures, maps, ("Egyptian cat", "espresso"), overlay=True, percentile=99)
    heat.savefig(options.output / "photographs.png", dpi=150)
    print("\nmean score while tiles are removed (low is good) and put back (high is good), most relevant first:")
    side = 4 if options.quick else 8
    tiles = np.arange(224) * side // 224
    for name, values in maps.items():
        relevance = values if values.ndim == 4 else values[..., None] * np.ones(3) / 3
        settings = {"groups": tiles[:, None] * side + tiles, "batch_size": 16}
        judged = [
            np.mean(jaxplain.evaluate.evaluate_batch(metric(f, **settings), x, relevance, labels))
            for metric in (jaxplain.evaluate.deletion, jaxplain.evaluate.insertion)
        ]
        print("  {:22s}{:8.2f}{:8.2f}".format(name, *judged))
    gap = abs(maps["integrated gradients"][0].sum() - (f(x[0], 285) - f(0 * x[0], 285))) / f(x[0], 285)
    print(f"integrated gradients miss {gap:.1%} of the cat's score; `tolerance=` adds steps until it is small")
    print(f"epsilon-plus brings {maps['LRP'][0].sum():.4f} to the input; biases hold the rest (`relevance_balance`)")
    made = jaxplain.image.fourier((112, 112, 3), low=-1, high=1)  # half as large, since the network takes any size
    ascent = {"steps": 8 if options.quick else 128, "transforms": (jaxplain.transform.jitter(8),)}
    unit = jaxplain.objective.channel(f, "_blocks.10._project_conv")
    shown = jax.vmap(jaxplain.activation_maximization(unit, image=made, **ascent), (None, 0))(KEY, np.arange(4))
    gallery = plot.activation_gallery((shown.image + 1) / 2, range(4), shown.value)
    gallery.savefig(options.output / "channels.png", dpi=150)


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
