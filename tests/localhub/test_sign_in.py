"""Sign-in for apps, by the letter of OpenID Connect."""

import base64
import json
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from joserfc import jwt
from joserfc.jwk import KeySet

BACK = "http://127.0.0.1:1/login/callback?_target_url=%2F"
APP, SECRET = "an-app", "a-secret"


@pytest.fixture(scope="module", autouse=True)
def registered(local_hub):
    local_hub.sign_in.apps[APP] = SECRET
    yield
    del local_hub.sign_in.apps[APP]


def question(**changed):
    asked = {"client_id": APP, "redirect_uri": BACK, "scope": "openid profile contribute-repos", "state": "s&1"}
    return "/oauth/authorize?" + urlencode({**asked, "nonce": "n", **changed})


def consent(visitor, answer="allow", user="ada", **changed):
    """Where the person is sent back to, with what."""
    said = visitor.post(question(**changed), data={"answer": answer, "user": user})
    assert said.status_code == 303
    return {name: values[0] for name, values in parse_qs(urlsplit(said.headers["location"]).query).items()}


def exchange(visitor, code, *, secret=SECRET, back=BACK):
    basic = base64.b64encode(f"{APP}:{secret}".encode()).decode()
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": back}
    return visitor.post("/oauth/token", data=form, headers={"authorization": f"Basic {basic}"})


def test_consent_becomes_a_code_and_the_code_a_token(visitor, hub):
    told = visitor.get("/.well-known/openid-configuration").json()
    back = consent(visitor)
    assert back["state"] == "s&1" and back["_target_url"] == "/"
    tokens = exchange(visitor, back["code"]).json()
    who = visitor.get("/oauth/userinfo", headers={"authorization": f"Bearer {tokens['access_token']}"}).json()
    keys = KeySet.import_key_set(visitor.get(told["jwks_uri"]).json())
    claims = jwt.decode(tokens["id_token"], keys, algorithms=["RS256"]).claims
    assert (claims["iss"], claims["aud"], claims["nonce"]) == (told["issuer"], APP, "n")
    assert claims["preferred_username"] == who["preferred_username"] == "ada"
    assert HfApi(endpoint=hub.url, token=tokens["access_token"]).whoami()["name"] == "ada"
    assert json.dumps(visitor.get(told["jwks_uri"]).json()).count('"d"') == 0


def test_a_code_is_good_once_and_for_who_asked(visitor):
    code = consent(visitor)["code"]
    assert exchange(visitor, code, secret="guessed").status_code == 401
    assert exchange(visitor, code, back=BACK + "x").status_code == 400
    assert exchange(visitor, code).status_code == 400
    code = consent(visitor)["code"]
    assert exchange(visitor, code).status_code == 200
    assert exchange(visitor, code).status_code == 400


def test_people_may_refuse_and_see_what_is_asked(visitor):
    assert consent(visitor, "deny")["error"] == "access_denied"
    page = visitor.get(question())
    assert "create models in your name" in page.text and "Bob" in page.text
    assert "private models" not in page.text


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "stranger"},
        {"redirect_uri": "https://evil.example/login/callback"},
        {"redirect_uri": "http://127.0.0.1:1/elsewhere"},
        {"scope": "openid everything"},
    ],
)
def test_other_apps_and_addresses_are_refused(visitor, changed):
    assert visitor.get(question(**changed)).status_code == 400
    assert visitor.post(question(**changed), data={"answer": "allow", "user": "ada"}).status_code == 400


def test_a_token_is_good_for_what_was_agreed_to(visitor, hub, repo_id):
    hub.store.create_repo(repo_id, private=True)
    token = exchange(visitor, consent(visitor)["code"]).json()["access_token"]
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=hub.url, token=token).model_info(repo_id)
    scope = "openid profile read-repos"
    token = exchange(visitor, consent(visitor, scope=scope)["code"]).json()["access_token"]
    app = HfApi(endpoint=hub.url, token=token)
    assert app.model_info(repo_id).id == repo_id
    with pytest.raises(HfHubHTTPError, match="can only read"):
        app.create_repo(f"{repo_id}-new")
    hub.store.accounts.revoke("ada")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        app.whoami()
