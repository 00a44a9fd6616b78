from pathlib import Path

import pytest

from merging.errors import MergeError
from space.settings import prepare_home, read_settings


def test_the_work_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert read_settings({"ALLOY_HOME": str(tmp_path)}).home == tmp_path
    assert read_settings({"XDG_CACHE_HOME": "/cache"}).home == Path("/cache/alloy")
    assert read_settings({}).home == Path("/somewhere/.cache/alloy")


def test_on_a_space_folders_of_the_machine_are_no_models():
    assert read_settings({}).folders
    hosted = read_settings({"SYSTEM": "spaces", "ALLOY_HOME": "/nowhere-served"})
    assert hosted.hosted
    assert not hosted.folders


def test_on_a_space_the_work_folder_is_not_where_files_are_served_from(tmp_path):
    for served in (tmp_path, Path.cwd() / "work"):
        with pytest.raises(MergeError, match="Set ALLOY_HOME"):
            read_settings({"SYSTEM": "spaces", "ALLOY_HOME": str(served)})


def test_limits_are_set_by_name_and_checked():
    assert read_settings({"ALLOY_MAX_MODELS": "3"}).max_models == 3
    with pytest.raises(MergeError, match="ALLOY_MAX_MODELS is 'many'"):
        read_settings({"ALLOY_MAX_MODELS": "many"})


def test_the_work_folder_is_ours_alone(tmp_path):
    prepare_home(tmp_path / "a" / "b")
    prepare_home(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_the_demo_token_is_not_shown():
    from dataclasses import replace

    assert "hf_demo" not in repr(replace(read_settings({}), demo_token="hf_demo"))
