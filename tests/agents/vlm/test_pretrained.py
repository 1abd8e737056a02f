"""Loading of Hugging Face folders: code is refused and never run, damaged files are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from opera_agents.vlm.agent import SHIPPED, VLMAgent, make_vlm
from opera_agents.vlm.judge import LocalJudge
from opera_agents.vlm.pretrained import load_processor, load_vision_language_model, placeholder_tokens
from opera_agents.vlm.saved import METADATA_FILE
from opera_env.agents import make_agent
from opera_env.errors import AgentError, MissingWeightsError, WeightsIntegrityError
from opera_env.tools import Toolbox

CODE = """
from pathlib import Path
Path(__file__).with_name("code-was-run").touch()
"""

CLASSES = {
    "config.json": "AutoConfig",
    "processor_config.json": "AutoProcessor",
    "tokenizer_config.json": "AutoTokenizer",
    "preprocessor_config.json": "AutoImageProcessor",
    "video_preprocessor_config.json": "AutoVideoProcessor",
    "generation_config.json": "GenerationConfig",
}
"""Files of a model's folder in which the library looks for code, and the class that it looks for there."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped model without its card, whose digests would be compared first."""
    target = Path(shutil.copytree(SHIPPED, tmp_path / "model"))
    (target / METADATA_FILE).unlink()
    return target


@pytest.fixture(autouse=True)
def nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library asks by ``input`` whether code should be run; here the answer would be yes."""
    monkeypatch.setattr("builtins.input", lambda prompt: "y")


def change_json(path: Path, **values: Any) -> None:
    data = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(data | values))


def assert_refused(load: Callable[[], Any], root: Path, match: str) -> None:
    with pytest.raises(AgentError, match=match) as caught:
        load()
    assert "\n" not in str(caught.value)
    assert not list(root.rglob("code-was-run"))


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "unknown"])
def test_a_folder_that_names_code_is_refused(folder: Path, name: str, model_type: str) -> None:
    (folder / "hostile.py").write_text(CODE)
    (folder / "hostile.py").rename(folder / "hostile.txt")
    change_json(folder / "config.json", model_type=model_type)
    change_json(folder / name, auto_map={CLASSES[name]: "owner/hostile--hostile.Model"})
    assert_refused(lambda: make_vlm(Toolbox.load("lite"), path=folder), folder, "auto_map.*never run")


def test_a_folder_with_code_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "hostile.py").write_text(CODE)
    lite = Toolbox.load("lite")
    assert_refused(lambda: make_agent(f"vlm:{folder}", toolbox=lite), folder, "hostile.py.*never run")
    assert_refused(lambda: LocalJudge(folder), folder, "hostile.py.*never run")
    (folder / "hostile.py").unlink()
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(CODE)
    assert_refused(lambda: load_vision_language_model(folder), folder, "generate.py.*never run")


def test_the_library_is_told_not_to_run_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models from a hub have no folder that could be checked first: here the check is left out."""
    monkeypatch.setattr("opera_agents.vlm.pretrained.check_model_folder", lambda folder: None)
    (folder / "hostile.py").write_text(CODE)
    change_json(
        folder / "config.json",
        model_type="unknown",
        auto_map={"AutoConfig": "hostile.Config", "AutoModelForImageTextToText": "hostile.Model"},
    )
    assert_refused(lambda: load_vision_language_model(folder), folder, "cannot be loaded")
    change_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["hostile.Tokenizer", None]})
    change_json(folder / "processor_config.json", auto_map={"AutoProcessor": "hostile.Processor"})
    load_processor(folder)  # The library has a processor of its own for this folder.
    change_json(folder / "processor_config.json", processor_class="Unknown")
    change_json(folder / "tokenizer_config.json", processor_class="Unknown", tokenizer_class="Unknown")
    assert_refused(lambda: load_processor(folder), folder, "cannot be loaded")


def test_a_processor_without_images_is_refused(folder: Path) -> None:
    (folder / "processor_config.json").unlink()
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    change_json(folder / "tokenizer_config.json", processor_class=None)
    assert_refused(lambda: load_processor(folder), folder, "expected a processor of images and text")


def test_kernels_from_a_hub_are_refused(folder: Path) -> None:
    change_json(folder / "config.json", text_config={"_attn_implementation": "owner/kernel"})
    assert_refused(lambda: load_vision_language_model(folder), folder, "owner/kernel.*never run")


def make_adapter(folder: Path, base: Path, **settings: Any) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SHIPPED / name, folder / name)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
    change_json(folder / "adapter_config.json", base_model_name_or_path=str(base), **config | settings)
    save_file({}, folder / "adapter_model.safetensors")


def test_the_base_of_an_adapter_is_checked(folder: Path, tmp_path: Path) -> None:
    (folder / "hostile.py").write_text(CODE)
    adapter, second = tmp_path / "adapter", tmp_path / "second"
    make_adapter(adapter, folder)
    make_adapter(second, adapter)
    for path in (adapter, second):
        assert_refused(lambda path=path: load_vision_language_model(path), tmp_path, "hostile.py")
    make_adapter(adapter, adapter)
    make_adapter(second, adapter, megatron_config={"a": 1}, megatron_core="hostile")
    assert_refused(lambda: load_vision_language_model(second), tmp_path, "megatron_config")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(MissingWeightsError, match=r"adapter_model.safetensors"):
        load_vision_language_model(adapter)


def test_pickled_weights_are_not_read(folder: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return (folder / "code-was-run").touch, ()

    (folder / "model.safetensors").unlink()
    torch.save({"weight": Hostile()}, folder / "pytorch_model.bin")
    assert_refused(lambda: load_vision_language_model(folder), folder, "cannot be loaded.*safetensors")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"[1]", b"{" * 10_000, None])
def test_damaged_files_are_errors_that_name_the_folder(
    folder: Path, name: str, content: bytes | None
) -> None:
    """None stands for the first half of the file."""
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2] if content is None else content)
    assert_refused(lambda: make_vlm(Toolbox.load("lite"), path=folder), folder, str(folder))


def test_missing_weights_are_not_replaced_by_random_ones(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    key = next(name for name in weights if "layernorm" in name)
    save_file({name: value for name, value in weights.items() if name != key}, folder / "model.safetensors")
    assert_refused(lambda: load_vision_language_model(folder), folder, f"1 weights.*{key.split('.')[-2]}")


def test_changed_weights_of_a_model_with_a_card_are_named(folder: Path) -> None:
    shutil.copy(SHIPPED / METADATA_FILE, folder / METADATA_FILE)
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-5] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(WeightsIntegrityError, match=r"model\.safetensors: expected sha256"):
        make_vlm(Toolbox.load("lite"), path=folder)


@pytest.mark.parametrize("name", ["runs/vlm/modle", "./modle", "runs/modle", ""])
def test_a_mistyped_folder_is_an_error_after_one_request(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []

    def refuse(self: Any, name: str, **options: Any) -> None:
        requests.append(name)
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    monkeypatch.setattr("transformers.AutoProcessor.from_pretrained", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingWeightsError, match="the vision-language model"):
        load_processor(name)
    assert len(requests) <= 1


def test_no_progress_bar_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert logging.is_progress_bar_enabled()
    VLMAgent.from_pretrained(Toolbox.load("lite"), SHIPPED)
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()


def test_no_placeholder_of_an_image_is_written() -> None:
    """Even by a model that prefers one: the conversation with it could not be encoded."""
    model = load_vision_language_model(SHIPPED, dtype="float32")
    bias = torch.zeros(model.config.text_config.vocab_size)
    placeholders = placeholder_tokens(model)
    bias[placeholders] = 1e4
    model.lm_head.bias = torch.nn.Parameter(bias)
    written = model.generate(torch.tensor([[7, 8, 9]]), max_new_tokens=4, do_sample=False)[0, 3:]
    assert len(placeholders) == 4
    assert not set(written.tolist()) & set(placeholders)
