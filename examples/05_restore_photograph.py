"""Restores a photograph: what `opera-env restore` does, in a few lines.

The photograph comes with scikit-image and is given noise. Of your own, EXIF and colour profile are kept.
"""

from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import skimage.data
from PIL import Image

from opera_env.data.read import read_photo
from opera_env.data.write import write_photo
from opera_env.degradations import degrade
from opera_env.restoration import DEFAULT_TOOLBOX, Restorer
from opera_env.tools import Toolbox

folder = Path(mkdtemp())
noisy, _ = degrade(np.asarray(skimage.data.coffee()), ("noise",), np.random.default_rng(0))
Image.fromarray(noisy).save(folder / "coffee.jpg", quality=95)

photo = read_photo(folder / "coffee.jpg")
result = Restorer(Toolbox.load(DEFAULT_TOOLBOX)).restore(photo.tensor())
write_photo(folder / "restored.jpg", photo.with_image(result.image))
plan = " > ".join(result.decision.plan) or "unchanged"
print(
    f"{plan}: {result.planning_seconds:.1f} s to plan, {sum(result.tool_seconds):.1f} s to run, in {folder}"
)
