import json
import time

import pytest

from evaluation.loading import load_model, weight_bytes
from merging.errors import MergeError
from space.models import Models
from tests.space.tiny import make_model


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def shelf(tmp_path, clock):
    """Models of 100 bytes each, in a memory for 250, that are not really loaded."""
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(bytes(100))
    models = Models(250, 60, tmp_path / "scratch", load=lambda *asked: (Weights(), None), clock=lambda: clock[0])
    yield models, tmp_path
    models.close()


class Weights:
    """What accelerate asks of a model."""

    def children(self):
        return []


def use(models, folder):
    with models.borrowed(folder) as loaded:
        return loaded


def test_a_model_is_loaded_once(shelf):
    models, at = shelf
    assert use(models, at / "a") is use(models, at / "a")


def test_the_one_not_used_for_longest_makes_room(shelf, clock):
    models, at = shelf
    for time_, name in enumerate("abac"):
        clock[0] = time_
        use(models, at / name)
    assert {folder.name for folder in models.kept} == {"a", "c"}


def test_a_model_in_use_stays(shelf, clock):
    models, at = shelf
    with models.borrowed(at / "a"):
        clock[0] = 1000
        use(models, at / "b")
        use(models, at / "c")
        models.release()
        assert {folder.name for folder in models.kept} == {"a"}
    models.release(at / "a")
    assert not models.kept


def test_an_idle_model_leaves(shelf, clock):
    models, at = shelf
    use(models, at / "a")
    clock[0] = 59
    models.drop_idle()
    assert models.kept
    clock[0] = 60
    models.drop_idle()
    assert not models.kept


def test_the_timer_lets_idle_models_go(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(bytes(8))
    models = Models(100, 0.05, tmp_path / "scratch", load=lambda *asked: (Weights(), None))
    use(models, tmp_path)
    end = time.monotonic() + 5
    while models.kept and time.monotonic() < end:
        time.sleep(0.01)
    assert not models.kept
    models.close()


def test_what_fits_together_is_counted_once(shelf):
    models, at = shelf
    assert models.fit([at / "a", at / "b", at / "a"])
    assert not models.fit([at / "a", at / "b", at / "c"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"model_type": "mine", "auto_map": {"AutoModel": "x.Y"}}, "no code of models is run"),
        ({"model_type": "vit"}, "knows no text generation for the type 'vit'"),
    ],
)
def test_why_a_model_cannot_chat_is_said_before_it_is_loaded(tmp_path, change, reason):
    config = {"model_type": "llama"} | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(MergeError, match=reason):
        load_model(tmp_path, 100, tmp_path / "scratch")


def test_weights_that_do_not_fit_stay_on_disk_as_they_are(tmp_path):
    folder, scratch = make_model(tmp_path / "model"), tmp_path / "scratch"
    model, _ = load_model(folder, weight_bytes(folder) // 3, scratch)
    assert "disk" in model.hf_device_map.values()
    assert not scratch.exists() or not list(scratch.rglob("*.dat"))
