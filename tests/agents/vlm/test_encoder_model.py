"""Models that see with an image encoder: what the tower sees, what it returns, and saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from opera_agents.vlm.encoder_model import EncoderVLForConditionalGeneration
from opera_agents.vlm.pretrained import load_processor, load_vision_language_model
from opera_agents.vlm.prompt import build_messages
from opera_agents.vlm.tiny import tiny_encoder_model, tiny_processor
from opera_env.encoder import ImageEncoder
from opera_env.errors import AgentError
from opera_env.tools import Toolbox


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    torch.manual_seed(3)
    return ImageEncoder()


@pytest.fixture(scope="module")
def processor() -> Any:
    return tiny_processor(Toolbox.load("lite"), ["Restore it."] * 9, for_encoder=True)


@pytest.fixture(scope="module")
def model(processor: Any, encoder: ImageEncoder) -> EncoderVLForConditionalGeneration:
    return tiny_encoder_model(processor, encoder)


def photographs(*sizes: tuple[int, int]) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def test_the_tower_sees_the_pixels_of_the_photograph(
    processor: Any, model: EncoderVLForConditionalGeneration, encoder: ImageEncoder
) -> None:
    images = photographs((128, 128), (128, 128))
    inputs = processor.image_processor(images=[Image.fromarray(image) for image in images])
    grid = torch.as_tensor(inputs["image_grid_thw"])
    seen = model.tower.assemble(torch.as_tensor(inputs["pixel_values"]), grid)
    for image, shown in zip(images, seen, strict=True):
        torch.testing.assert_close(shown, torch.from_numpy(image).permute(2, 0, 1) / 255)
    output = model.tower(torch.as_tensor(inputs["pixel_values"]), grid).pooler_output
    assert output is not None and output.shape == (8, 128)
    with torch.no_grad():
        features = model.tower.projector(encoder(torch.stack(seen)))
    torch.testing.assert_close(output.detach(), features.view(8, 128))


def test_images_of_any_shape_fill_their_places(
    processor: Any, model: EncoderVLForConditionalGeneration
) -> None:
    images = [Image.fromarray(image) for image in photographs((64, 256), (128, 128), (40, 500))]
    inputs = processor.image_processor(images=images, return_tensors="pt")
    grid = inputs["image_grid_thw"]
    places = (grid.prod(1) // 64).tolist()
    output = model.tower(inputs["pixel_values"], grid).pooler_output
    assert output is not None and len(output) == sum(places)
    last = output[-places[2] :]
    assert torch.equal(last[4:], last[: places[2] - 4]), "more places than tokens repeat them"


def test_frames_of_a_video_are_refused(model: EncoderVLForConditionalGeneration) -> None:
    with pytest.raises(AgentError, match="found 2 frames"):
        model.tower(torch.zeros(512, 192), torch.tensor([[2, 16, 16]]))


def test_the_language_model_learns_and_the_encoder_does_not(
    processor: Any, model: EncoderVLForConditionalGeneration
) -> None:
    prompt = processor.apply_chat_template(build_messages("Restore it."), tokenize=False)
    images = [[Image.fromarray(photographs((128, 128))[0])]]
    inputs = processor(text=[prompt], images=images, return_tensors="pt")
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert all(parameter.grad is None for parameter in model.tower.encoder.parameters())
    assert all(parameter.grad is not None for parameter in model.tower.projector.parameters())
    assert model.model.language_model.embed_tokens.weight.grad is not None
    model.zero_grad()


def test_a_saved_model_is_loaded_by_the_usual_loader(
    processor: Any, model: EncoderVLForConditionalGeneration, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = load_vision_language_model(tmp_path, dtype=torch.bfloat16)
    assert isinstance(loaded, EncoderVLForConditionalGeneration)
    assert loaded.tower.dtype == torch.float32, "spectra need float32"
    assert loaded.model.language_model.dtype == torch.bfloat16
    for key, value in model.tower.state_dict().items():
        assert torch.equal(loaded.tower.state_dict()[key], value)
    assert load_processor(tmp_path).image_processor.do_normalize is False
