"""Settings of Sphinx for the documentation site, which ``make docs`` builds.

The source folder is the repository, so that the pages are the files that GitHub shows, and links between
them hold in both places. The navigation is a table here, because GitHub shows a ``toctree`` as plain text.
"""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), str(ROOT), str(ROOT / "agents"), str(ROOT / "baselines")]

from reference_pages import write_reference_pages  # noqa: E402

from opera_env import __version__  # noqa: E402

project = "opera-env"
author = copyright = "The opera-env contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "README"
include_patterns = ["*.md", "docs/**", "examples/*/README.md"]
exclude_patterns = ["docs/bench", "docs/figures", "docs/site"]

myst_heading_anchors = 4
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False  # those of Gymnasium and torch are not ours, nor in this format
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "opera-env"
html_extra_path = ["site"]
html_static_path = ["site/_static"]
html_css_files = ["opera.css"]
html_show_sphinx = False
html_theme_options = {"source_directory": "", "top_of_page_buttons": []}

NAVIGATION: dict[str, dict[str, list[str]]] = {
    "README": {
        "Start": [
            "docs/index",
            "docs/restoring",
            "docs/demo",
            "docs/tutorials/README",
            "docs/examples",
            "docs/faq",
            "docs/glossary",
        ],
        "Environments": [
            "docs/environments/restore",
            "docs/environments/restore_stepwise",
            "docs/rewards",
            "docs/real-photographs",
            "docs/study",
            "docs/evaluate",
            "docs/results",
        ],
        "Agents and tools": [
            "docs/agents",
            "docs/literature",
            "docs/vlm",
            "docs/toolbox-lite",
            "docs/paper-toolbox",
            "docs/own-tools",
            "docs/all-in-one",
            "docs/hub",
            "docs/serving",
            "docs/cotraining",
        ],
        "Background": [
            "docs/paper-map",
            "docs/performance",
            "docs/cluster",
            "docs/adr/README",
            "docs/licences",
            "CONTRIBUTING",
            "SECURITY",
            "CHANGELOG",
        ],
        "Reference": ["docs/reference/index"],
    },
    "docs/adr/README": {"": ["docs/adr/0*"]},
    "docs/tutorials/README": {
        "": [
            "docs/tutorials/restore-a-photograph",
            "docs/tutorials/train-the-planner",
            "docs/tutorials/bring-your-own",
            "docs/tutorials/co-train-tools",
            "docs/tutorials/vision-language-model",
            "docs/tutorials/reproduce-a-table",
        ]
    },
    "docs/demo": {"": ["examples/space/README"]},
    "docs/serving": {"": ["examples/[!s]*/README"]},
}
"""The pages below a page, by caption."""


def add_navigation(app: Sphinx, name: str, source: list[str]) -> None:
    """Appends the navigation of a page to its text, as hidden ``toctree`` blocks."""
    for caption, pages in NAVIGATION.get(name, {}).items():
        options = [":hidden:", ":glob:", *([f":caption: {caption}"] if caption else [])]
        lines = ["```{toctree}", *options, "", *(f"/{page}" for page in pages), "```"]
        source[0] += "\n\n" + "\n".join(lines) + "\n"


def prepare_docstring(
    _app: Sphinx, _what: str, name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Prepares a docstring for napoleon.

    Examples that are commands or code become literal text, and patterns such as ``**/*.tif`` are escaped.
    """
    for index, (line, following) in reversed(list(enumerate(pairwise(lines)))):
        if line.strip() == "Example:" and re.match(r"\s+(python|opera-env|with|if|\w+ =) ", following):
            lines[index : index + 1] = [f"{line}:", ""]
    if name.startswith("opera_env.cli.options."):  # help texts are plain text
        lines[:] = [line.replace("*", r"\*") for line in lines]


def restore_first_line(
    _app: Sphinx, what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Restores the text of an attribute, of which napoleon has taken what is before a colon for a type."""
    for index, line in enumerate(lines):
        if what in ("attribute", "data", "property") and line.startswith(":type: "):
            lines[0] = f"{line.removeprefix(':type: ')}: {lines[0]}"
            del lines[index]
            return


def setup(app: Sphinx) -> None:
    """Connects the navigation and the reference pages."""
    app.connect("builder-inited", lambda app: write_reference_pages(DOCS / "reference"))
    app.connect("autodoc-process-docstring", prepare_docstring, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", restore_first_line, priority=900)  # after it
    app.connect("source-read", add_navigation)
