"""The order in which tools run: plans are merged into prefix trees and scheduled in batches."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from opera_env.tools import Toolbox
from opera_env.types import Canvas, Plan, Sample


@dataclass(eq=False)
class Node:
    """One image of a prefix tree: the result of a prefix of one or more plans.

    Attributes:
        sample: The sample that the prefix is applied to.
        prefix: The tools applied so far; ``()`` at the root.
        parent: The node before the last tool; None at the root.
        is_output: Whether a plan ends here, so that the image is a result.
        children: The nodes after one more tool, by the name of that tool.
        image: float32 (3, h, w) while it is available and still needed; else None.
        resolved: Whether no tool has to run for this node: its image is available, or it is not an output
            and all its children are resolved.
        ref_count: Number of uses of the image that are left: one per tool that still runs on it, and one
            if the node is an output.
        remaining_cost: Cost of the longest chain of tools from here on, including the tool that leads here.
    """

    sample: Sample
    prefix: Plan = ()
    parent: Node | None = None
    is_output: bool = False
    children: dict[str, Node] = field(default_factory=dict)
    image: Tensor | None = None
    resolved: bool = False
    ref_count: int = 0
    remaining_cost: int = 0

    def pending_children(self) -> list[Node]:
        """Returns the children whose tool still has to run."""
        return [child for child in self.children.values() if not child.resolved]

    def release(self) -> None:
        """Ends one use of the image, and frees the image after the last one."""
        self.ref_count -= 1
        if not self.ref_count:
            self.image = None


def build_tries(samples: Sequence[Sample], plans: Sequence[Plan]) -> list[Node]:
    """Merges plans into one prefix tree per distinct image.

    Args:
        samples: One per plan; samples with equal keys share a tree.
        plans: Names of tools that the toolbox has.

    Returns:
        The roots, in the order in which the images first appear.

    Example:
        Three plans need three tool applications instead of five (outputs are marked)::

            a > b        a* -- b*
            a > c    =>     `- c*
            a
    """
    roots: dict[str, Node] = {}
    for sample, plan in zip(samples, plans, strict=True):
        node = roots.setdefault(sample.key, Node(sample))
        for depth, tool in enumerate(plan):
            if tool not in node.children:
                node.children[tool] = Node(node.sample, plan[: depth + 1], node)
            node = node.children[tool]
        node.is_output = True
    return list(roots.values())


def walk(roots: Iterable[Node]) -> Iterator[Node]:
    """Yields every node, parents before their children."""
    pending = list(roots)
    while pending:
        node = pending.pop()
        yield node
        pending.extend(node.children.values())


def compute_priorities(nodes: Sequence[Node], toolbox: Toolbox) -> None:
    """Sets the ``ref_count`` and the ``remaining_cost`` of every node.

    Args:
        nodes: All nodes in the order of :func:`walk`, with ``resolved`` set.
        toolbox: The tools. A tool of scale s costs s squared, since it computes so many more pixels.
    """
    for node in reversed(nodes):  # children before their parents
        to_run = node.pending_children()
        node.ref_count = len(to_run) + node.is_output
        node.remaining_cost = max((child.remaining_cost for child in to_run), default=0)
        if node.prefix:
            node.remaining_cost += toolbox[node.prefix[-1]].scale ** 2


_BatchKey = tuple[str, int, int, bool]
"""Nodes with the same key can share a batch: tool, height, width, whether the tool upscales."""


class Schedule:
    """Decides which batch runs next, from the sizes of images alone.

    The decisions depend on the plans and on the number of workers, not on the time that a batch takes.
    The same call therefore always forms the same batches and returns the same bits.

    While few images are alive, the node with the largest remaining cost goes first, together with all
    others that wait for the same tool: batches are large, and no long chain is left at the end. While more
    than ``max_live_pixels`` are alive, the node with the smallest remaining cost goes first, which limits
    memory to a few batches per level of the tree.

    Args:
        roots: Nodes with an image, after :func:`compute_priorities`. Their pending children are scheduled
            and removed from ``children``.
        toolbox: The tools.
        max_live_pixels: Number of pixels of intermediate images beyond which the order is reversed.
        num_workers: Number of batches that run at the same time. As many consecutive batches do not depend
            on each other, where the plans allow it.
    """

    def __init__(
        self, roots: Iterable[Node], toolbox: Toolbox, max_live_pixels: int, num_workers: int = 1
    ) -> None:
        self._toolbox = toolbox
        # Nodes to run, by remaining cost and then by batch key.
        self._queues: defaultdict[int, dict[_BatchKey, list[Node]]] = defaultdict(dict)
        self._pending: dict[Node, int] = {}  # number of tools that are still to run on an image
        self._sizes: dict[Node, Canvas] = {}  # sizes of the images on which tools are still to run
        self._live_pixels = 0
        self._max_live_pixels = max_live_pixels
        self._num_workers = num_workers
        self._running: deque[tuple[list[Node], Canvas]] = deque()  # assumed to run now, with result sizes
        for node in roots:
            assert node.image is not None
            self._expand(node, (node.image.shape[-2], node.image.shape[-1]))

    def next(self, batch_pixels: int) -> list[Node] | None:
        """Takes the next batch: nodes that one tool computes from images of one size; None at the end.

        Args:
            batch_pixels: Maximum number of pixels in a batch, all images together. A larger image is a
                batch of its own.
        """
        while self._running and (len(self._running) >= self._num_workers or not self._queues):
            self._finish(*self._running.popleft())
        if not self._queues:
            return None
        longest_first = self._live_pixels <= self._max_live_pixels
        cost = max(self._queues) if longest_first else min(self._queues)
        batch_key = max(self._queues[cost], key=lambda key: len(self._queues[cost][key]))
        name, height, width, upscales = batch_key
        count = max(1, batch_pixels // (height * width))
        batch = self._pop_nodes(cost, batch_key, count)
        for smaller_cost in sorted(self._queues, reverse=True) if longest_first else ():
            batch += self._pop_nodes(smaller_cost, batch_key, count - len(batch))
        scale = self._toolbox[name].scale if upscales else 1
        self._running.append((batch, (height * scale, width * scale)))
        return batch

    def _finish(self, batch: Sequence[Node], size: Canvas) -> None:
        """Assumes that a batch is done: queues the children of its nodes and releases its inputs."""
        for node in batch:
            self._expand(node, size)
        for node in batch:
            self._release(node.parent)

    def _pop_nodes(self, cost: int, batch_key: _BatchKey, count: int) -> list[Node]:
        """Takes up to ``count`` nodes with this key out of the queue of one remaining cost."""
        queue = self._queues[cost]
        if count < 1 or batch_key not in queue:
            return []
        nodes, queue[batch_key] = queue[batch_key][-count:], queue[batch_key][:-count]
        if not queue[batch_key]:
            del queue[batch_key]
            if not queue:
                del self._queues[cost]
        return nodes

    def _expand(self, node: Node, size: Canvas) -> None:
        """Queues the pending children of a node whose image will have this size."""
        to_run = node.pending_children()
        node.children.clear()  # a child refers to its parent: a cycle would keep both in memory
        if not to_run:
            return
        self._sizes[node], self._pending[node] = size, len(to_run)
        self._live_pixels += size[0] * size[1]
        for child in to_run:
            name = child.prefix[-1]
            batch_key = (name, *size, self._toolbox[name].upscales(size, child.sample.canvas))
            self._queues[child.remaining_cost].setdefault(batch_key, []).append(child)

    def _release(self, node: Node | None) -> None:
        """Counts a tool that has run on an image; the image is no longer alive after the last tool."""
        assert node is not None
        self._pending[node] -= 1
        if not self._pending[node]:
            del self._pending[node]
            height, width = self._sizes.pop(node)
            self._live_pixels -= height * width
