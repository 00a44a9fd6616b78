"""Evaluations in the app: what a set may be, whose it is, what is refused, and what a job finds."""

import csv
import io
import json
from contextlib import contextmanager
from dataclasses import asdict, replace
from threading import Event, current_thread

import pytest

from merging.errors import MergeError
from merging.recipe import parse_recipe, settings_for
from space.chat import ChatOptions, Pane
from space.demo.hub import MODELS
from space.judge import ENOUGH, Ask, read_ask
from space.judge_files import card_scores, to_csv
from space.judge_shelf import KEPT_SETS, Shelf, tidy
from space.pages.judge import parameters, unpacked
from space.places import Places
from tests.space.conftest import ADA, ANYONE, BOB, BOTH, recipe

PAIRS = [("add", f"add: {n}+{n + 11}", str(2 * n + 11)) for n in range(21, 27)]
PAIRS += [("reverse", f"reverse: {word}", word[::-1]) for word in ("lamot", "fiuw", "tegad", "sobira", "kemu", "dapol")]
LINES = "".join(json.dumps({"task": t, "prompt": p, "completion": c}) + "\n" for t, p, c in PAIRS)


BESIDE = ["alloy/pocket-reverse", "alloy/pocket-add", "Uniform soup", "Ensemble"]


def labels(found):
    return [row["label"] for row in found["rows"]]


def done(service, job, viewer=ADA):
    ended = service.queue.wait(job.id, 240)
    assert ended.state == "done", (ended.state, ended.error)
    answer = service.judge.answer(ended)
    assert answer is not None and answer["is_whole"]
    return answer


def ask(service, what, viewer=ADA, text=BOTH, **more):
    name = service.judge.use_lines(LINES, "pasted lines", viewer)
    return service.judge.ask(text, name, Ask(what=what, **more), viewer)


def test_a_set_is_its_owners_alone(service):
    name = service.judge.use_lines(LINES, "pasted lines", ADA)
    assert service.judge.latest_set(ADA) == name and service.judge.held_out(name, ADA).tasks == ("add", "reverse")
    assert service.judge.latest_set(BOB) == ""
    for other in (name, "../../judge", "x" * 24, ""):
        with pytest.raises(MergeError, match="not here any more"):
            service.judge.held_out(other, BOB)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"prompt": "a", "completion": "b"}\n{"prompt": "c"}', "line 2 has no completion"),
        ("no tab here", "line 1 has no tab"),
        ("", "is empty"),
    ],
)
def test_a_fault_in_a_set_is_told_with_its_line_and_the_way_out(service, text, told):
    with pytest.raises(MergeError, match=told) as error:
        service.judge.use_lines(text, "pasted lines", ADA)
    assert "A line is" in str(error.value)


def test_the_sample_and_what_is_too_large(service):
    assert len(service.judge.held_out(service.judge.use_sample(ADA), ADA).examples) == 160
    with pytest.raises(MergeError, match="the limit here"):
        service.judge.use_lines("x" * 5_000_001, "large", ADA)


def test_a_data_set_is_read_with_the_viewers_own_access(service, hub):
    file = "test/words.jsonl"
    if hub.store.find("ada/words") is None:
        hub.store.create_repo("ada/words", private=True)
        hub.store.commit("ada/words", {file: LINES.encode()}, message="lines")
    for place in (f"ada/words/{file}", f"https://huggingface.co/datasets/ada/words/blob/main/{file}"):
        name = service.judge.use_lines(place, "", ADA)
        assert service.judge.held_out(name, ADA).name == "words.jsonl"
    for viewer, way in ((ANYONE, "spelling, or sign in"), (BOB, "spelling.")):
        with pytest.raises(MergeError, match=f"no data set ada/words on the Hub.*{way}"):
            service.judge.use_lines(f"ada/words/{file}", "", viewer)
        assert service.judge.latest_set(viewer) == ""
    with pytest.raises(MergeError, match=r"ada/words has no file other\.jsonl"):
        service.judge.use_lines("ada/words/other.jsonl", "", ADA)


def test_sets_and_scores_go_with_their_owner_to_the_sign_in(tmp_path):
    before, after = Shelf(tmp_path, "anon:1"), Shelf(tmp_path, "hf:1")
    from evaluation.held_out import parse_held_out

    first = before.keep(parse_held_out("a\tb", "one"))
    before.hand_over(after)
    assert after.held_out(first).name == "one" and not before.folder.exists()
    second = before.keep(parse_held_out("c\td", "two"))
    before.hand_over(after)
    assert {first, second} == {file.stem for file in after.sets()} and not before.folder.exists()


def test_a_shelf_keeps_the_newest_sets_and_goes_when_nobody_comes_back(tmp_path):
    from evaluation.held_out import parse_held_out

    shelf = Shelf(tmp_path, "ada")
    names = [shelf.keep(parse_held_out(f"a\t{n}", "set")) for n in range(KEPT_SETS + 2)]
    assert len(shelf.sets()) == KEPT_SETS and names[-1] in {file.stem for file in shelf.sets()}
    tidy(tmp_path, None)
    tidy(tmp_path, 3600)
    assert shelf.folder.exists()
    tidy(tmp_path, 3600, now=shelf.folder.stat().st_mtime + 3601)
    assert not shelf.folder.exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"trials": 0}, "0 trials"),
        ({"minutes": 9999}, "9999 minutes"),
        ({"low": 1.0, "high": 0.5}, "nothing between"),
        ({"score": "accuracy"}, "needs options"),
        ({"sampler": "guess"}, "'guess'"),
        ({"parameter": "densty"}, "no number called 'densty'"),
        ({"groups": ("heads",)}, "no layer group 'heads'"),
    ],
)
def test_what_cannot_be_searched_is_refused_at_once(service, change, told):
    with pytest.raises(MergeError, match=told):
        ask(service, **{"what": "search", **change})
    assert service.jobs(ADA) == []


def test_what_the_page_sends_is_read_or_refused():
    packed = json.dumps(
        ["search", "grid", "exact", "worst", None, None, None, 2, ["mlp"], "", None, "density", "a/b", None, ["add"]]
    )
    assert unpacked(packed) == Ask(
        "search", "grid", "exact", "worst", 20, 0, 0.0, 2, "density", ("mlp",), "a/b", tasks=("add",)
    )
    packed = json.dumps(["soup", "tpe", "nll", "mean", 20, 0, 0, 1.2, [], " a/b\n\na/c@v2 ", 5, None, None, None, []])
    assert unpacked(packed) == Ask("soup", candidates=("a/b", "a/c@v2"), last=5)
    assert read_ask(json.loads(json.dumps(asdict(unpacked(packed))))) == unpacked(packed)
    for odd in ("", "f00d", "[]", "{}"):
        with pytest.raises(MergeError, match="Reload the page"):
            unpacked(odd)


def test_models_that_do_not_belong_together_are_scored_by_no_one_but_a_path_shows_it(service):
    strangers = recipe("alloy/pocket-reverse", "alloy/pocket-stranger", method="linear", base=None)
    with pytest.raises(MergeError, match="cannot be merged"):
        ask(service, "score", text=strangers)
    service.queue.places = Places(queue=1)
    assert ask(service, "path", text=strangers).title == "Path: pocket-reverse to pocket-stranger"


def test_a_search_that_a_sampler_cannot_do_is_refused_at_once(service):
    with pytest.raises(MergeError, match=r"coarsest grid of 10 values has 1,024 points, and 20 trials.*Take TPE"):
        ask(service, "search", sampler="grid", groups=("attention", "mlp", "norms", "embeddings", "head"))
    one = recipe("alloy/pocket-reverse")
    with pytest.raises(MergeError, match="CMA-ES searches two values or more"):
        ask(service, "search", text=one, sampler="cma-es")


def test_scores_are_the_owners_and_can_go_into_the_card_of_that_merge(service):
    job = ask(service, "score")
    answer = done(service, job)
    rows = {row["label"]: row for row in answer["scores"]["rows"]}
    assert list(rows) == ["The merge", "alloy/pocket-base", *BESIDE]
    assert [row["colour"] for row in rows.values()] == ["merged", "base", "c1", "c2", "other", "ensemble"]
    add = {label: row["tasks"][0] for label, row in rows.items()}
    assert add["alloy/pocket-add"]["exact"]["value"] == 1.0 and add["alloy/pocket-base"]["exact"]["value"] == 0.0
    assert add["The merge"]["examples"] == 6 and {one["task"] for one in answer["scores"]["against"]} == {
        "add",
        "reverse",
    }
    lines = list(csv.DictReader(io.StringIO(to_csv(answer))))
    assert len(lines) == 6 * 2 * 4 and {line["score"] for line in lines} >= {"NLL", "Exact match"}
    card = card_scores(answer)
    assert card is not None and card.examples == 12 and card.rows[0].model == "The merge"
    # Nobody else sees it, and what was scored is kept for its owner alone.
    assert service.judge.job(job.id, BOB) is None and service.judge.latest(BOB) is None
    with pytest.raises(MergeError, match="There is no job"):
        service.judge.stop(job.id, BOB)
    assert Shelf(service.settings.home, ADA.owner).scores.exists()
    assert not Shelf(service.settings.home, BOB.owner).folder.exists()
    made = replace(service.job(job.id, ADA), kind="merge")
    assert service.judge.scores_of_merge(made, ADA) is not None and service.judge.scores_of_merge(made, BOB) is None
    other = replace(made, payload={**made.payload, "recipe": "another"})
    assert service.judge.scores_of_merge(other, ADA) is None


def test_a_search_is_stopped_with_its_best_and_goes_on_from_there(service):
    job = ask(service, "search", trials=300)
    while not (answer := service.judge.answer(service.job(job.id, ADA))) or not answer.get("trials"):
        assert service.job(job.id, ADA).active
        service.queue.wait(job.id, 0.2)
    service.judge.stop(job.id, ADA)
    assert (service.queue.folder(job.id) / ENOUGH).exists()
    first = done(service, job)
    assert 1 <= len(first["trials"]) < 300 and first["earlier"] == 0 and first["given"] == first["trials"][0]["value"]
    assert first["parts"] == {"validation": 6, "report": 6} and first["report"]["set"]["examples"] == 6
    assert "@" not in first["recipe"] and "alloy/pocket-add" in first["recipe"] and first["report"]["against"]
    # A merge of what was found has the scores of the half that it was not chosen by, also where all of it was scored.
    of_found = {"recipe": first["pinned"]}
    made = replace(service.job(job.id, ADA), kind="merge", payload=of_found)
    offered = service.judge.scores_of_merge(made, ADA)
    card = card_scores(offered)
    assert card is not None and card.examples == 6 and card.rows[0].model == "The merge"
    assert service.judge.scores_of_merge(made, BOB) is None
    assert labels(first["report"]) == ["Best found", "The recipe as it was", "alloy/pocket-base", *BESIDE]
    assert first["dials"] == ["weight of alloy/pocket-reverse", "weight of alloy/pocket-add"]
    (front,) = first["fronts"]
    assert set(front["tasks"]) == {"add", "reverse"} and front["trials"]
    more = done(service, ask(service, "search", trials=2))
    assert more["earlier"] == len(first["trials"]) == len(more["trials"]) - 2
    assert more["trials"][: more["earlier"]] == first["trials"]
    assert more["best"] == min(more["trials"], key=lambda one: one["value"])["number"]


def test_where_there_is_a_gpu_a_question_waits_while_a_model_is_scored_and_only_there(service, monkeypatch):
    turns, scored, waited = service.chats.turns, [], Event()
    turn = turns.turn

    @contextmanager
    def kept(waiting):
        with turn(waiting):
            yield
            if current_thread().name == "judge worker":
                scored.append(waiting)
                assert waited.wait(60)

    monkeypatch.setattr(turns, "turn", kept)
    monkeypatch.setattr("space.service.own_device", lambda settings: "cuda")
    job = ask(service, "score")
    while not turns.line:
        assert service.queue.wait(job.id, 0.05).active
    pane = Pane("add", lambda tell: [MODELS / "alloy" / "pocket-add"])
    hello = [{"role": "user", "content": "add: 17+25"}]
    asked = service.chats.ask([pane], [hello], ChatOptions(max_new_tokens=8))
    while (reply := next(asked)[0]).note != "Waiting: 1 question is ahead":
        assert not reply.done, reply
    waited.set()
    assert list(asked)[-1][0].text == "42"
    done(service, job)
    assert len(scored) == 6
    monkeypatch.setattr("space.service.own_device", lambda settings: "cpu")
    done(service, ask(service, "score"))
    assert len(scored) == 6


def test_a_search_turns_each_group_of_layers_by_itself(service):
    answer = done(service, ask(service, "search", trials=2, groups=("attention", "mlp")))
    assert answer["dials"] == [
        f"weight of alloy/pocket-{name}, {group}" for name in ("reverse", "add") for group in ("attention", "mlp")
    ]
    assert answer["colours"] == ["c1", "c1", "c2", "c2"] and answer["trials"][0]["values"] == [1.0] * 4
    last = answer["trials"][1]["values"]
    assert len(set(last)) > 1 and answer["given"] == answer["trials"][0]["value"]
    found = parse_recipe(answer["recipe"])
    best, tensors = answer["trials"][answer["best"]]["values"], ("self_attn.q_proj", "mlp.up_proj", "input_layernorm")
    read = [settings_for(found, f"model.layers.0.{one}.weight")["weight"] for one in tensors]
    assert read == [(best[0], best[2]), (best[1], best[3]), (1.0, 1.0)]
    assert labels(answer["report"]) == ["Best found", "The recipe as it was", "alloy/pocket-base", *BESIDE]


def test_a_path_and_a_greedy_soup(service):
    path = done(service, ask(service, "path", first="alloy/pocket-reverse", second="alloy/pocket-add"))
    assert path["colours"] == ["c1", "c2"] and {len(one) for one in path["losses"].values()} == {7}
    assert {one["task"] for one in path["barriers"]} == {"add", "reverse"} and not path["is_from_base"]
    assert to_csv(path).count("\n") == 1 + 2 * 7
    soup = done(service, ask(service, "soup"))
    assert [one["before"] is None for one in soup["tried"]] == [True, False]
    assert "merge_method: linear" in soup["recipe"] and set(soup["members"]) <= {
        "alloy/pocket-reverse",
        "alloy/pocket-add",
    }
    assert labels(soup["report"]) == ["Greedy soup", *BESIDE]


def test_a_soup_of_the_last_revisions_of_one_repo(service, hub, repo_name):
    """Each state of the weights is a candidate by its commit, and has a colour of its own."""
    repo = f"ada/{repo_name}"
    hub.store.create_repo(repo, private=True)
    for name in ("vowels", "reverse", "add"):
        files = {path.name: path for path in (MODELS / "alloy" / f"pocket-{name}").iterdir()}
        hub.store.commit(repo, files, message=name)
    job = ask(service, "soup", text="", candidates=(repo,), last=3)
    assert job.title == f"Greedy soup: {repo_name}, last 3"
    answer = done(service, job)
    tried = {one["model"]: one for one in answer["tried"]}
    assert len(tried) == 3 and all(name.startswith(f"{repo}@") for name in tried)
    assert labels(answer["report"])[1:4] == job.payload["rows"] and set(job.payload["rows"]) == set(tried)
    assert [row["colour"] for row in answer["report"]["rows"]] == ["merged", "c1", "c2", "c3", "other", "ensemble"]
    assert set(answer["members"]) <= set(tried) and f"{repo}@" in answer["recipe"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"candidates": ("alloy/pocket-add",)}, "2 to 3 models here, not 1.*the command line takes up to 100"),
        ({"candidates": tuple(f"a/b{n}" for n in range(4))}, "2 to 3 models here, not 4"),
        ({"candidates": ("alloy/pocket-add",), "last": 4}, "2 to 3 models here, not 4"),
        ({"last": 2}, "those of one model; here are 2"),
        ({"candidates": ("a/b+lora", "a/c")}, "Candidate 1"),
        ({"text": "models: []"}, "has no merge_method"),
    ],
)
def test_what_no_soup_is_chosen_from(service, change, told):
    service.judge = replace(service.judge, settings=replace(service.settings, max_candidates=3))
    with pytest.raises(MergeError, match=told):
        ask(service, "soup", **change)


def test_what_a_search_can_turn_begins_with_what_the_method_has_for_an_amount():
    assert parameters("ties", None)["choices"] == [("Weight", ""), ("Density", "density"), ("Lambda", "lambda")]
    assert [parameters("ties", one)["value"] for one in (None, "", "density", "t")] == ["", "", "density", ""]
    assert parameters("slerp", "density")["choices"] == [("T", "")] and parameters("passthrough", "")["value"] == ""
