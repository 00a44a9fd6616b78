"""The model card: metadata that the Hub reads back, text that says what was done, nothing that a name can break."""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import yaml

from merging import __version__
from merging.card import SHARD_BYTES, read_front_matter, replace_metadata, with_repo_id, write_card
from merging.checkpoint import Folder, open_checkpoint
from merging.findings import block, ok, warn
from merging.front_matter import split
from merging.license import combine
from merging.markdown import code, escaped, fenced, table
from merging.plan import make_plan
from merging.recipe import all_models, parse_recipe
from merging.report import Outcome, make_report, now
from space.localhub.front_matter import verdict
from tests.merging.models import write_model

SHA = "0123456789abcdef0123456789abcdef01234567"
RECIPE = """\
merge_method: {method}
base_model: acme/base
models:
- model: acme/one
  parameters: {{weight: 1.0, density: 0.5}}
- model: bob/two
  parameters: {{weight: -0.5, density: 0.5}}
parameters: {{normalize: true, lambda: 0.8}}
seed: 7
"""
FINDINGS = (
    block("different-base", "bob/two is of another base.", {"bob/two": "cosine 0.01"}, why="It matters.", remedy="-"),
    warn("rope", "The models encode positions differently.", {}, why="It matters.", remedy="Do so."),
    ok("tokenizer", "The tokenizers agree."),
)


class Named(Folder):
    """A folder that is known as a repo, as a source on the Hub is."""

    @property
    def label(self) -> str:
        return self.repo_id

    @property
    def repo_id(self) -> str:
        return "/".join(self.path.parts[-2:])

    @property
    def revision(self) -> str:
        return SHA


def report_of(root: Path, method: str = "ties") -> dict[str, Any]:
    """The report of a merge of tiny models, as the engine has it written, read back from JSON."""
    recipe = parse_recipe(RECIPE.format(method=method))
    for ref in all_models(recipe):
        if not (root / ref.path).exists():
            write_model(root / ref.path, {"a.weight": torch.ones(4, 2, dtype=torch.bfloat16)})
    opened = {ref: open_checkpoint(Named(root / ref.path)) for ref in all_models(recipe)}
    plan = make_plan(recipe, opened, shard_bytes=SHARD_BYTES, memory_bytes=2**30, threads=1)
    digests = {shard.file: "ab" * 32 for shard in plan.shards}
    outcome = Outcome(now(), now(), "cpu", SHARD_BYTES, digests)
    return dict(json.loads(json.dumps(make_report(recipe, opened, plan, outcome, FINDINGS))))


def model(name: str, *, role: str = "merged", **parameters: Any) -> dict[str, Any]:
    return {"label": name, "repo_id": name, "revision": SHA, "role": role, "parameters": parameters}


def finding(id: str, level: str, title: str, **values: str) -> dict[str, Any]:
    return {"id": id, "level": level, "title": title, "models": list(values), "values": list(values.values()),
            "why": "It matters." if level != "ok" else "", "remedy": "Do so." if level != "ok" else ""}  # fmt: skip


with TemporaryDirectory() as folder:
    REPORT = report_of(Path(folder))
    DARE = report_of(Path(folder), "dare_ties")
CARDS: dict[str, dict[str, Any]] = {
    "acme/base": {"license": "mit", "language": ["en", "de"], "datasets": ["acme/texts"]},
    "acme/one": {"license": "apache-2.0", "language": "en", "datasets": ["acme/sums", "acme/texts"]},
    "bob/two": {"license": "mit"},
}


def test_the_metadata_is_what_was_meant():
    card = write_card(REPORT, CARDS)
    assert read_front_matter(card) == yaml.safe_load(split(card)[0]) == {
        "base_model": ["acme/base", "acme/one", "bob/two"],
        "base_model_relation": "merge",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["merge", "alloy", "ties"],
        "license": "apache-2.0",
        "language": ["en", "de"],
        "datasets": ["acme/texts", "acme/sums"],
    }  # fmt: skip
    assert verdict(card) == ([], [])


@pytest.mark.parametrize(
    "said",
    [
        "# Merge of one and two",
        "[acme/one](https://huggingface.co/acme/one)",
        SHA[:12],
        "**TIES** ([paper](https://arxiv.org/abs/2306.01708))",
        "vote on each sign",
        "| weight -0.5, density 0.5 |",
        "normalize true, rescale false, lambda 0.8.",
        "rounded once to bfloat16",
        "from transformers import pipeline",
        "python -m merging merge merge_recipe.yaml OUT",
        "ab" * 32,
        f"{REPORT['shards'][0]['bytes']:,}",
        f"torch {torch.__version__.partition('+')[0]}",
        f"With Alloy {__version__}",
        "**Overridden (`--allow different-base`):** bob/two is of another base. (bob/two: cosine 0.01) It matters.",
        "**Warning:** The models encode positions differently.",
        "- The tokenizers agree.",
        "those of [acme/base]",
        "## Limits",
    ],
)
def test_the_text_says_what_was_done(said: str):
    assert said in write_card(REPORT, CARDS)


def test_the_recipe_in_the_card_can_be_run_again():
    found = re.search(r"```yaml\n(.*?)```", write_card(REPORT, CARDS), re.DOTALL)
    assert found and parse_recipe(found[1]).method == "ties"


@pytest.mark.parametrize("missing", [*REPORT, None])
def test_what_the_report_lacks_is_left_out(missing: str | None):
    report = {k: v for k, v in REPORT.items() if missing is not None and k != missing}
    card = write_card(report, CARDS if missing else {})
    assert read_front_matter(card)["library_name"] == "transformers"
    assert "None" not in card and not verdict(card)[0]


def test_the_size_of_the_shards_is_told_where_it_is_not_the_usual_one():
    assert "--shard-size" not in write_card(REPORT, CARDS)
    assert "merge merge_recipe.yaml OUT --shard-size 2000000\n" in write_card(
        REPORT | {"shard_bytes": 2_000_000}, CARDS
    )


def test_the_seed_is_told_where_it_matters():
    assert "the seed 7" not in write_card(REPORT, CARDS)
    assert "the seed 7" in write_card(DARE, CARDS)


def test_a_local_model_is_told_by_its_name():
    local: dict[str, Any] = {"label": "two", "repo_id": None, "revision": None, "role": "merged", "parameters": {}}
    card = write_card(REPORT | {"models": [model("acme/one"), local], "recipe": ""}, {"two": {}})
    assert "`two` was read from a local folder" in card
    assert read_front_matter(card)["base_model"] == ["acme/one"]


HOSTILE = [
    "---", "a\n---\nlicense: gpl-3.0\n---\n# pwned", "<script>alert(1)</script>", "[x](javascript:alert(1))",
    "![x](http://evil/x.png)", "`code` ``` ~~~", "a | b | c", "# heading", "* bullet", "x\u2028y\u202ez", "'\"", "a: b",
    "{}", "- - -", "&lt;b&gt;", "<img src=x onerror=alert(1)>", "</textarea>", "\x00\x1b[31m", "no", "*bold*",
    "a" * 500, "https://evil.example/x", "*/ &amp; \\", "${{x}}", "\ttab",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str):
    bad = {"label": text, "repo_id": text, "revision": text, "role": "merged", "parameters": {text: text}}
    report = REPORT | {
        "models": [model("acme/base", role="base"), bad],
        "method": {"name": text, "title": text, "summary": text, "paper": f"javascript:{text}"},
        "parameters": {text: text}, "recipe": text, "dtype": text, "seed": text, "versions": {text: text},
        "findings": [finding(text, level, text, **{text: text}) for level in ("block", "warn", "ok")],
        "allowed": [text], "shards": [{"file": text, "bytes": 1, "sha256": text}],
    }  # fmt: skip
    cards = {text: {"license": text, "language": [text], "datasets": text, "license_name": text, "license_link": text}}
    card = write_card(report, cards)
    check_inert(card, write_card(REPORT, CARDS))
    assert read_front_matter(card) == yaml.safe_load(split(card)[0])
    assert read_front_matter(card)["license"] == "other"
    assert read_front_matter(card)["library_name"] == "transformers"


def check_inert(card: str, honest: str) -> None:
    """No HTML, no link or image that we did not make, the same headings as ever."""
    body = outside_code(split(card)[1])
    assert not re.search(r"<[a-zA-Z/!]", body)
    assert all(url.startswith("https://") for url in re.findall(r"(?<!\\)\]\(([^)]*)\)", body))
    assert not re.search(r"(?<!\\)!\[", body) and "http://" not in body
    headings = [line for line in outside_code(split(honest)[1]).splitlines() if line.startswith("## ")]
    assert [line for line in body.splitlines() if line.startswith("## ")] == headings
    assert [line for line in body.splitlines() if line.startswith("# ")] == body.splitlines()[:1]


def outside_code(text: str) -> str:
    """The text without its code blocks and spans, as a Markdown reader finds them."""
    kept, fence = [], ""
    for line in text.splitlines():
        mark = re.match(r"`{3,}", line)
        if fence:
            fence = "" if line.strip() == fence else fence
        elif mark:
            fence = mark[0]
        else:
            kept.append(line)
    assert not fence, "a code block was not closed"
    return re.sub(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", "\n".join(kept))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_metadata_is_read_back_as_it_was(text: str):
    card = replace_metadata("# A model\n", base_model=[text], license_name=text)
    assert read_front_matter(card) == yaml.safe_load(split(card)[0]) == {"base_model": [text], "license_name": text}
    assert split(card)[1] == "# A model\n"


def test_a_card_gets_its_name_and_licence():
    card = with_repo_id(write_card(REPORT, CARDS), "ada/my-merge", license="cc-by-4.0")
    assert "\n# my-merge\n" in card and 'model="ada/my-merge"' in card and "path/to/this-model" not in card
    assert read_front_matter(card)["license"] == "cc-by-4.0"
    assert verdict(card) == ([], [])


def test_a_chosen_licence_replaces_the_name_of_the_old_one():
    card = write_card(REPORT, {"a": {}})
    assert read_front_matter(card)["license_name"] == "see-the-parent-models"
    assert "license_name" not in read_front_matter(with_repo_id(card, "ada/x", license="mit"))
    assert "license_name" in read_front_matter(with_repo_id(card, "ada/x", license="other"))


@pytest.mark.parametrize(
    "text",
    ["", "# no metadata", "---", "---\n---", "---\n[]\n---", "---\n: : :\n---", "---\na: *x\n---",
     "---\n!!python/x y\n---", "---\n" + "- " * 5000 + "\n---", "---\na: 1", "\x00",
     "---\nx: &a [*a]\n---", "text\n---\na: 1\n---"],
)  # fmt: skip
def test_metadata_that_cannot_be_read_is_none(text: str):
    assert read_front_matter(text) == {}


def test_metadata_is_read_from_usual_cards():
    assert read_front_matter("\ufeff---\r\nlicense: mit\r\n---\r\n# x") == {"license": "mit"}
    assert read_front_matter("---\nbase_model:\n- a/b\n---") == {"base_model": ["a/b"]}


@pytest.mark.parametrize(
    ("stated", "id", "certain"),
    [
        ("mit mit", "mit", True),
        ("mit apache-2.0", "apache-2.0", True),
        ("MIT Apache-2.0", "apache-2.0", True),
        ("apache-2.0 llama3.1", "llama3.1", True),
        ("mit cc-by-nc-4.0", "cc-by-nc-4.0", True),
        ("llama3.1 gemma", "other", False),
        ("cc-by-nc-4.0 gpl-3.0", "other", False),
        ("mit -", "other", False),
        ("- -", "other", False),
        ("unknown mit", "other", False),
        ("mit my-own-licence", "other", False),
        ("other other", "other", False),
    ],
)
def test_the_licence_of_a_merge(stated: str, id: str, certain: bool):
    cards = {f"m{n}": {} if s == "-" else {"license": s} for n, s in enumerate(stated.split())}
    found = combine(cards)
    assert (found.id, found.certain) == (id, certain) and found.reason.endswith(".")


def test_one_and_the_same_other_licence_stays():
    own = {"license": "other", "license_name": "own-1", "license_link": "https://x.example/own"}
    found = combine({"a": own, "b": dict(own)})
    assert (found.id, found.name, found.link, found.certain) == ("other", "own-1", "https://x.example/own", True)
    assert not combine({"a": own, "b": own | {"license_name": "own-2"}}).certain


def test_the_language_no_is_not_a_false():
    cards = {"a": read_front_matter("---\nlanguage: no\n---")}
    assert read_front_matter(write_card(REPORT, cards))["language"] == ["no"]


def test_markdown_parts():
    assert escaped("a*b_[c]\n#d") == r"a\*b\_\[c\] \#d"
    assert code("a`b|c") == r"``a`b\|c``" and code("`") == "`` ` ``" and code("") == ""
    assert fenced("```\n", "x") == "````x\n```\n````"
    assert table(["a"], [["b"]]) == "| a |\n| --- |\n| b |"
