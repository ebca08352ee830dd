"""Where fetched and converted files are kept."""

from pathlib import Path

import pytest

from alignvec.cache import cache_dir


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("ALIGNVEC_CACHE", "~/chosen")
    assert cache_dir() == tmp_path / "home" / "chosen"
    monkeypatch.delenv("ALIGNVEC_CACHE")
    assert cache_dir() == tmp_path / "xdg" / "alignvec"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == tmp_path / "home" / ".cache" / "alignvec"
