"""All odd image files, always the same ones.

``python -m tests.faults.odd_images.collection FOLDER`` writes them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.faults.odd_images.broken import odd_broken_files
from tests.faults.odd_images.image import OddImage
from tests.faults.odd_images.jpeg import odd_jpeg_files
from tests.faults.odd_images.others import odd_other_files
from tests.faults.odd_images.png import odd_png_files
from tests.faults.odd_images.tiff import odd_tiff_files


def odd_images() -> dict[str, OddImage]:
    """Returns all odd images by name."""
    makers = (odd_png_files, odd_jpeg_files, odd_tiff_files, odd_other_files, odd_broken_files)
    images = [image for make in makers for image in make()]
    by_name = {image.name: image for image in images}
    repeated = [image.name for image in images if by_name[image.name] is not image]
    assert not repeated, f"two images have the same name: {repeated}"
    return by_name


def write_odd_images(folder: Path) -> dict[str, OddImage]:
    """Writes all odd images into a new folder; returns them by name."""
    folder.mkdir(parents=True)
    images = odd_images()
    for name, image in images.items():
        (folder / name).write_bytes(image.data)
    return images


if __name__ == "__main__":
    print(f"{len(write_odd_images(Path(sys.argv[1])))} files")
