"""The requests of the scoring server: JSON, in which every value is checked, and images as PNG files."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from opera_env.answer import AnswerGrammar
from opera_env.data.images import to_pil, to_tensor
from opera_env.errors import RequestError, error_message
from opera_env.json_files import JsonObject, parse_object
from opera_env.types import Decision, Plan, Sample, SampleSpec

_REMEDY = "The page docs/serving.md says what the server takes."

_UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow and base64 raise about data that is no PNG file."""


@dataclass(frozen=True)
class ScoreItem:
    """A plan, or an answer in words, for one sample.

    Attributes:
        sample: The sample; or the specification from which the server's source makes it, or a seed with
            which the source draws one.
        decision: The plan; of an answer also the degradations and the reasoning, or a parse error.
        is_answer: Whether it came as an answer in words.
    """

    sample: Sample | SampleSpec | int
    decision: Decision
    is_answer: bool


def parse_request(body: bytes) -> JsonObject:
    """Parses the body of a request.

    Raises:
        RequestError: If it is not a JSON object.
    """
    return parse_object(body, "the request", RequestError, _REMEDY)


def parse_items(
    request: JsonObject, grammar: AnswerGrammar, max_plans: int, max_pixels: int
) -> list[ScoreItem]:
    """Parses the plans and answers of a call.

    Args:
        request: The request: ``{"items": [{"spec": {...}, "plan": [...]}, ...]}``.
        grammar: Parses answers, and knows the tools.
        max_plans: Largest number of items.
        max_pixels: Largest number of pixels of all images together.

    Raises:
        RequestError: If an item is malformed, or there are too many of them or of pixels.
        SampleError: If a specification or an image cannot be used.
    """
    items: list[ScoreItem] = []
    for row in request.objects("items", max_plans):
        is_answer = "answer" in row.data
        decision = grammar.parse(row.text("answer")) if is_answer else Decision(_parse_plan(row, grammar))
        sample = parse_sample(row, max_pixels)
        if isinstance(sample, Sample):
            max_pixels -= num_pixels(sample)
        items.append(ScoreItem(sample, decision, is_answer))
    if not items:
        request.fail("expected at least one item, found none")
    return items


def parse_turn(request: JsonObject, grammar: AnswerGrammar) -> Decision:
    """Parses what is to be done in a session: ``undo``, then ``tools``, then perhaps ``finish``.

    Raises:
        RequestError: If a value has the wrong type, or a tool is unknown.
    """
    undo = request.integer("undo", 0, grammar.max_tools, default=0)
    plan = _parse_plan(request, grammar, "tools", default=())
    degradations = None
    if "degradations" in request.data:
        degradations = frozenset(request.names("degradations"))
        if unknown := sorted(degradations.difference(grammar.degradations)):
            request.fail(
                f"expected labels among {', '.join(grammar.degradations)}, found {unknown[0]!r:.80}"
            )
    return Decision(plan, degradations, undo=undo, finish=request.flag("finish", default=False))


def parse_plan(request: JsonObject, grammar: AnswerGrammar) -> Plan:
    """Parses the plan with which a session begins; by default it is empty."""
    return _parse_plan(request, grammar, default=())


def _parse_plan(row: JsonObject, grammar: AnswerGrammar, key: str = "plan", **default: Plan) -> Plan:
    plan = row.names(key, **default)
    if unknown := [name for name in plan if name not in grammar.tools]:
        row.fail(f"expected tools among {', '.join(grammar.tools)}, found {unknown[0][:100]!r}")
    if len(plan) > grammar.max_tools:
        row.fail(f"expected at most {grammar.max_tools} tools (--max-tools), found {len(plan)}")
    return plan


def parse_sample(row: JsonObject, max_pixels: int) -> Sample | SampleSpec | int:
    """Parses ``spec``, ``seed``, or ``image`` and, if there is one, ``reference`` as PNG in base64.

    Args:
        row: The object with these keys.
        max_pixels: Largest number of pixels of the images together.

    Raises:
        RequestError: If an image is not a PNG file of 8-bit RGB, or is too large.
        SampleError: If the specification has wrong keys or types.
    """
    if "seed" in row.data:
        return row.integer("seed", 0, 2**63 - 1)
    if "image" not in row.data:
        return SampleSpec.from_json(row.mapping("spec"))
    lq = _decode_image(row, "image", max_pixels)
    reference = None
    if "reference" in row.data:
        reference = _decode_image(row, "reference", max_pixels - lq.shape[-1] * lq.shape[-2])
    shown = lq if reference is None else reference
    labels = frozenset(row.names("degradations")) if "degradations" in row.data else None
    canvas = (shown.shape[-2], shown.shape[-1])
    return Sample(lq, reference, labels, canvas, SampleSpec("request", 0))


def _decode_image(row: JsonObject, key: str, max_pixels: int) -> Tensor:
    """Decodes an image, float32 (3, H, W) in [0, 1], after a look at its size."""
    try:
        data = base64.b64decode(row.text(key), validate=True)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            width, height = image.size
            if width * height > max_pixels:
                row.fail(
                    f"expected images with at most {max_pixels:,} more pixels in this call (the server's "
                    f"--max-pixels), found {width} x {height}"
                )
            if image.mode != "RGB":
                row.fail(f"expected {key!r} as PNG of 8-bit RGB, found the mode {image.mode}")
            return to_tensor(np.asarray(image))
    except _UNREADABLE as error:
        reason = error_message(error)[:200]
        raise RequestError(
            f"{row.label}: expected {key!r} as a PNG file in base64 ({reason}). {_REMEDY}"
        ) from error


def encode_image(image: Tensor) -> str:
    """Returns an image as a PNG file in base64.

    Args:
        image: uint8 (3, H, W), or float32 in [0, 1].
    """
    buffer = io.BytesIO()
    to_pil(image).save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


def num_pixels(sample: Sample) -> int:
    """Returns the number of pixels of the images of a sample."""
    images = [sample.lq] + ([] if sample.reference is None else [sample.reference])
    return sum(image.shape[-1] * image.shape[-2] for image in images)
