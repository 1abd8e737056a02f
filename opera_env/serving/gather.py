"""Calls that come at about the same time are scored together, by one call of the scorer.

Trainers score one answer a call. Scored alone, the answers of a group share neither the prefixes of their
plans nor batches of tools and metrics.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from opera_env.errors import OperaError
from opera_env.scoring import PlanScorer
from opera_env.types import Outcome, Plan, Sample

MakeSample = Callable[[], Sample]
"""Makes a sample, in the thread of the scorer: sources are not for several threads."""

Scored = list[tuple[Sample, Outcome]]
"""The samples of a call and the outcomes of its plans."""


class QueueFullError(OperaError):
    """More plans wait than the server accepts."""


class AbandonedError(OperaError):
    """Nobody waits for the scores of a call any more."""


async def _never() -> bool:
    return False


@dataclass(eq=False)
class Call:
    """Plans that are scored together and answered together.

    Attributes:
        samples: Makes the samples.
        plans: One plan per sample.
        restored: Whether the outcomes keep the restored images.
        is_abandoned: Whether nobody waits for the scores any more.
        arrived: Time of the arrival, by the monotonic clock.
    """

    samples: Sequence[MakeSample]
    plans: Sequence[Plan]
    restored: bool = False
    is_abandoned: Callable[[], Awaitable[bool]] = _never
    arrived: float = field(default_factory=time.monotonic)


class Gatherer:
    """Scores calls in batches, in one thread.

    A batch has the calls that came within ``gather_seconds`` of its first one, and those that came while
    the batch before it was scored, up to ``max_batch`` plans. If a batch fails, its calls are scored one by
    one, so that a plan whose tool fails spoils its own call only.

    Args:
        scorer: Scores the plans.
        gather_seconds: Time for which a call waits for others, in seconds.
        max_batch: Number of plans at which a batch is complete.
        max_queue: Largest number of plans that wait.
        on_batch: Called with the number of plans and the seconds of each batch.

    Attributes:
        waiting: Number of plans that wait.
    """

    def __init__(
        self,
        scorer: PlanScorer,
        gather_seconds: float = 0.005,
        max_batch: int = 256,
        max_queue: int = 8192,
        on_batch: Callable[[int, float], None] = lambda plans, seconds: None,
    ) -> None:
        self.scorer, self.waiting = scorer, 0
        self._gather_seconds, self._max_batch, self._max_queue = gather_seconds, max_batch, max_queue
        self._on_batch = on_batch
        self._queue: deque[tuple[Call, asyncio.Future[Scored]]] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "scorer")
        self._task: asyncio.Task[None] | None = None

    async def score(self, call: Call) -> Scored:
        """Waits until a call is scored.

        Raises:
            QueueFullError: If too many plans wait.
            AbandonedError: If nobody waits for the scores any more.
            OperaError: What making the samples or scoring the plans has raised.
        """
        if self.waiting and self.waiting + len(call.plans) > self._max_queue:
            raise QueueFullError(
                f"{self.waiting} plans wait for scores, expected at most {self._max_queue} (--max-queue): "
                "try again later."
            )
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        future: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
        self._queue.append((call, future))
        self.waiting += len(call.plans)
        self._arrived.set()
        return await future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._next_batch()
            if not batch:
                continue
            start = time.monotonic()
            calls = [call for call, _ in batch]
            try:
                results = await loop.run_in_executor(self._thread, self._score_calls, calls)
            except Exception as error:  # noqa: BLE001 - whatever it is, all that wait must hear of it
                results = [error] * len(calls)
            self._on_batch(sum(len(call.plans) for call in calls), time.monotonic() - start)
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():  # nobody waits any more
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    async def _next_batch(self) -> list[tuple[Call, asyncio.Future[Scored]]]:
        """Waits for a batch; calls that nobody waits for are left out."""
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        end = self._queue[0][0].arrived + self._gather_seconds
        while self.waiting < self._max_batch and (left := end - time.monotonic()) > 0:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                break
        batch: list[tuple[Call, asyncio.Future[Scored]]] = []
        count = 0
        while self._queue and (not batch or count + len(self._queue[0][0].plans) <= self._max_batch):
            call, future = self._queue.popleft()
            self.waiting -= len(call.plans)
            if future.done():
                continue
            if await call.is_abandoned():
                future.set_exception(AbandonedError("the client has gone."))
                continue
            batch.append((call, future))
            count += len(call.plans)
        return batch

    def _score_calls(self, calls: Sequence[Call]) -> list[Scored | Exception]:
        """Scores calls together; each gets its scores or its error."""
        made: list[list[Sample] | Exception] = [_make_samples(call) for call in calls]
        ready = [
            (call, samples) for call, samples in zip(calls, made, strict=True) if isinstance(samples, list)
        ]
        try:
            outcomes = iter(self._score(ready))
        except OperaError as error:
            if len(ready) == 1:
                return [error if isinstance(samples, list) else samples for samples in made]
            return [self._score_calls([call])[0] for call in calls]
        return [
            [(sample, next(outcomes)) for sample in samples] if isinstance(samples, list) else samples
            for samples in made
        ]

    def _score(self, ready: Sequence[tuple[Call, list[Sample]]]) -> list[Outcome]:
        return self.scorer.score(
            [sample for _, samples in ready for sample in samples],
            [plan for call, _ in ready for plan in call.plans],
            restored=any(call.restored for call, _ in ready),
        )


def _make_samples(call: Call) -> list[Sample] | Exception:
    try:
        return [make() for make in call.samples]
    except OperaError as error:
        return error
