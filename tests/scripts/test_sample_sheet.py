"""A sheet of samples has an image and the labels of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from opera_env.data import real_photographs
from opera_env.types import SampleSpec
from scripts.sample_sheet import SampleSheetConfig, caption, main


def test_a_sheet_has_all_samples(tmp_path: Path) -> None:
    main(SampleSheetConfig(out=tmp_path / "sheet.png", n=3, columns=2, canvas=32, width=32))
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape == (2 * (32 + 48), 2 * (32 + 4), 3)
    for top, left in ((0, 0), (0, 36), (80, 0)):
        assert pixels[top : top + 32, left : left + 32].std() > 1
        assert pixels[top + 32 : top + 48, left : left + 36].min() < 128, "no caption"
    assert pixels[80:, 36:].min() == 255, "the last place is empty"


def test_captions_name_labels_or_the_look() -> None:
    source = real_photographs(canvas=16)
    crop = (0, 0, 16, 16)
    damaged = source.make(SampleSpec(source.name, 0, ("rain", "noise", "jpeg"), 0, crop))
    assert caption(damaged, source) == ["rain, noise", "jpeg"]
    untouched = [source.make(SampleSpec(source.name, 0, (), seed, crop)) for seed in range(8)]
    for sample in untouched:
        look = source.look(sample.spec)
        expected = ["nothing to do"] if look is None else ["nothing to do:", look]
        assert caption(sample, source) == expected
    assert len({source.look(sample.spec) for sample in untouched}) > 2
