"""Each variant of the ablation changes what it names."""

from __future__ import annotations

import pytest

from opera_env.scoring import PlanScorer
from scripts.ablation import SingleWorkerScorer, UncachedReferenceScorer


@pytest.mark.parametrize("variant", [SingleWorkerScorer, UncachedReferenceScorer])
def test_variants_override_methods_of_the_scorer(variant: type[PlanScorer]) -> None:
    overridden = {name for name, value in vars(variant).items() if callable(value)}
    assert overridden and all(callable(getattr(PlanScorer, name, None)) for name in overridden)
