"""``opera-env hub``: pushes folders to the Hugging Face hub, and pulls them."""

from __future__ import annotations

from pathlib import Path

from opera_env.cli.options.hub import Hub
from opera_env.console import Console
from opera_env.hub import pull_folder, push_folder
from opera_env.hub.kinds import find_kind


def run(options: Hub) -> int:
    """Runs the action and prints what to do next; returns the exit code.

    Raises:
        HubError: If the folder or the repository is not what is expected, or the hub refuses.
        WeightsIntegrityError: If a file differs from its manifest.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if options.action == "push":
        folder, repo_id = Path(options.names[0]), options.names[1]
        commit = push_folder(
            folder,
            repo_id,
            private=options.private,
            licence=options.licence,
            endpoint=options.endpoint,
        )
        console.print(f"{folder}: {find_kind(folder).name} pushed to {repo_id}, commit {commit}")
        return 0
    target = pull_folder(
        options.names[0],
        options.out,
        revision=options.revision,
        repo_type="dataset" if options.dataset else "model",
        max_bytes=int(options.max_gigabytes * 2**30),
        endpoint=options.endpoint,
    )
    kind = find_kind(target)
    console.print(f"{target}: {kind.name} of {options.names[0]}, checked. Use it:")
    console.print(kind.use.replace("FOLDER", str(target)))
    return 0
