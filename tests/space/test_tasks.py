import json
import shutil
from dataclasses import replace

from space.demo.hub import MODELS
from space.service import build_service
from tests.space.conftest import ADA, quick_hub, recipe


def test_a_merge_of_folders_is_published_whole_and_does_not_tell_where_they_lie(hub, settings, repo_name, tmp_path):
    base, tune = tmp_path / "private/base", tmp_path / "private/tune"
    for name, folder in (("base", base), ("add", tune)):
        shutil.copytree(MODELS / "alloy" / f"pocket-{name}", folder)
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates/tool.jinja").write_text("x")
    service = build_service(replace(settings, folders=True), hub_for=quick_hub)
    try:
        made = service.queue.wait(service.merge(recipe(str(tune), base=str(base)), ADA).id, 60)
        assert made.state == "done", made.error
        repo_id = f"ada/{repo_name}"
        card = service.card(made.id, ADA, repo_id=repo_id)
        sent = service.publish(made.id, ADA, repo_id=repo_id, private=True, card=card)
        done = service.queue.wait(sent.id, 60)
        assert done.state == "done", done.error
        local = service.download(made.id, ADA)
        assert str(tune) in (local / "merge_recipe.yaml").read_text(), "the merge itself is not touched"
    finally:
        service.close()
    files = hub.store.files(repo_id)
    assert files.keys() >= {"additional_chat_templates/tool.jinja", "merge_recipe.yaml", "README.md"}
    texts = {
        name: hub.store.read(repo_id, name).read_bytes() for name in files if name.endswith((".yaml", ".json", ".md"))
    }
    assert b"model: ./tune" in texts["merge_recipe.yaml"] and json.loads(texts["merge_report.json"])["models"]
    assert not [name for name, text in texts.items() if str(tmp_path).encode() in text]
