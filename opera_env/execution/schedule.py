"""Which tool runs on what: plans that begin alike share their beginning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from opera_env.types import Plan, Sample


@dataclass(eq=False)
class Node:
    """One state of one image: what is there after a prefix of some plans.

    Attributes:
        sample: The image the prefix is applied to.
        prefix: The tools applied so far; ``()`` at the root.
        wanted: Whether a plan ends here, so that the image is a result.
        children: What the next tool leads to, by its name.
    """

    sample: Sample
    prefix: Plan = ()
    wanted: bool = False
    children: dict[str, Node] = field(default_factory=dict)


def build_tries(samples: Sequence[Sample], plans: Sequence[Plan]) -> list[Node]:
    """Merges plans into one prefix tree per distinct image.

    Args:
        samples: One per plan; equal images (by key) share a tree.
        plans: Tool names, already checked.

    Returns:
        The roots, in order of first appearance.

    Example:
        Three plans, but only three tool applications instead of five::

            a > b        a -- b*
            a > c    =>    `- c*
            a              (a itself is wanted too)
    """
    roots: dict[str, Node] = {}
    for sample, plan in zip(samples, plans, strict=True):
        node = roots.setdefault(sample.key, Node(sample))
        for depth, tool in enumerate(plan):
            if tool not in node.children:
                node.children[tool] = Node(node.sample, plan[: depth + 1])
            node = node.children[tool]
        node.wanted = True
    return list(roots.values())
