"""What the processors of this machine support."""

from __future__ import annotations

import torch


def supports_bfloat16() -> bool:
    """Returns whether bfloat16 is fast here.

    A CPU without instructions for bfloat16 computes ten times more slowly in it than in float32.
    """
    return torch.cuda.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
