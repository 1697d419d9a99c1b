"""Class activation maps: a layer's values, weighted and laid over the input."""

from jaxplain.explain.cam.cam import class_activation_map, grad_cam, grad_cam_plus_plus, hires_cam, layer_cam, xgrad_cam
from jaxplain.explain.cam.eigen_cam import eigen_cam, eigen_grad_cam
from jaxplain.explain.cam.guided_grad_cam import guided_grad_cam
from jaxplain.explain.cam.score_cam import ablation_cam, score_cam

__all__ = [
    "ablation_cam",
    "class_activation_map",
    "eigen_cam",
    "eigen_grad_cam",
    "grad_cam",
    "grad_cam_plus_plus",
    "guided_grad_cam",
    "hires_cam",
    "layer_cam",
    "score_cam",
    "xgrad_cam",
]
