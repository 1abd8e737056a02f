"""A custom agent in its own package: after installation every command finds it by its name.

    pip install -e examples/06_agent_package
    opera-env compare --agents untouched,mine,matched
    opera-env restore holiday.jpg -o restored --agent mine

The name is registered in ``pyproject.toml``, in the entry-point group ``opera_env.agents``. Without
installation, ``--agents rule_based_agent:RuleBasedAgent`` does the same where Python can import the module.
"""

import numpy as np

from opera_env.types import Decision


def is_noisy(image):
    """Tells whether pixels differ from their neighbours even in smooth regions."""
    return image.diff(dim=1).diff(dim=2).abs().median() > 0.05


def is_dark(image):
    """Tells whether the mean brightness is low."""
    return image.mean() < 0.28


def is_hazy(image):
    """Tells whether even the darkest pixels are bright."""
    return np.percentile(image.amin(dim=0), 5) > 0.28


DEGRADATION_TESTS = {"noise": is_noisy, "low_light": is_dark, "haze": is_hazy}
"""A test for each degradation, in the order in which they are removed: the last one applied comes first."""


class RuleBasedAgent:
    """Tests an image for three degradations and applies, for each that is found, the first tool for it.

    ``make_agent`` offers ``toolbox``, ``max_tools``, ``seed`` and ``tool_cost``; an agent gets those that
    its signature names.
    """

    closed_loop = False  # plans once; an agent with True is called after each tool until it returns ()

    def __init__(self, toolbox, max_tools=6):
        self.tools = {
            degradation: next((tool.name for tool in toolbox if degradation in tool.degradations), None)
            for degradation in DEGRADATION_TESTS
        }
        self.max_tools = max_tools

    def act(self, observations):
        """Returns one decision per observation."""
        return [self._decide(observation.image) for observation in observations]

    def _decide(self, image):
        detected = [
            degradation for degradation, is_present in DEGRADATION_TESTS.items() if is_present(image)
        ]
        plan = tuple(self.tools[name] for name in detected if self.tools[name])[: self.max_tools]
        return Decision(plan, degradations=frozenset(detected), reasoning=", ".join(detected) or None)
