"""Two people and a stranger on one Space, each in a browser of their own: real sign-in, nothing of one for another."""

import base64
import re
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from space.demo.hub import MODELS
from space.localhub import LocalHub
from tests.journey.callers import Caller
from tests.journey.conftest import PATIENCE
from tests.journey.started import space
from tests.journey.steps import LONG, check, load, merge, publish_as, say

PUBLIC = ("alloy/pocket-reverse", "alloy/pocket-add")
HUSH = "hush-add"  # in every private name, so that it can be looked for in what others are answered
TOKEN = re.compile(r"hf_oauth_[\w-]{20,}")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("space") / "log"


@pytest.fixture(scope="module")
def served(local_hub: LocalHub, log: Path) -> Iterator[tuple[str, Path]]:
    local_hub.store.import_folder(MODELS)
    if local_hub.store.find(f"ada/{HUSH}") is None:
        local_hub.store.create_repo(f"ada/{HUSH}", private=True)
        files = {p.name: p for p in (MODELS / "alloy" / "pocket-add").iterdir()}
        local_hub.store.commit(f"ada/{HUSH}", files, message="weights")
    with space(local_hub, log) as found:
        yield found


@contextmanager
def visit(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    expect(page.get_by_text("Not signed in")).to_be_visible(timeout=30_000)
    yield page
    context.close()


def sign_in(page: Page, user: str, *, answer: str = "Allow") -> None:
    page.get_by_role("button", name="Sign in with Hugging Face").click()
    page.get_by_role("radio", name=user).check()
    page.get_by_role("button", name=answer, exact=True).click()


def recipe(*models: str) -> str:
    rows = "".join(f"- model: {model}\n  parameters: {{weight: 0.7}}\n" for model in models)
    return f"merge_method: task_arithmetic\nbase_model: alloy/pocket-base\nmodels:\n{rows}"


def type_recipe(page: Page, *models: str) -> None:
    page.get_by_role("button", name="Recipe as YAML").click()
    page.locator("#recipe-yaml .cm-content").fill(recipe(*models))
    expect(page.get_by_label("Model 2", exact=True).first).to_have_value(models[1])


def test_two_people_sign_in_and_out_beside_each_other(browser: Browser, served: tuple[str, Path]):
    with visit(browser, served[0]) as ada, visit(browser, served[0]) as bob:
        sign_in(ada, "Ada")
        sign_in(bob, "Bob")
        expect(ada.get_by_text("Signed in as ada")).to_be_visible()
        expect(bob.get_by_text("Signed in as bob")).to_be_visible()
        ada.reload()
        expect(ada.get_by_text("Signed in as ada")).to_be_visible()
        ada.get_by_role("button", name="Sign out (ada)").click()
        expect(ada.get_by_text("Not signed in")).to_be_visible()
        bob.reload()
        expect(bob.get_by_text("Signed in as bob")).to_be_visible()


def test_who_does_not_allow_it_is_told_that_they_are_not_signed_in(browser: Browser, served: tuple[str, Path]):
    with visit(browser, served[0]) as page:
        sign_in(page, "Ada", answer="Do not allow")
        expect(page.locator("#notice")).to_contain_text("You are not signed in")
        sign_in(page, "Ada")
        expect(page.get_by_text("Signed in as ada")).to_be_visible()
        expect(page.locator("#notice")).to_be_hidden()


def test_a_merge_from_before_the_sign_in_is_there_after_it(browser: Browser, served: tuple[str, Path]):
    with visit(browser, served[0]) as page:
        type_recipe(page, *PUBLIC)
        check(page)
        merge(page)
        page.reload()
        page.get_by_role("tab", name="Merge").click()
        expect(page.locator("#job-panel")).to_contain_text("Done in")
        page.locator("#to-publish").click()
        expect(page.locator("#publish-why-not")).to_contain_text("To publish, sign in")
        sign_in(page, "Bob")
        expect(page.get_by_text("Signed in as bob")).to_be_visible()
        page.get_by_role("tab", name="Publish").click()
        expect(page.locator("#publish-button")).to_contain_text("Publish to bob/")


def test_a_sign_in_that_ends_is_said_and_the_next_finds_everything(
    browser: Browser, served: tuple[str, Path], local_hub: LocalHub
):
    try:
        with visit(browser, served[0]) as page:
            sign_in(page, "Ada")
            type_recipe(page, *PUBLIC)
            check(page)
            merge(page)
            page.get_by_role("button", name="Sign out (ada)").click()
            local_hub.sign_in.token_seconds = 2
            sign_in(page, "Ada")
            expect(page.get_by_label("Model 2", exact=True).first).to_have_value(PUBLIC[1])
            time.sleep(3)  # past its end
            local_hub.sign_in.token_seconds = 3600
            page.locator("#check-button").click()
            expect(page.locator("#verdict")).to_contain_text("The sign-in of ada has ended. Sign in again")
            page.reload()
            expect(page.locator("#notice")).to_contain_text("The sign-in of ada has ended. Sign in again")
            sign_in(page, "Ada")
            expect(page.get_by_text("Signed in as ada")).to_be_visible()
            expect(page.locator("#notice")).to_be_hidden()
            page.get_by_role("tab", name="Merge").click()
            expect(page.locator("#job-panel")).to_contain_text("Done in")
            expect(page.get_by_label("Model 1", exact=True).first).to_have_value(PUBLIC[0])
    finally:
        local_hub.sign_in.token_seconds = 3600


@dataclass(frozen=True, slots=True)
class Run:
    """What Ada did in her browser with a private model of hers: tried, merged, chatted, published."""

    page: Page
    tab: str
    job: str
    answered: list[str]


@pytest.fixture(scope="module")
def run(browser: Browser, served: tuple[str, Path]) -> Iterator[Run]:
    with visit(browser, served[0]) as page:
        tabs: set[str] = set()
        finished: list[Request] = []
        page.on("request", lambda r: tabs.update(re.findall(r'"session_hash":"(\w+)"', r.post_data or "")))
        page.on("requestfinished", lambda r: finished.append(r))
        sign_in(page, "Ada")
        expect(page.get_by_text("Signed in as ada")).to_be_visible()
        tabs.clear()
        finished.clear()  # the browser keeps no body from before a navigation; what signing in answers, a script hears
        type_recipe(page, "alloy/pocket-reverse", f"ada/{HUSH}")
        check(page)
        load(page)
        page.get_by_role("tab", name="Chat").click()
        assert say(page, "reverse: lamot")[0] == "tomal"  # by the merge in memory, which stays there
        page.get_by_role("tab", name="Check").click()
        merge(page)
        page.locator("#to-chat").click()
        assert say(page, "reverse: lamot")[0] == "tomal"  # the conversation goes on beside the merge that is done
        page.get_by_role("tab", name="Publish").click()
        publish_as(page, f"{HUSH}-published").click()
        expect(page.locator("#publish-link a")).to_be_visible(timeout=LONG)
        page.get_by_role("tab", name="Jobs").click()
        expect(page.locator("#job-list label")).not_to_have_count(0)
        jobs = sqlite3.connect(served[1] / "journal.sqlite")
        job = jobs.execute("SELECT id FROM job WHERE kind = 'merge' AND title LIKE '%hush%'").fetchone()[0]
        jobs.close()
        yield Run(page, tabs.pop(), job, [text_of(request) for request in finished])


def text_of(request: Request) -> str:
    """The headers and the body of an answer."""
    answer = request.response()
    assert answer is not None
    body = b"" if answer.status in (204, 302, 303, 307) else answer.body()
    return f"{request.url}\n{answer.all_headers()}\n{body.decode(errors='replace')}"


def payload(component: dict[str, Any] | None, job: str) -> Any:
    """What somebody would send for a control who knows the id of a job and wants to see more of it."""
    if component is None or component["type"] in ("state", "timer"):
        return job
    if component["type"] == "browserstate":
        return ["by hand", job]  # as a recipe
    props = component["props"]
    match component["type"]:
        case "radio" | "textbox" | "api":
            return job
        case "dropdown":
            return ["Merge"] if props.get("multiselect") else props.get("value") or "ada"
        case "slider" | "number":
            return props.get("value") or 1
        case "chatbot":
            return []
        case "checkbox":
            return False
    return props.get("value")


def everything(caller: Caller, job: str, tab: str = "") -> dict[str, str]:
    """Every listener of the page, shown or not, called with the id of a job; what each answers."""
    config = caller.config()
    known = {c["id"]: c for c in config["components"]}
    spared = {"removed"} if tab else set()  # Ada would remove it
    listeners = [one for one in config["dependencies"] if one["backend_fn"] and one["api_name"] not in spared]

    def answer(one: dict[str, Any]) -> str:
        return caller.fire(one["id"], [payload(known.get(i), job) for i in one["inputs"]], tab=tab)

    with ThreadPoolExecutor(1 if tab else 8) as pool:  # what is said in one tab comes in turn
        names = [f"{one['id']} {one['api_name']}" for one in listeners]
        return dict(zip(names, pool.map(answer, listeners), strict=True))


def test_nobody_is_answered_anything_of_another(run: Run, served: tuple[str, Path]):
    """By every listener, from a tab of their own and from Ada's, signed in or not; Ada is, by the same calls."""
    address = served[0]
    run.page.route("**/queue/join*", lambda route: None)  # lest her page hear what is said in her tab
    bob, visitor, nobody = Caller(address).sign_in("bob"), Caller(address).visit(), Caller(address)
    for other, tab in ((bob, ""), (visitor, ""), (bob, run.tab), (visitor, run.tab), (nobody, run.tab)):
        for name, said in everything(other, run.job, tab).items():
            assert HUSH not in said, (name, said)
            assert not tab or "no such tab" in said, (name, said)
    ada = Caller(address)
    ada.cookie = next(c["value"] for c in run.page.context.cookies(address) if c["name"] == "session")
    hers = {name for name, said in everything(ada, run.job, run.tab).items() if HUSH in said}
    run.page.unroute("**/queue/join*")
    assert {name.split()[1] for name in hers} >= {"job", "poll", "listed", "opened"}, hers


def test_a_job_of_another_is_answered_like_one_that_does_not_exist(run: Run, served: tuple[str, Path]):
    """By every named endpoint, as scripts call them."""
    bob, nobody = Caller(served[0]).sign_in("bob"), Caller(served[0])
    told = nobody.request("GET", "/gradio_api/info").json()["named_endpoints"]
    taking = [name for name, one in told.items() if any(p["parameter_name"] == "job_id" for p in one["parameters"])]
    assert set(taking) == {"/job", "/cancel", "/chat", "/publish"}
    given = {"/chat": {"prompt": "hello"}, "/publish": {"repo_id": "bob/mine"}}
    for name in taking:
        for other in (bob, nobody):
            answers = [other.call(name[1:], job_id=job, **given.get(name, {})) for job in (run.job, "0" * 16)]
            assert "There is no job" in answers[0]
            assert answers[0].replace(run.job, "0" * 16) == answers[1]
    assert Caller(served[0]).sign_in("ada").ask("job", job_id=run.job)["state"] == "done"


def test_a_private_model_of_one_is_none_to_another(run: Run, served: tuple[str, Path]):
    """Although its weights lie in the work folder, fetched for Ada's chat."""
    assert list((served[1] / "models").glob(f"*/ada--{HUSH}@*"))
    bob = Caller(served[0]).sign_in("bob")
    for name in ("check", "merge"):
        said = bob.call(name, recipe=recipe("alloy/pocket-reverse", f"ada/{HUSH}"))
        assert "There is no model" in said and "event: error" in said


@pytest.mark.parametrize(
    "path", ["upload", "deep_link?session_hash=x", "stream/1", "run-history/records", "vibe-code/"]
)
def test_doors_that_the_app_does_not_use_are_closed(served: tuple[str, Path], path: str):
    for method in ("GET", "POST"):
        assert Caller(served[0]).request(method, f"/gradio_api/{path}").status_code == 404


def test_files_of_the_work_folder_are_not_served(run: Run, served: tuple[str, Path]):
    address, home = served
    for file in (home / "journal.sqlite", home / "jobs" / run.job / "model" / "README.md"):
        assert file.exists()
        answer = Caller(address).sign_in("ada").request("GET", f"/gradio_api/file={file}")
        assert answer.status_code in (403, 404)
    modes = {p.stat().st_mode & 0o077 for p in (home, home / "jobs", home / "models", home / "journal.sqlite")}
    assert modes == {0}


def test_files_of_a_merge_are_sent_to_its_owner_alone(run: Run, served: tuple[str, Path]):
    """By the cookie of the sign-in, in ranges too; nobody else is told that there is such a merge."""
    address, home = served
    file = home / "jobs" / run.job / "model" / "model.safetensors"
    ada = Caller(address).sign_in("ada")
    mine = ada.http.get(
        f"{address}/download/{run.job}/model.safetensors",
        headers={"cookie": f"session={ada.cookie}", "range": "bytes=100-"},
    )
    assert (mine.status_code, mine.content) == (206, file.read_bytes()[100:])
    for other in (Caller(address).sign_in("bob"), Caller(address).visit(), Caller(address)):
        there, not_there = (other.request("GET", f"/download/{job}/model.safetensors") for job in (run.job, "0" * 16))
        assert there.status_code == not_there.status_code == 404
        assert there.text.replace(run.job, "0" * 16) == not_there.text


def test_no_token_is_written_down_or_sent_back(run: Run, served: tuple[str, Path], log: Path, local_hub: LocalHub):
    """After a merge, a chat and a publication, on the page and by script."""
    address, home = served
    script = Caller(address).sign_in("ada")
    job = script.ask("merge", recipe=recipe("alloy/pocket-reverse", f"ada/{HUSH}"))
    job = ended(script, job)
    script.ask("chat", job_id=job["id"], prompt="add: 1+2", models=["Merge", f"ada/{HUSH}"])
    pushed = ended(script, script.ask("publish", job_id=job["id"], repo_id=f"ada/{HUSH}-scripted"))
    assert pushed["state"] == "done", pushed
    tokens = [token for token, grant in local_hub.store.accounts.grants.items() if grant.user in ("ada", "bob")]
    secrets = [token.encode() for token in tokens]
    assert sum(token.startswith("hf_oauth_") for token in tokens) >= 2
    card = local_hub.store.read(f"ada/{HUSH}-scripted", "README.md").read_bytes()
    files = [file for file in home.rglob("*") if file.is_file()]
    assert any(file.name == "journal.sqlite" for file in files)
    kept = run.page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    cookies = [unsealed(c["value"]) for c in run.page.context.cookies(address)] + [unsealed(script.cookie)]
    assert any('"sign_in"' in cookie for cookie in cookies)
    places = {str(file): file.read_bytes() for file in [*files, log]}
    places |= {"card": card, "browser": kept.encode(), "cookies": " ".join(cookies).encode()}
    places |= {"page": "\n".join(run.answered).encode(), "script": "\n".join(script.heard).encode()}
    assert HUSH.encode() in places["page"] and HUSH.encode() in places["script"]
    found = [(place, TOKEN.search(text.decode(errors="ignore"))) for place, text in places.items()]
    assert [place for place, token in found if token] == []
    assert [place for place, text in places.items() if any(secret in text for secret in secrets)] == []


def ended(caller: Caller, job: dict[str, Any]) -> dict[str, Any]:
    end = time.monotonic() + LONG / 1000
    while job["state"] in ("queued", "running") and time.monotonic() < end:
        time.sleep(0.2)
        job = caller.ask("job", job_id=job["id"])
    return job


def unsealed(cookie: str) -> str:
    """What a session cookie holds: it is signed, but anybody can read it."""
    text = cookie.split(".")[0]
    return base64.b64decode(text + "=" * (-len(text) % 4)).decode(errors="replace")
