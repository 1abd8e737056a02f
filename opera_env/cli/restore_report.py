"""The output of ``opera-env restore``: records, lines and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from opera_env.cli.command import format_error
from opera_env.cli.jobs import RestoreJob
from opera_env.console import Console, escape_controls
from opera_env.data.photo import Photo
from opera_env.restoration import Restoration
from opera_env.restoration.choice import rank_trials
from opera_env.restoration.explanation import describe_degradations, format_plan
from opera_env.tools import Toolbox

RESTORED, CONVERTED, UNCHANGED = "restored", "converted", "unchanged"
"""What was written: the result of tools; the photograph in another format or size; a copy of the file."""

WRITTEN = (RESTORED, CONVERTED, UNCHANGED)
_STATUSES = (*WRITTEN, "skipped", "failed")

_UNCHANGED_HINT = (
    "If an unchanged photograph needs restoring, name what is wrong, for example --fix low_light "
    '(the names: `opera-env tools list`, column "for").'
)


def restoration_record(result: Restoration, before: Photo, after: Photo) -> dict[str, Any]:
    """Returns the part of a record that describes the restoration, in JSON types.

    Args:
        result: The restoration.
        before: The photograph.
        after: The result.
    """
    decision = result.decision
    return {
        "plan": list(decision.plan),
        "reason": result.reason,
        "sees": describe_degradations(decision),
        "degradations": None if decision.degradations is None else sorted(decision.degradations),
        "probabilities": None if decision.probabilities is None else dict(decision.probabilities),
        "scores": [{"plan": list(plan), "score": score} for plan, score in result.scores.items()],
        "strength": result.strength,
        "strengths": [{"strength": share, "score": score} for share, score in result.strengths.items()],
        "reasoning": decision.reasoning,
        "tool_seconds": [round(seconds, 4) for seconds in result.tool_seconds],
        "planning_seconds": round(result.planning_seconds, 4),
        "size": [before.size[1], before.size[0]],
        "result_size": [after.size[1], after.size[0]],
    }


def json_report(records: Sequence[dict[str, Any]], toolbox: Toolbox, name: str) -> str:
    """Returns the JSON document of a run.

    Args:
        records: One per photograph.
        toolbox: The tools.
        name: Name or folder of the toolbox.
    """
    return json.dumps(
        {
            "toolbox": {
                "name": name,
                "signature": toolbox.signature,
                "fingerprint": toolbox.fingerprint,
            },
            "versions": {package: version(package) for package in ("opera-env", "torch")},
            "photographs": records,
        },
        indent=2,
        default=str,  # an agent may return values of any type
    )


def format_record(record: dict[str, Any], explain: bool = False, tool_cost: float = 0.0) -> str:
    """Formats the record of one photograph: the tools with their seconds, the reason and the notices.

    Args:
        record: The record.
        explain: Whether all probabilities and all plans that were tried are listed.
        tool_cost: Cost of each tool in points of the score.
    """
    if record["status"] == "failed":
        return f"failed: {record['error']}"
    if record["status"] == "skipped":
        return escape_controls(f"{record['input']}: skipped, because {record['reason']}")
    tools = " > ".join(
        f"{name} {seconds:.1f} s"
        for name, seconds in zip(record["plan"], record["tool_seconds"], strict=True)
    )
    width, height = record["size"]
    line = f"{record['input']} ({width} x {height}): {tools or record['status']} -> {record['output']}"
    details: list[str] = []
    if record["agent"] is not None:
        line += f"  [planned by {record['agent']} in {record['planning_seconds']:.1f} s]"
        if record["sees"] not in (record["reason"] or ""):
            details.append(f"sees: {record['sees']}")
    elif record["fix"] is not None:
        line += f"  [chosen for {', '.join(record['fix'])} in {record['planning_seconds']:.1f} s]"
    if record["reason"]:
        details.append(f"why: {record['reason']}")
    if record["reasoning"]:
        details.append(f"reasoning: {' '.join(str(record['reasoning']).split())}")
    if record["strength"] != 1 and record["plan"]:
        details.append(f"strength: {record['strength']:g} of the result, the rest is the photograph")
    if explain:
        details += explain_record(record, tool_cost)
    details += [f"variant: {variant['output']}" for variant in record.get("variants", ())]
    details += [f"note: {notice}" for notice in record["notices"]]
    return "\n  ".join(escape_controls(text) for text in (line, *details))


def explain_record(record: dict[str, Any], tool_cost: float) -> list[str]:
    """Returns the lines of ``--explain``: what is seen, what was tried, and what the critic thought."""
    probabilities = sorted((record["probabilities"] or {}).items(), key=lambda item: -item[1])
    lines = [f"probability of {name}: {value:.3f}" for name, value in probabilities]
    scores = {tuple(trial["plan"]): trial["score"] for trial in record["scores"]}
    if not scores:
        return [*lines, "tried: no plan was scored"]
    lines.append(f"tried {len(scores)}, best first; points of 10, before the cost of {tool_cost:g} a tool:")
    for plan, score in rank_trials(scores, tool_cost):
        chosen = "  (chosen)" if plan == tuple(record["plan"]) else ""
        lines.append(f"  {score:5.2f}  {format_plan(plan) if plan else 'unchanged'}{chosen}")
    for trial in record["strengths"]:
        chosen = "  (chosen)" if trial["strength"] == record["strength"] else ""
        lines.append(f"  {trial['score']:5.2f}  at strength {trial['strength']:g}{chosen}")
    return lines


def print_summary(console: Console, records: Sequence[dict[str, Any]]) -> int:
    """Prints the counts, a hint for unchanged photographs, and the failures; returns the exit code."""
    counts = {status: sum(record["status"] == status for record in records) for status in _STATUSES}
    if len(records) > 1:
        console.print(", ".join(f"{count} {status}" for status, count in counts.items() if count))
    if any(record["status"] in (CONVERTED, UNCHANGED) and record["agent"] for record in records):
        console.print(_UNCHANGED_HINT)
    if len(records) > 1:
        for record in records:
            if record["status"] == "failed":
                console.print(f"  {record['error']}")
    return 1 if counts["failed"] else 0


def format_failure(job: RestoreJob, error: Exception) -> str:
    """Returns one line that names the photograph and the reason of the failure."""
    message = format_error(error, job.output_path)
    name = escape_controls(" ".join(str(job.input_path).splitlines()))
    return message if message.startswith(f"{name}:") else f"{name}: {message}"
