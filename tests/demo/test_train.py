import hashlib

import pytest
import torch

from space.demo.fitting import NOT_SCORED, Change, Schedule, batch, fit, new_model
from space.demo.mixture import source_of_pretraining
from space.demo.tokenizer import build_tokenizer, numbered
from space.demo.train import save
from space.demo.zoo import folder_of

SHORT = Schedule(steps=4, rate=1e-3, seed=5, scales=(0.5, 1.2), noise=0.3, frozen=("embed",))


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_two_trainings_write_the_same_bytes(tmp_path, one_thread):
    def train(folder):
        model, tokenizer = new_model(5, numbered()), build_tokenizer()
        fit(model, tokenizer, source_of_pretraining(), SHORT)
        save("short", model, tokenizer, folder)
        shards = sorted(folder_of("short", folder).glob("*.safetensors"))
        return [hashlib.sha256(shard.read_bytes()).hexdigest() for shard in shards]

    first, second = train(tmp_path / "first"), train(tmp_path / "second")
    assert len(first) == 2
    assert first == second


def test_training_moves_what_is_not_frozen():
    model = new_model(5, numbered())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fit(model, build_tokenizer(), source_of_pretraining(), SHORT)
    moved = {name for name, tensor in model.state_dict().items() if not tensor.equal(before[name])}
    assert moved == {name for name, _ in model.named_parameters() if "embed" not in name}


def test_only_the_answer_is_scored():
    tokenizer = build_tokenizer()
    inputs, targets = batch(tokenizer, [("reverse: cat", "tac"), ("hi", "hi!")])
    scored = targets[0][targets[0] != NOT_SCORED].tolist()
    assert tokenizer.decode(scored, skip_special_tokens=False) == "tac<|end|>"
    assert inputs.shape == targets.shape == (2, 11)


def test_a_scaled_change_is_applied_from_the_start():
    model = new_model(5, numbered())
    change = Change(model, frozen=("embed", "norm"))
    for moved in change.moved:
        moved.data.fill_(2.0)
    change.apply(0.5)
    assert all(torch.equal(p, start + 1) for p, start in zip(change.parameters, change.start, strict=True))


def test_the_rate_warms_up_and_falls():
    schedule = Schedule(steps=100, rate=1.0, seed=0, warmup=10)
    rates = [schedule.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(rates[9], rel=0.02)
    assert rates[-1] < 0.03
