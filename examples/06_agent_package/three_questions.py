"""An agent in a package of its own: once installed, every command finds it by its name.

    pip install -e examples/06_agent_package
    opera-env compare --agents untouched,mine,matched
    opera-env restore holiday.jpg -o mended --agent mine

The name stands in ``pyproject.toml``, in the entry-point group ``opera_env.agents``. Without
installing it, ``--agents three_questions:ThreeQuestions`` does the same where Python can import it.
"""

import numpy as np

from opera_env.types import Decision


def is_noisy(image):
    """Whether even in smooth places a pixel differs from what its neighbours say."""
    return image.diff(dim=1).diff(dim=2).abs().median() > 0.05


def is_dark(image):
    """Whether it is dark on average."""
    return image.mean() < 0.28


def is_hazy(image):
    """Whether even the darkest pixels are bright."""
    return np.percentile(image.amin(dim=0), 5) > 0.28


QUESTIONS = {"noise": is_noisy, "low_light": is_dark, "haze": is_hazy}
"""By degradation, last damage first: the order in which things are mended."""


class ThreeQuestions:
    """Asks three questions and takes, for each that is answered with yes, the first tool for it.

    ``make_agent`` offers ``toolbox``, ``max_tools``, ``seed`` and ``tool_cost``; an agent gets those
    that its signature names.
    """

    closed_loop = False  # decides once; True: is asked again after each tool, until it says ()

    def __init__(self, toolbox, max_tools=6):
        self.tools = {
            kind: next((tool.name for tool in toolbox if kind in tool.degradations), None)
            for kind in QUESTIONS
        }
        self.max_tools = max_tools

    def act(self, observations):
        """Returns a decision per observation."""
        return [self._decide(observation.image) for observation in observations]

    def _decide(self, image):
        found = [kind for kind, asks in QUESTIONS.items() if asks(image)]
        plan = tuple(self.tools[kind] for kind in found if self.tools[kind])[: self.max_tools]
        return Decision(plan, degradations=frozenset(found), reasoning=", ".join(found) or None)
