"""The best constant plan for each recipe: how far knowing what is wrong goes without looking."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from opera_env.degradations import Recipe
from opera_env.errors import MissingWeightsError, SampleError, ToolboxMismatchError, WeightsIntegrityError
from opera_env.files import atomic_write
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample, Scorer

TABLE = Path(__file__).with_name("recipe_best.json")
"""The plans that come with this package, for the toolbox ``lite``."""

FIT = "python -m opera_baselines.fit_recipe_best --images DIR --out FILE"


@dataclass(frozen=True)
class PlanTable:
    """Plans by recipe, and how they were found.

    Attributes:
        toolbox: Signature and fingerprint of the tools.
        reward: Name of the reward they were chosen by.
        command: What fitted them.
        images: Photographs used for each recipe.
        plans: By recipe, in the order the degradations were applied.
        scores: By recipe, the mean reward of the untouched image, of the matched tools and of the
            plan, on photographs on which the plan was not searched.
    """

    toolbox: Mapping[str, str]
    reward: str
    command: str
    images: int
    plans: Mapping[Recipe, Plan] = field(default_factory=dict)
    scores: Mapping[Recipe, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> PlanTable:
        """Reads what :meth:`write` wrote.

        Raises:
            MissingWeightsError: If there is no such file.
            WeightsIntegrityError: If the file holds something else.
        """
        if not path.is_file():
            raise MissingWeightsError("plans by recipe", path, FIT)
        try:
            data = json.loads(path.read_text())
            plans = {tuple(recipe.split("+")): tuple(plan) for recipe, plan in data.pop("plans").items()}
            scores = {tuple(recipe.split("+")): row for recipe, row in data.pop("scores").items()}
            return cls(**data, plans=plans, scores=scores)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            found = f"something else ({error!r})"
            raise WeightsIntegrityError(path, "of plans by recipe", found) from error

    def write(self, path: Path) -> None:
        """Writes the table as JSON, all of it or nothing."""
        data = asdict(self)
        for column in ("plans", "scores"):
            data[column] = {"+".join(recipe): row for recipe, row in data[column].items()}
        with atomic_write(path) as part:
            part.write_text(json.dumps(data, indent=2) + "\n")


class RecipeBest:
    """Is told the recipe and answers with the plan that was best on other photographs of that recipe.

    A search that tries nothing. What it leaves to win is what looking at the image is worth.

    Args:
        toolbox: The tools.
        max_tools: The plan is cut after this many.
        table: Plans fitted by ``opera_baselines.fit_recipe_best``, or the file they are in.
    """

    def __init__(self, toolbox: Toolbox, max_tools: int = 6, table: PlanTable | Path | None = None) -> None:
        self.toolbox = toolbox
        self.max_tools = max_tools
        self.table = table if isinstance(table, PlanTable) else PlanTable.read(table or TABLE)

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        """Returns the fitted plans.

        Raises:
            ToolboxMismatchError: If they were fitted for other tools.
            SampleError: If a sample's recipe is not known, or no plan was fitted for it.
        """
        fitted = self.table.toolbox
        if fitted["signature"] != self.toolbox.signature:
            raise ToolboxMismatchError(
                f"the plans were fitted for the toolbox {fitted['signature']}, this one is "
                f"{self.toolbox.signature}: fit them with {FIT} --toolbox FOLDER, and pass table=FILE."
            )
        if fitted["fingerprint"] != self.toolbox.fingerprint:
            warnings.warn("the tools' weights have changed since the plans were fitted.", stacklevel=2)
        return [self._plan(sample)[: self.max_tools] for sample in samples]

    def _plan(self, sample: Sample) -> Plan:
        if sample.degradations is None:
            raise SampleError(
                f"'recipe_best' must be told the degradations, and nobody knows those of {sample.spec}: "
                "leave this agent out."
            )
        if not sample.degradations:
            return ()
        if sample.spec.recipe in self.table.plans:
            return self.table.plans[sample.spec.recipe]
        for recipe, plan in self.table.plans.items():  # the same things went wrong in another order
            if frozenset(recipe) == sample.degradations:
                return plan
        recipe = "+".join(sample.spec.recipe or sorted(sample.degradations))
        raise SampleError(f"no plan was fitted for {recipe}: fit one with {FIT} --recipes {recipe}.")
