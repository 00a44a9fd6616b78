import time
from dataclasses import replace

import gradio as gr
import pytest

from merging.errors import MergeError
from merging.hub import Account, TokenRefused
from space import viewer as viewers
from space.settings import Settings
from space.viewer import SignedOut, token_here, viewer_of

ADA = Account("ada", "Ada", ("acme",), can_write=True, id="6a")
HOSTED = Settings(home=None, hosted=True)  # type: ignore[arg-type]


class Asked:
    """A Hub that answers whoami only, and counts."""

    def __init__(self, account=ADA):
        self.account = account
        self.calls = []

    def __call__(self, token):
        self.calls.append(token)
        return self

    def whoami(self):
        if isinstance(self.account, Exception):
            raise self.account
        return self.account


@pytest.fixture(autouse=True)
def nobody_known(monkeypatch):
    monkeypatch.setattr(viewers, "known", {})


def request(session):
    return gr.Request(session_hash=session)


def token(text="hf_ada", seconds=3600):
    return gr.OAuthToken(token=text, scope="openid", expires_at=int(time.time()) + seconds)


def test_a_signed_in_visitor_is_known_by_the_id_of_their_account():
    viewer = viewer_of(HOSTED, request("s"), token(), hub_for=Asked())
    assert (viewer.owner, viewer.account, viewer.token) == ("hf:6a", ADA, "hf_ada")
    assert "hf_ada" not in repr(viewer)


def test_who_is_renamed_stays_who_they_are_and_who_takes_the_name_is_somebody_else():
    ada, renamed, another = ADA, replace(ADA, name="countess"), replace(ADA, id="6c")
    owners = [viewer_of(HOSTED, request("s"), token(one.name + one.id), hub_for=Asked(one)).owner
              for one in (ada, renamed, another)]  # fmt: skip
    assert owners == ["hf:6a", "hf:6a", "hf:6c"]


def test_the_hub_is_asked_once_who_somebody_is():
    hub = Asked()
    for _ in range(3):
        viewer_of(HOSTED, request("s"), token(), hub_for=hub)
    assert hub.calls == ["hf_ada"]


def test_without_sign_in_each_session_is_somebody_else():
    one, same, other = (viewer_of(HOSTED, request(s), None, hub_for=Asked()) for s in ("a", "a", "b"))
    assert one == same
    assert one.owner != other.owner
    assert one.owner.startswith("anon:")
    assert (one.account, one.token) == (None, False)
    nobodies = {viewer_of(HOSTED, request(None), None, hub_for=Asked()).owner for _ in range(2)}
    assert len(nobodies) == 2


def test_the_session_itself_is_not_written_down():
    assert "secret-session" not in viewer_of(HOSTED, request("secret-session"), None).owner


def test_an_expired_sign_in_is_none():
    assert viewer_of(HOSTED, request("s"), token(seconds=-1), hub_for=Asked()).token is False


def test_a_hub_that_is_away_takes_nobody_for_somebody_else(monkeypatch):
    away = Asked(MergeError("away"))
    with pytest.raises(MergeError, match="does not say who you are"):
        viewer_of(HOSTED, request("s"), token(), hub_for=away)
    assert viewer_of(HOSTED, request("s"), token("hf_other"), hub_for=Asked()).owner == "hf:6a"
    monkeypatch.setattr(viewers, "ACCOUNT_SECONDS", 0)
    assert viewer_of(HOSTED, request("s"), token("hf_other"), hub_for=away).owner == "hf:6a", "the last answer holds"


def test_at_this_machine_one_is_local_whatever_the_hub_says(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("hf_mine")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    local = Settings(tmp_path)
    assert token_here(local) == "hf_mine"
    viewer = viewer_of(local, request("s"), None, hub_for=Asked(MergeError("away")))
    assert (viewer.owner, viewer.account) == ("local", None)


def test_in_the_demo_it_is_the_demo_user(tmp_path):
    demo = Settings(tmp_path, demo=True, demo_token="hf_demo")
    viewer = viewer_of(demo, None, None, hub_for=Asked())
    assert (viewer.owner, viewer.account, viewer.token) == ("local", ADA, "hf_demo")


def test_on_a_space_no_token_of_the_machine_is_used(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("hf_mine")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    assert token_here(replace(HOSTED, demo_token="hf_demo")) is False


def test_a_token_that_the_hub_refuses_ends_the_sign_in_and_is_not_asked_again():
    hub = Asked(TokenRefused("no"))
    for _ in range(3):
        with pytest.raises(SignedOut, match="has ended"):
            viewer_of(HOSTED, request("s"), token(), hub_for=hub)
    assert hub.calls == ["hf_ada"]


def test_a_script_that_sends_its_token_is_known_by_it():
    """Gradio gives no time of expiry for it."""
    sent = gr.OAuthToken(token="hf_ada", scope="", expires_at=0)
    assert viewer_of(HOSTED, request("s"), sent, hub_for=Asked()).owner == "hf:6a"
