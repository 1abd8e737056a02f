"""The best constant plan of each recipe: the reward of an agent that knows the recipe, not the image."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from opera_env.degradations import DEGRADATIONS, Recipe
from opera_env.errors import (
    AgentError,
    MissingWeightsError,
    OperaWarning,
    SampleError,
    ToolboxMismatchError,
)
from opera_env.files import atomic_write
from opera_env.json_files import read_object
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample, Scorer

SHIPPED_PLANS = Path(__file__).with_name("recipe_best.json")
"""File of the plans that come with this package, for the toolbox ``lite``."""

FIT_COMMAND = "python -m opera_baselines.fit_recipe_best --images DIR --out FILE"


@dataclass(frozen=True)
class PlanTable:
    """Plans by recipe, and how they were fitted.

    Attributes:
        toolbox: Signature and fingerprint of the toolbox.
        reward: Name of the reward that the plans maximise.
        command: Command that fitted them.
        images: Number of photographs used for each recipe.
        content: Content of the folder of photographs, see :func:`opera_env.runs.identify_images`; empty if
            it is not known.
        plans: Plan of each recipe; a recipe lists degradations in the order they were applied.
        scores: For each recipe, the mean R_q of the untouched image, of the matched tools and of the
            plan, on photographs that the search did not use.
    """

    toolbox: Mapping[str, str]
    reward: str
    command: str
    images: int
    plans: Mapping[Recipe, Plan] = field(default_factory=dict)
    scores: Mapping[Recipe, Mapping[str, float]] = field(default_factory=dict)
    content: str = ""

    @classmethod
    def read(cls, path: Path, remedy: str = f"Fit the plans again: {FIT_COMMAND}.") -> PlanTable:
        """Reads the file that :meth:`write` wrote.

        Args:
            path: The file.
            remedy: What to do if the file holds something else.

        Raises:
            MissingWeightsError: If there is no such file.
            AgentError: If the file holds something else.
        """
        if not path.is_file():
            raise MissingWeightsError("plans by recipe", path, FIT_COMMAND)
        data = read_object(path, AgentError, remedy)
        toolbox, plans, scores = (data.object(key) for key in ("toolbox", "plans", "scores"))
        for row in map(scores.object, scores.data):
            for key in row.data:
                row.number(key)
        return cls(
            toolbox={key: toolbox.text(key) for key in ("signature", "fingerprint")},
            reward=data.text("reward"),
            command=data.text("command"),
            images=data.integer("images", 0, 10**9),
            plans={tuple(recipe.split("+")): plans.names(recipe) for recipe in plans.data},
            scores={tuple(recipe.split("+")): scores.mapping(recipe) for recipe in scores.data},
            content=data.text("content", default=""),
        )

    def write(self, path: Path) -> None:
        """Writes the table as JSON, atomically."""
        data = asdict(self)
        for column in ("plans", "scores"):
            data[column] = {"+".join(recipe): row for recipe, row in data[column].items()}
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(data, indent=2) + "\n")


class RecipeBest:
    """Reads a sample's recipe and returns the plan that was best on average for that recipe.

    It is a search, because only searches see samples; but it scores no plan. The difference to
    the best known plans is what an agent can gain by observing the image.

    Args:
        toolbox: The tools.
        max_tools: Maximum number of tools in a plan; longer plans are cut.
        table: Plans that ``opera_baselines.fit_recipe_best`` fitted; by default those of ``path``.
        path: Their file; by default the shipped one. On the command line, ``recipe_best:FILE``.

    Attributes:
        degradations: The degradations of the fitted recipes, in the order of
            :data:`opera_env.degradations.DEGRADATIONS`; custom degradations come last.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        max_tools: int = 6,
        table: PlanTable | None = None,
        path: Path | str | None = None,
    ) -> None:
        self.toolbox = toolbox
        self.max_tools = max_tools
        self.table = table or PlanTable.read(SHIPPED_PLANS if path is None else Path(path))
        fitted_degradations = {name for recipe in self.table.plans for name in recipe}
        self.degradations = (
            *(name for name in DEGRADATIONS if name in fitted_degradations),
            *sorted(fitted_degradations.difference(DEGRADATIONS)),
        )

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        """Returns the fitted plan of each sample's recipe.

        Raises:
            ToolboxMismatchError: If the plans were fitted for another toolbox.
            SampleError: If a sample's degradations are unknown, or no plan was fitted for them.
            AgentError: If a sample has a degradation for which no plan can be fitted.
        """
        fitted_toolbox = self.table.toolbox
        if fitted_toolbox["signature"] != self.toolbox.signature:
            raise ToolboxMismatchError(
                f"the plans were fitted for the toolbox {fitted_toolbox['signature']}, this one is "
                f"{self.toolbox.signature}: fit them with {FIT_COMMAND} --toolbox FOLDER, and "
                "name recipe_best:FILE."
            )
        if fitted_toolbox["fingerprint"] != self.toolbox.fingerprint:
            notice = OperaWarning("the tools' weights have changed since the plans were fitted.")
            warnings.warn(notice, stacklevel=2)
        return [self._plan(sample)[: self.max_tools] for sample in samples]

    def _plan(self, sample: Sample) -> Plan:
        if sample.degradations is None:
            raise SampleError(
                f"'recipe_best' needs the degradations of a sample, and those of {sample.spec} are "
                "unknown: leave this agent out."
            )
        if not sample.degradations:
            return ()
        if sample.spec.recipe in self.table.plans:
            return self.table.plans[sample.spec.recipe]
        for recipe, plan in self.table.plans.items():  # The same degradations in another order.
            if frozenset(recipe) == sample.degradations:
                return plan
        unknown = sample.degradations.difference(DEGRADATIONS, self.degradations)
        if unknown:
            raise AgentError(
                f"'recipe_best' knows plans for {', '.join(self.degradations)}, and the sample has "
                f"{', '.join(sorted(unknown))}: leave this agent out."
            )
        recipe = "+".join(sample.spec.recipe or sorted(sample.degradations))
        raise SampleError(
            f"no plan was fitted for {recipe}: fit one with {FIT_COMMAND} --recipes {recipe}."
        )
