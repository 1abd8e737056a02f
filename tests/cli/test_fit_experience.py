"""``opera-env fit-experience``: its file, an interrupted run, and its errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from opera_env.cli import main
from opera_env.evaluation import experience
from opera_env.evaluation.experience import OrderExperience


def arguments(photos: Path, small_toolbox: Path, out: Path, *more: str) -> list[str]:
    words = ["fit-experience", "--images", str(photos), "--toolbox", str(small_toolbox), "--out", str(out)]
    return [*words, "--canvas", "64", "--n", "1", "--reward", "classic", "--device", "cpu", *more]


def test_an_interrupted_run_continues_and_writes_the_same(
    photos: Path,
    small_toolbox: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, out = tmp_path / "whole.json", tmp_path / "out.json"
    assert main(arguments(photos, small_toolbox, whole)) == 0
    assert "before" in capsys.readouterr().out
    fitted: list[tuple[str, str]] = []
    original = experience._draw_samples

    def stop_at_the_third(*args: object) -> object:
        if len(fitted) == 2:
            raise KeyboardInterrupt
        fitted.append(args[1])  # pyright: ignore[reportArgumentType]
        return original(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(experience, "_draw_samples", stop_at_the_third)
    assert main(arguments(photos, small_toolbox, out)) == 130
    assert not out.exists() and "--resume continues" in capsys.readouterr().err
    assert main(arguments(photos, small_toolbox, out)) == 1, "continuing is explicit"
    monkeypatch.setattr(experience, "_draw_samples", original)
    assert main(arguments(photos, small_toolbox, out, "--resume")) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "whole.json"]
    pairs = set(OrderExperience.read(out).gains)
    assert pairs == {("low_light", "noise"), ("low_light", "jpeg"), ("noise", "jpeg")}
    assert main(arguments(photos, small_toolbox, out)) == 1
    assert "--force" in capsys.readouterr().err
