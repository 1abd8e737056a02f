"""Runs one stage of ``make train``: logs its output, its time and that it is done; or prints all times.

Example:
    python scripts/train_stage.py runs/train detector -- python -m opera_agents.detector.train ...
    python scripts/train_stage.py runs/train
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from rich import box
from rich.table import Table

from opera_env.console import Console


def run_stage(folder: Path, name: str, command: list[str]) -> int:
    """Runs the command of a stage; returns its exit code.

    The output is appended to ``log/NAME.log``, and a line of JSON with the seconds to ``times.jsonl``, also
    when the command fails or is interrupted. ``done/NAME`` is written when it succeeds.
    """
    for sub in ("log", "done"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    log, start, code = folder / "log" / f"{name}.log", time.perf_counter(), None
    print(f"{name}: {' '.join(command)}", flush=True)
    try:
        with log.open("ab") as output:
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    finally:
        seconds = time.perf_counter() - start
        with (folder / "times.jsonl").open("a") as times:
            times.write(json.dumps({"stage": name, "seconds": round(seconds, 1), "code": code}) + "\n")
    if code:
        print(f"{name}: exit code {code} after {seconds / 3600:.2f} h; see {log}", file=sys.stderr)
        return code
    (folder / "done" / name).touch()
    print(f"{name}: done in {seconds / 3600:.2f} h", flush=True)
    return 0


def times_table(folder: Path) -> Table:
    """Returns the table of the hours of each stage, over all attempts, and of all stages."""
    hours: dict[str, float] = {}
    for line in (folder / "times.jsonl").read_text().splitlines():
        record = json.loads(line)
        hours[record["stage"]] = hours.get(record["stage"], 0.0) + record["seconds"] / 3600
    table = Table("stage", box=box.MARKDOWN)
    table.add_column("hours", justify="right")
    for name, value in hours.items():
        table.add_row(name, f"{value:.3f}")
    table.add_row("all", f"{sum(hours.values()):.3f}")
    return table


def main(arguments: list[str]) -> int:
    """Runs a stage, or prints the times if there is none; returns the exit code."""
    match arguments:
        case [folder]:
            Console(highlight=False, markup=False).print(times_table(Path(folder)))
            return 0
        case [folder, name, "--", *command] if command:
            return run_stage(Path(folder), name, command)
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
