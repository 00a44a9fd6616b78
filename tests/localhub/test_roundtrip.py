"""What goes up comes down: the real client against the local Hub."""

from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download

from space.localhub import LocalHub
from tests.hub_fixture import ADA_TOKEN


def test_a_folder_goes_up_and_comes_down(hub: LocalHub, ada: HfApi, repo_id: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "config.json").write_text("{}")
    (source / "sub" / "weights.safetensors").write_bytes(b"\x01" * 3_000_000)
    (source / "empty.bin").touch()
    assert ada.create_repo(repo_id) == f"{hub.url}/{repo_id}"
    ada.upload_folder(repo_id=repo_id, folder_path=source)
    target = Path(snapshot_download(repo_id, endpoint=hub.url, local_dir=tmp_path / "target"))
    for path in ("config.json", "sub/weights.safetensors", "empty.bin"):
        assert (target / path).read_bytes() == (source / path).read_bytes()
        assert hub.store.read(repo_id, path).read_bytes() == (source / path).read_bytes()


def test_a_private_file_comes_down_for_its_owner(hub: LocalHub, repo_id: str, tmp_path: Path) -> None:
    hub.store.create_repo(repo_id, private=True)
    sha = hub.store.commit(repo_id, {"model.safetensors": b"weights"})
    path = hf_hub_download(
        repo_id, "model.safetensors", endpoint=hub.url, token=ADA_TOKEN, cache_dir=tmp_path, revision=sha[:8]
    )
    assert Path(path).read_bytes() == b"weights"
    assert sha in path
