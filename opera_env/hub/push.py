"""Pushing a folder to the hub."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from opera_env.errors import HubError
from opera_env.hub.card import make_card
from opera_env.hub.client import check_repo_id, explained, make_client
from opera_env.hub.kinds import CHAT_TEMPLATE, CHAT_TEMPLATE_JSON, SUFFIXES, find_kind
from opera_env.hub.manifest import MANIFEST, describe_files


def push_folder(
    folder: Path | str,
    repo_id: str,
    *,
    private: bool = False,
    licence: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Pushes a toolbox, an agent, a critic, a detector or results, with a page about them.

    Only safetensors and JSON files travel, and only those that belong to the folder's kind: checkpoints,
    curves and logs of a run stay. The files arrive in one commit.

    Args:
        folder: The folder; its kind follows from its files.
        repo_id: The repository, ``owner/name``; it is made if it does not exist.
        private: Whether a repository that is made is private.
        licence: Identifier of the licence for the page, such as ``"apache-2.0"``.
        token: See :func:`opera_env.hub.client.make_client`.
        endpoint: See :func:`opera_env.hub.client.make_client`.

    Returns:
        The hash of the commit.

    Raises:
        HubError: If the folder is of no kind or has files that do not travel, or the hub refuses it.
        MissingPackageError: If huggingface_hub is not installed.
    """
    folder = Path(folder)
    kind = find_kind(folder)
    paths = kind.files(folder)
    for path in paths:
        if not path.is_file():
            raise HubError(f"{path}: expected this file of the {kind.name}, found none.")
        if path.suffix not in SUFFIXES and path.name != CHAT_TEMPLATE:
            raise HubError(
                f"{path}: expected {' or '.join(SUFFIXES)} files, found another one, which may hold code. "
                "Push what is made of built-in networks."
            )
    client = make_client(endpoint, token)
    from huggingface_hub import CommitOperationAdd

    with TemporaryDirectory() as temporary, explained("push to", check_repo_id(repo_id)):
        made = Path(temporary)
        travelling = [_as_json(path, made) if path.name == CHAT_TEMPLATE else path for path in paths]
        manifest = describe_files(kind, travelling)
        manifest.write(made / MANIFEST)
        (made / "README.md").write_text(make_card(folder, manifest, repo_id, licence))
        files = [*travelling, made / MANIFEST, made / "README.md"]
        client.create_repo(repo_id, repo_type=kind.repo_type, private=private, exist_ok=True)
        commit = client.create_commit(
            repo_id,
            [CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=path) for path in files],
            commit_message=f"{kind.name}: {len(paths)} files",
            repo_type=kind.repo_type,
        )
    return str(commit.oid)


def _as_json(template: Path, folder: Path) -> Path:
    """Writes the template of prompts into a JSON file, in the format that transformers reads too."""
    path = folder / CHAT_TEMPLATE_JSON
    path.write_text(json.dumps({"chat_template": template.read_text()}, indent=2) + "\n")
    return path
