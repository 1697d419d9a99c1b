"""Print Lucent's Fourier image and its direction objective for fixed numbers, recorded in `test_activation_images.py`.

python tests/peers/lucent_images.py    (needs torch and torch-lucent 0.1.8)
"""

import numpy as np
import torch
from lucent.optvis import objectives
from lucent.optvis.param.spatial import fft_image


def main() -> None:
    params, render = fft_image((1, 1, 4, 6))
    values = np.cos(np.arange(2 * 4 * 4, dtype=np.float32)).reshape(2, 4, 4)
    params[0].data = torch.tensor(np.moveaxis(values, 0, -1)[None, None].copy())
    print("fourier", np.asarray(render().detach())[0, 0].round(6).tolist())
    layer = torch.tensor(np.sin(np.arange(12, dtype=np.float32)).reshape(1, 3, 2, 2))
    direction = torch.tensor([1.0, 0.5, -1.0])
    print("cosine", round(-float(objectives.direction("layer", direction)(lambda name: layer)), 6))


if __name__ == "__main__":
    main()
