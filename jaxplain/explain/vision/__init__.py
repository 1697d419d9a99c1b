"""Detection and segmentation: one number for a box or for a region, and maps of a detector seen from outside.

The scores are differentiable: every method explains them.
"""

from jaxplain.explain.vision.detection import box_score, d_rise
from jaxplain.explain.vision.region import region_score

__all__ = ["box_score", "d_rise", "region_score"]
