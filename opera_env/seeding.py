"""Seeds of agents that sample: one for each image, so that its plan does not depend on other images."""

from __future__ import annotations

import hashlib

from torch import Tensor


def content_seed(seed: int, image: Tensor) -> int:
    """Returns the seed with which an agent draws for an image.

    The same image gets the same draws alone, in a batch, in another order and in a resumed run; another
    image gets independent ones.

    Args:
        seed: The seed of the agent.
        image: The image that the agent observes, of any shape and dtype.

    Returns:
        A number in [0, 2**63), which NumPy and PyTorch accept as a seed.

    Example:
        >>> import torch
        >>> content_seed(0, torch.zeros(3, 2, 2)) == content_seed(0, torch.zeros(3, 2, 2))
        True
        >>> content_seed(0, torch.zeros(3, 2, 2)) == content_seed(1, torch.zeros(3, 2, 2))
        False
    """
    digest = hashlib.sha256(repr((seed, tuple(image.shape), str(image.dtype))).encode())
    digest.update(image.detach().cpu().contiguous().numpy().reshape(-1).data)
    return int.from_bytes(digest.digest()[:8], "big") >> 1
