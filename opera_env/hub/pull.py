"""Pulling a folder from the hub."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from opera_env.errors import HubError, OutputError
from opera_env.hub.client import check_repo_id, explained, make_client
from opera_env.hub.kinds import CHAT_TEMPLATE, CHAT_TEMPLATE_JSON
from opera_env.hub.manifest import MANIFEST, HubManifest, read_manifest
from opera_env.json_files import MAX_BYTES, read_object
from opera_env.weights.files import cache_dir

_COMMIT = re.compile(r"[0-9a-f]{40}")

DEFAULT_MAX_BYTES = 8 * 2**30
"""Largest sum of the sizes of the files of a folder, by default."""


def pull_folder(
    repo_id: str,
    folder: Path | str | None = None,
    *,
    revision: str | None = None,
    repo_type: str = "model",
    max_bytes: int = DEFAULT_MAX_BYTES,
    token: str | None = None,
    endpoint: str | None = None,
) -> Path:
    """Pulls a folder that :func:`opera_env.hub.push_folder` has pushed.

    The manifest comes first. Before any of its files is downloaded, they must be safetensors or JSON,
    belong to its kind, and have the sizes that the hub states; afterwards, the hashes of the manifest.
    The folder appears complete or not at all, and nothing is overwritten.

    Args:
        repo_id: The repository, ``owner/name``.
        folder: Where it goes; a folder that exists must be empty. By default, a folder of the cache for
            this commit, which is reused.
        revision: Branch, tag or commit; by default the main branch.
        repo_type: ``"model"``, or ``"dataset"`` for results.
        max_bytes: Largest sum of the sizes of the files.
        token: See :func:`opera_env.hub.client.make_client`.
        endpoint: See :func:`opera_env.hub.client.make_client`.

    Returns:
        The folder.

    Raises:
        HubError: If there is no such repository, or it holds something else.
        WeightsIntegrityError: If a file differs from the manifest.
        OutputError: If ``folder`` exists and is not empty.
        MissingPackageError: If huggingface_hub is not installed.
    """
    if folder is None and _COMMIT.fullmatch(revision or ""):
        target = _target(None, check_repo_id(repo_id), str(revision))
        if target.is_dir():
            return target  # a commit does not change, so that the hub need not be asked
    client = make_client(endpoint, token)
    with explained("pull", check_repo_id(repo_id)):
        info = client.repo_info(repo_id, revision=revision, repo_type=repo_type, files_metadata=True)
    target = _target(folder, repo_id, str(info.sha))
    if folder is None and target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        sizes = {file.rfilename: file.size for file in info.siblings or ()}
        manifest = _download(client, repo_id, str(info.sha), repo_type, sizes, part, max_bytes)
        manifest.check(part)
        _restore_template(part)
        shutil.rmtree(part / ".cache", ignore_errors=True)  # of huggingface_hub
        (part / MANIFEST).unlink()
        part.chmod(0o755)  # mkdtemp makes it unreadable for other users
        _move(part, target, is_shared=folder is None)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _move(part: Path, target: Path, is_shared: bool) -> None:
    """Moves a complete folder to its place; in the cache, another process may have been faster."""
    try:
        part.replace(target)
    except OSError:
        if not is_shared or not target.is_dir():
            raise


def _target(folder: Path | str | None, repo_id: str, commit: str) -> Path:
    if folder is None:
        return cache_dir() / "hub" / repo_id.replace("/", "--") / commit
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{target}: expected an empty folder or none, as nothing is overwritten.")
    return target


def _download(
    client: Any,
    repo_id: str,
    commit: str,
    repo_type: str,
    sizes: dict[str, int | None],
    part: Path,
    max_bytes: int,
) -> HubManifest:
    """Downloads the manifest, compares it with what the hub states, and then downloads its files."""
    if MANIFEST not in sizes:
        raise HubError(
            f"{repo_id}: expected {MANIFEST}, found none: it was not pushed by opera-env hub push."
        )
    if (sizes[MANIFEST] or 0) > MAX_BYTES:
        raise HubError(
            f"{repo_id}: expected at most {MAX_BYTES} bytes of {MANIFEST}, found {sizes[MANIFEST]}."
        )
    options = {"revision": commit, "repo_type": repo_type, "local_dir": part}
    with explained("pull", repo_id):
        client.hf_hub_download(repo_id, MANIFEST, **options)
    manifest = read_manifest(part / MANIFEST)
    for file in manifest.files:
        if sizes.get(file.name) != file.bytes:
            found = sizes.get(file.name, "no such file")
            raise HubError(
                f"{repo_id}/{file.name}: expected {file.bytes} bytes, found {found}: push it again."
            )
    if (total := sum(file.bytes for file in manifest.files)) > max_bytes:
        raise HubError(
            f"{repo_id}: expected at most {max_bytes} bytes, found {total}: raise --max-gigabytes."
        )
    for file in manifest.files:
        with explained("pull", repo_id):
            client.hf_hub_download(repo_id, file.name, **options)
    return manifest


def _restore_template(folder: Path) -> None:
    """Writes the template of prompts as the file that it was when it was pushed."""
    path = folder / CHAT_TEMPLATE_JSON
    if path.is_file():
        template = read_object(path, HubError, "Push the model again.").text("chat_template")
        (folder / CHAT_TEMPLATE).write_text(template)
        path.unlink()
