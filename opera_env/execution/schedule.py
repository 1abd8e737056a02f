"""Which tool runs on what, and what runs together: plans that begin alike share their beginning."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from opera_env.tools import Toolbox
from opera_env.types import Canvas, Plan, Sample


@dataclass(eq=False)
class Node:
    """One state of one image: what is there after a prefix of some plans.

    Attributes:
        sample: The image the prefix is applied to.
        prefix: The tools applied so far; ``()`` at the root.
        parent: The state before the last tool; None at the root.
        wanted: Whether a plan ends here, so that the image is a result.
        children: What the next tool leads to, by its name.
        image: float32 (3, h, w), from when it is known until nobody needs it.
        known: Whether nothing has to run to get here: its image is there, or nobody asks for it and
            all that comes after it is known.
        users: How many still need the image: tools that are to run on it, and whoever wants it.
        left: What the longest chain of tools from here on costs, with the one that leads here.
    """

    sample: Sample
    prefix: Plan = ()
    parent: Node | None = None
    wanted: bool = False
    children: dict[str, Node] = field(default_factory=dict)
    image: Tensor | None = None
    known: bool = False
    users: int = 0
    left: int = 0

    def pending_children(self) -> list[Node]:
        """Returns the states that a tool has to lead to from here."""
        return [child for child in self.children.values() if not child.known]

    def release(self) -> None:
        """Notes that one of those who needed the image does not any more."""
        self.users -= 1
        if not self.users:
            self.image = None


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
                node.children[tool] = Node(node.sample, plan[: depth + 1], node)
            node = node.children[tool]
        node.wanted = True
    return list(roots.values())


def walk(roots: Iterable[Node]) -> Iterator[Node]:
    """Yields every node, parents before their children."""
    pending = list(roots)
    while pending:
        node = pending.pop()
        yield node
        pending.extend(node.children.values())


def compute_priorities(nodes: Sequence[Node], toolbox: Toolbox) -> None:
    """Notes who needs each node's image, and what is left to do from there.

    Args:
        nodes: As :func:`walk` yields them; what is known says so already.
        toolbox: The tools: one with scale s counts s squared, as it works on so many more pixels.
    """
    for node in reversed(nodes):  # children before their parents
        ahead = node.pending_children()
        node.users = len(ahead) + node.wanted
        node.left = max((child.left for child in ahead), default=0)
        if node.prefix:
            node.left += toolbox[node.prefix[-1]].scale ** 2


_Group = tuple[str, int, int, bool]
"""What may share a batch: tool, height, width, whether the tool enlarges."""


class Schedule:
    """Says what to run next. It knows sizes, not images, and decides before anything has run.

    What shares a batch therefore depends on the plans and the number of lanes, not on how long
    anything took: the same call gives the same bits every time.

    While few images are alive, what has most left to do goes first, and everything that waits for
    the same tool goes with it: batches are large, and no long chain is left over when all others are
    done. Beyond that, what has least left goes first: memory is kept at a few batches a level.

    Args:
        known: Nodes whose image is there, after :func:`compute_priorities`; what they lead to is
            scheduled, and forgotten by them.
        toolbox: The tools.
        max_live_pixels: Intermediate images, in pixels, that may wait before the order turns.
        lanes: How many batches will be under way at once: so many in a row do without each other's
            results, if anything does.
    """

    def __init__(
        self, known: Iterable[Node], toolbox: Toolbox, max_live_pixels: int, lanes: int = 1
    ) -> None:
        self._toolbox = toolbox
        self._levels: defaultdict[int, dict[_Group, list[Node]]] = defaultdict(dict)  # by what is left
        self._waiting: dict[Node, int] = {}  # how many are to run on an image
        self._sizes: dict[Node, Canvas] = {}  # of images that something is to run on
        self._live = 0
        self._live_limit = max_live_pixels
        self._lanes = lanes
        self._running: deque[tuple[list[Node], Canvas]] = deque()  # what is taken to be under way, sizes
        for node in known:
            assert node.image is not None
            self._unfold(node, (node.image.shape[-2], node.image.shape[-1]))

    def next(self, batch_pixels: int) -> list[Node] | None:
        """Takes the next batch: nodes that one tool leads to from images of one size; None at the end.

        Args:
            batch_pixels: Most pixels of its images together; a larger image goes alone.
        """
        while self._running and (len(self._running) >= self._lanes or not self._levels):
            self._finish(*self._running.popleft())
        if not self._levels:
            return None
        few = self._live <= self._live_limit
        level = max(self._levels) if few else min(self._levels)
        group = max(self._levels[level], key=lambda key: len(self._levels[level][key]))
        name, height, width, grows = group
        count = max(1, batch_pixels // (height * width))
        batch = self._take(level, group, count)
        for below in sorted(self._levels, reverse=True) if few else ():
            batch += self._take(below, group, count - len(batch))
        scale = self._toolbox[name].scale if grows else 1
        self._running.append((batch, (height * scale, width * scale)))
        return batch

    def _finish(self, batch: Sequence[Node], size: Canvas) -> None:
        """Takes a batch to be done: what comes after it may run, and its inputs have one user less."""
        for node in batch:
            self._unfold(node, size)
        for node in batch:
            self._release(node.parent)

    def _take(self, level: int, group: _Group, count: int) -> list[Node]:
        """Takes up to so many nodes out of a group of one level."""
        groups = self._levels[level]
        if count < 1 or group not in groups:
            return []
        taken, groups[group] = groups[group][-count:], groups[group][:-count]
        if not groups[group]:
            del groups[group]
            if not groups:
                del self._levels[level]
        return taken

    def _unfold(self, node: Node, size: Canvas) -> None:
        """Queues what comes after a node whose image will be there."""
        ahead = node.pending_children()
        node.children.clear()  # a child knows its parent: both ways would outlive their last user
        if not ahead:
            return
        self._sizes[node], self._waiting[node] = size, len(ahead)
        self._live += size[0] * size[1]
        for child in ahead:
            name = child.prefix[-1]
            group = (name, *size, self._toolbox[name].upscales(size, child.sample.canvas))
            self._levels[child.left].setdefault(group, []).append(child)

    def _release(self, node: Node | None) -> None:
        """Notes that a tool runs on an image; it is dead once no other is to run on it."""
        assert node is not None
        self._waiting[node] -= 1
        if not self._waiting[node]:
            del self._waiting[node]
            height, width = self._sizes.pop(node)
            self._live -= height * width
