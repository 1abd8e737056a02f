"""The quality of a result while an agent of the literature runs: the judge, mixed with NIQE and PIQE."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch

from opera_env.errors import AgentError
from opera_env.metrics import MetricSuite
from opera_env.reward import get_reward
from opera_env.types import Outcome

PROFILES: Mapping[str, float] = MappingProxyType(
    {"judge": 1.0, "fidelity": 0.75, "perception": 0.25, "no_reference": 0.0}
)
"""Share of the judge in the quality, by the name of the profile. The rest is the share of the reward
``no_reference``, which is NIQE and PIQE alone."""


class QualityMix:
    """The quality of a result, in points of R_q: a weighted mean of the judge and of ``no_reference``.

    The judge is R_q of the outcome: that of the reward, and of the critic for a blind agent. Both it and
    ``no_reference`` lie in [0, 10] for the rewards ``lite``, ``classic`` and ``label_free``.

    Args:
        profile: A name in :data:`PROFILES`.
        device: Device of the metrics.

    Raises:
        AgentError: If there is no such profile.

    Example:
        >>> QualityMix("judge", torch.device("cpu"))(Outcome(None, r_q=6.5))
        6.5
    """

    def __init__(self, profile: str, device: torch.device) -> None:
        if profile not in PROFILES:
            raise AgentError(f"expected one of the profiles {', '.join(PROFILES)}, found {profile!r}.")
        self.profile, self._share = profile, PROFILES[profile]
        self._reward = get_reward("no_reference")
        self._metrics: MetricSuite | None = None
        if self._share < 1:
            self._metrics = MetricSuite([term.metric for term in self._reward.terms], device)

    def __call__(self, outcome: Outcome) -> float:
        """Returns the quality of a result.

        Args:
            outcome: The outcome; it must have its image unless the profile is "judge".

        Raises:
            MetricError: If the image is too small for NIQE, which needs 64 x 64 pixels.
        """
        if self._metrics is None:
            return outcome.r_q
        assert outcome.restored is not None
        (metrics,) = self._metrics(outcome.restored[None], ())
        no_reference = sum(self._reward.contributions(metrics, ()).values())
        return self._share * outcome.r_q + (1 - self._share) * no_reference
