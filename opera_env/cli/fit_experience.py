"""``opera-env fit-experience``: which of two degradations should be restored first."""

from __future__ import annotations

from opera_env.cli.options.fit_experience import FitExperience
from opera_env.cli.outputs import check_outputs, progress_bars
from opera_env.console import Console
from opera_env.data import SyntheticSource, resolve_source
from opera_env.devices import resolve_device
from opera_env.evaluation.experience import fit_experience
from opera_env.evaluation.partial import partial_results
from opera_env.execution import PrefixCache
from opera_env.runs import identify_images
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox


def run(options: FitExperience) -> int:
    """Fits, writes and prints; returns the exit code."""
    check_outputs({"--out": options.out}, options.force)
    toolbox = Toolbox.load(options.toolbox, resolve_device(options.device), options.trust_code)
    source = resolve_source(options.images, options.canvas, degradations=options.degradations)
    assert isinstance(source, SyntheticSource)  # what a folder and the bundled photographs give
    content = "bundled" if options.images is None else identify_images(options.images)["content"]
    scorer = PlanScorer(toolbox, options.reward, cache=PrefixCache())
    settings = {
        "images": content,
        "toolbox": toolbox.fingerprint,
        "labels": list(source.degradations),
        **{name: getattr(options, name) for name in ("reward", "n", "canvas", "seed")},
    }
    with partial_results(options.out, settings, resume=options.resume, force=options.force) as partial:
        with progress_bars() as bars:
            task = bars.add_task("pairs")
            experience = fit_experience(
                source,
                scorer,
                options.n,
                options.seed,
                content,
                lambda done, total: bars.update(task, completed=done, total=total),
                partial,
            )
        experience.write(options.out)
        partial.is_complete = True
    console = Console(highlight=False, markup=False)
    for (first, second), gain in sorted(experience.gains.items(), key=lambda item: -abs(item[1])):
        earlier, later = (first, second) if gain >= 0 else (second, first)
        console.print(f"{earlier} before {later}: +{abs(gain):.3f} R_q")
    console.print(f"experience: {options.out}", soft_wrap=True)
    return 0
