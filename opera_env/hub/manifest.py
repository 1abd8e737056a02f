"""The list of files that travels with them: names, sizes and hashes."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

from opera_env.errors import HubError, WeightsIntegrityError
from opera_env.files import file_sha256
from opera_env.hub.kinds import CHAT_TEMPLATE, CHAT_TEMPLATE_JSON, SUFFIXES, Kind, get_kind
from opera_env.json_files import read_object

MANIFEST = "opera_hub.json"
"""Name of the manifest in a repository."""

FORMAT = 1
_MAX_FILES = 512
_NAME = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9_.\-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REMEDY = "Push the folder again with opera-env hub push."


@dataclass(frozen=True)
class HubFile:
    """A file as it travels: its name, SHA-256 and size in bytes."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class HubManifest:
    """A kind of folder and its files."""

    kind: Kind
    files: tuple[HubFile, ...]

    def write(self, path: Path) -> None:
        """Writes the manifest as JSON."""
        files = [asdict(file) for file in self.files]
        content = {"format": FORMAT, "kind": self.kind.name, "files": files}
        path.write_text(json.dumps(content, indent=2) + "\n")

    def check(self, folder: Path) -> None:
        """Checks that a folder holds the files.

        Raises:
            WeightsIntegrityError: If a file has another size or hash.
        """
        for file in self.files:
            path = folder / file.name
            found_bytes, found = path.stat().st_size, file_sha256(path)
            if (found_bytes, found) != (file.bytes, file.sha256):
                raise WeightsIntegrityError(
                    file.name,
                    f"{file.bytes} bytes with sha256 {file.sha256}",
                    f"{found_bytes} with {found}",
                    "pull it again, or ask who pushed it",
                )


def describe_files(kind: Kind, paths: Sequence[Path]) -> HubManifest:
    """Returns the manifest of files on this machine."""
    files = (HubFile(path.name, file_sha256(path), path.stat().st_size) for path in paths)
    return HubManifest(kind, tuple(files))


def read_manifest(path: Path) -> HubManifest:
    """Reads a manifest that anybody may have written.

    Names are those of files in one folder, of the kinds of files that are data, and of the kind of folder.

    Raises:
        HubError: If it is not one, or names a file that does not belong to the kind.
    """
    document = read_object(path, HubError, _REMEDY)
    if (version := document.integer("format", 0, 10**6)) != FORMAT:
        document.fail(f"expected format {FORMAT}, found {version}: another version of opera-env wrote it")
    kind = get_kind(document.text("kind"), lambda reason: HubError(f"{path.name}: {reason}."))
    files = []
    for entry in document.objects("files", _MAX_FILES):
        name, digest = entry.text("name"), entry.text("sha256")
        if not _is_allowed(name, kind):
            entry.fail(
                f"expected the name of a {' or '.join(SUFFIXES)} file of a {kind.name}, found "
                f"{reprlib.repr(name)}"
            )
        if not _SHA256.fullmatch(digest):
            entry.fail(f"expected 'sha256' to be 64 hexadecimal digits, found {reprlib.repr(digest)}")
        files.append(HubFile(name, digest, entry.integer("bytes", 0, 10**13)))
    names = [file.name for file in files]
    if not names or len(set(names)) < len(names):
        document.fail(f"expected names of files, each once, found {reprlib.repr(names)}")
    return HubManifest(kind, tuple(files))


def _is_allowed(name: str, kind: Kind) -> bool:
    local = CHAT_TEMPLATE if name == CHAT_TEMPLATE_JSON else name
    return (
        _NAME.fullmatch(name) is not None
        and name != MANIFEST
        and Path(name).suffix in SUFFIXES
        and any(fnmatch(local, pattern) for pattern in kind.patterns)
    )
