"""What Gradio keeps of each tab."""

from pathlib import Path

import pytest
from gradio.state_holder import SessionState

from space.pages.page import build_page
from space.service import build_service
from space.settings import Settings


def test_a_tab_has_its_components_and_no_description_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    service = build_service(Settings(tmp_path / "home"))
    try:
        page = build_page(service, service.settings)
        described = {one["id"]: one for one in page.get_config_file()["components"]}
        tab, other = SessionState(page), SessionState(page)
    finally:
        service.close()
    assert len(described) > 300 and all(one["props"] for one in described.values())
    assert described.keys() <= tab.blocks_config.blocks.keys() and not any(tab.config_values.values())
    number = next(id for id, one in described.items() if one["type"] == "html")
    tab[number] = changed = type(page.blocks[number])()
    assert tab[number] is changed and other[number] is page.blocks[number]
