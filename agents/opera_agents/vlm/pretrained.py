"""Loading of models, processors and tokenizers by Hugging Face's libraries: data alone, never code.

Folders and hubs are not trusted. Code that a model brings along is never run, and nobody is asked whether
it should be: folders with code are refused before a library opens them, and the libraries are told so as
well. Weights are read from safetensors files alone, because other files of weights are pickles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, try_to_load_from_cache
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.utils import logging

from opera_agents.vlm.encoder_model import register_encoder_model
from opera_agents.vlm.saved import load_card
from opera_env.errors import AgentError, MissingWeightsError, error_message
from opera_env.json_files import read_object

_ADAPTER_CONFIG, _ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_CODE_REFUSED = (
    "the model brings code of its own, which is never run: use a model of an architecture that "
    "transformers has built in."
)

_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    ImportError,
    SafetensorError,
)
"""What the libraries raise about files that they cannot use."""

_HUB_TIMEOUT = 10.0
"""Seconds to wait for the hub's answer whether it has a model."""


def load_processor(name_or_path: Path | str, **options: Any) -> Any:
    """Loads the processor of a vision-language model.

    Args:
        name_or_path: Folder of a model and its processor, or the model's name on a hub.
        **options: Further arguments of the library's loader.

    Raises:
        MissingWeightsError: If there is no such folder or name.
        AgentError: If the folder contains code, or holds no processor of images and text.
    """
    processor = _load(AutoProcessor, name_or_path, "the vision-language model", **options)
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        raise AgentError(
            f"{name_or_path}: expected a processor of images and text, found {type(processor).__name__}: "
            "save the processor of the model beside it."
        )
    return processor


def load_vision_language_model(name_or_path: Path | str, **options: Any) -> Any:
    """Loads a model that takes images and text; arguments and errors as :func:`load_processor`.

    It does not write :func:`placeholder_tokens`.
    """
    if (card := load_card(name_or_path)) is not None:
        card.check_weights(Path(name_or_path))
    model = _load_model(AutoModelForImageTextToText, name_or_path, "the vision-language model", **options)
    model.generation_config.suppress_tokens = placeholder_tokens(model) or None
    return model


def placeholder_tokens(model: Any) -> list[int]:
    """Returns the tokens of a model that stand for images and videos.

    In an answer they would stand for an image that nobody has given: the conversation could not be encoded
    any more.
    """
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    tokens = (getattr(model.config, name, None) for name in names)
    return sorted({token for token in tokens if isinstance(token, int)})


def load_tokenizer(name_or_path: Path | str, **options: Any) -> Any:
    """Loads the tokenizer of a language model; arguments and errors as :func:`load_processor`."""
    return _load(AutoTokenizer, name_or_path, "the language model", **options)


def load_language_model(name_or_path: Path | str, **options: Any) -> Any:
    """Loads a model that takes text; arguments and errors as :func:`load_processor`."""
    return _load_model(AutoModelForCausalLM, name_or_path, "the language model", **options)


def check_model_folder(folder: Path) -> None:
    """Checks that a model's folder, and that of its base if it is an adapter, holds data alone.

    Raises:
        MissingWeightsError: If an adapter has no safetensors file.
        AgentError: If a folder contains or names code, or if one of its configurations cannot be read.
    """
    checked: set[Path] = set()
    base: Path | None = folder
    while base is not None and base.resolve() not in checked:
        checked.add(base.resolve())
        base = _check_files(base)


def _check_files(folder: Path) -> Path | None:
    """Checks one folder; returns that of its base if it is an adapter whose base is a folder too."""
    for path in (*sorted(folder.glob("*.py")), *sorted(folder.glob("custom_generate/*.py"))):
        raise AgentError(f"{path}: {_CODE_REFUSED}")
    for path in sorted(folder.glob("*config.json")):
        _check_config(path, _read_config(path))
    path = folder / _ADAPTER_CONFIG
    if not path.is_file():
        return None
    if not (folder / _ADAPTER_WEIGHTS).is_file():
        remedy = "PeftModel.save_pretrained, which writes safetensors; files of other kinds are not read"
        raise MissingWeightsError("an adapter", folder / _ADAPTER_WEIGHTS, remedy)
    base = _read_config(path).get("base_model_name_or_path")
    if not isinstance(base, str):
        raise AgentError(f"{path}: expected a base_model_name_or_path, found {str(base)[:100]!r}.")
    return Path(base) if Path(base).is_dir() else None


def _read_config(path: Path) -> Mapping[str, Any]:
    return read_object(path, AgentError, "Get a new copy of the model's folder.").data


def _check_config(path: Path, value: Any) -> None:
    """Raises if a configuration names code: classes of a folder or hub, or kernels from a hub."""
    if isinstance(value, list):
        for item in value:
            _check_config(path, item)
    if isinstance(value, Mapping):
        for key, item in value.items():
            # Kernels of a hub are named "owner/repository"; those of the library are plain words.
            is_hub_kernel = key.endswith(("attn_implementation", "experts_implementation")) and "/" in str(
                item
            )
            if item and (key in ("auto_map", "megatron_config") or is_hub_kernel):
                raise AgentError(f"{path}: {key} {str(item)[:100]!r}: {_CODE_REFUSED}")
            _check_config(path, item)


def _load_model(auto_class: Any, name_or_path: Path | str, what: str, **options: Any) -> Any:
    """Loads a model, and checks that its files have all of its weights."""
    options |= {"use_safetensors": True, "output_loading_info": True}
    model, info = _load(auto_class, name_or_path, what, **options)
    if missing := sorted(info["missing_keys"]):
        raise AgentError(
            f"{name_or_path}: {len(missing)} weights of {what} are missing, such as {missing[0]}: the "
            "files are incomplete, or of another architecture."
        )
    return model


def _load(auto_class: Any, name_or_path: Path | str, what: str, **options: Any) -> Any:
    """Calls ``from_pretrained`` of a library's class after the folder has been checked."""
    if str(name_or_path) and Path(name_or_path).is_dir():  # "" would be the current folder.
        check_model_folder(Path(name_or_path))
    else:
        _check_name(str(name_or_path), what)
    register_encoder_model()
    try:
        with _without_progress_bars():
            return auto_class.from_pretrained(name_or_path, trust_remote_code=False, **options)
    except _UNREADABLE as error:
        raise AgentError(
            f"{name_or_path}: {what} cannot be loaded ({error_message(error)[:500]}). It must be of an "
            "architecture that transformers has built in, with weights in safetensors files."
        ) from error


def _check_name(name: str, what: str) -> None:
    """Checks that a model is in the cache or on the hub, with one request.

    The library would ask for each of its files several times, which takes minutes without a network.

    Raises:
        MissingWeightsError: If it is in neither, as after a mistake in the path of a folder.
    """
    try:
        if try_to_load_from_cache(name, "config.json") is None:
            HfApi().model_info(name, timeout=_HUB_TIMEOUT)
    except Exception as error:  # The classes of network errors depend on the version of the library.
        remedy = f"the path of a folder that exists, or, for a model of the hub: hf download {name}"
        raise MissingWeightsError(f"{what} {name!r}", Path(name), remedy) from error


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Suppresses the progress bars of the libraries, which would mix with the output of a command."""
    if not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()
