"""Surface inspection: an image task generated from a seed, with every defect known.

`generate` puts `elements`, `materials`, `defects` and `camera` together, in this order.
"""

from course_utils.surface.generate import (
    CLASSES,
    DOMAINS,
    MATERIALS,
    SurfaceSet,
    generate_surfaces,
)

__all__ = ["CLASSES", "DOMAINS", "MATERIALS", "SurfaceSet", "generate_surfaces"]
