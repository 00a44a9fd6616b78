"""Routes of the sign-in for apps: where they lead, the page of consent, the tokens, and who somebody is."""

import base64
import binascii
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from space.localhub.errors import Unauthorized
from space.localhub.page import consent_page
from space.localhub.services import TheAsker, TheServices, base_url
from space.localhub.sign_in import ALGORITHM, SCOPES
from space.localhub.sign_in import Request as Asked

router = APIRouter()
# No script runs in the page of consent, and nobody can lay another page over it.
GUARDED = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


@router.get("/.well-known/openid-configuration")
def configuration(request: Request) -> dict[str, Any]:
    base = base_url(request)
    return {
        "issuer": base,
        "authorization_endpoint": f"{base}/oauth/authorize",
        "token_endpoint": f"{base}/oauth/token",
        "userinfo_endpoint": f"{base}/oauth/userinfo",
        "jwks_uri": f"{base}/oauth/jwks",
        "response_types_supported": ["code"],
        "scopes_supported": list(SCOPES),
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    }


@router.get("/oauth/jwks")
def jwks(services: TheServices) -> dict[str, Any]:
    return services.sign_in.key.public()


def asked_in_query(
    client_id: Annotated[str, Query()],
    redirect_uri: Annotated[str, Query()],
    scope: Annotated[str, Query()] = "openid",
    state: Annotated[str, Query()] = "",
    nonce: Annotated[str, Query()] = "",
) -> Asked:
    return Asked(client_id, redirect_uri, scope, state, nonce)


TheAsked = Annotated[Asked, Depends(asked_in_query)]


@router.get("/oauth/authorize")
def authorize(asked: TheAsked, services: TheServices) -> HTMLResponse:
    """The choice of a user, and the consent."""
    services.sign_in.check(asked)
    users = sorted(services.store.accounts.users.values(), key=lambda user: user.name)
    return HTMLResponse(consent_page(users, [SCOPES[s] for s in SCOPES if s in asked.scopes]), headers=GUARDED)


@router.post("/oauth/authorize")
def decide(
    asked: TheAsked,
    services: TheServices,
    answer: Annotated[str, Form()],
    user: Annotated[str, Form()] = "",
) -> RedirectResponse:
    """Send the person back to the app, with a code or with their refusal."""
    services.sign_in.check(asked)
    said = {"code": services.sign_in.allow(asked, user)} if answer == "allow" else {"error": "access_denied"}
    mark = "&" if "?" in asked.redirect_uri else "?"
    return RedirectResponse(asked.redirect_uri + mark + urlencode({**said, "state": asked.state}), 303)


@router.post("/oauth/token")
def token(
    request: Request,
    services: TheServices,
    code: Annotated[str, Form()],
    redirect_uri: Annotated[str, Form()],
    client_id: Annotated[str, Form()] = "",
    client_secret: Annotated[str, Form()] = "",
) -> dict[str, Any]:
    client = client_in(request.headers.get("authorization", "")) or (client_id, client_secret)
    return services.sign_in.tokens(code, redirect_uri, client, base_url(request))


@router.get("/oauth/userinfo")
def userinfo(request: Request, services: TheServices, asker: TheAsker) -> dict[str, Any]:
    if asker.user is None:
        raise Unauthorized("Invalid credentials.")
    return services.sign_in.userinfo(asker.user.name, base_url(request))


def client_in(authorization: str) -> tuple[str, str] | None:
    """The id and the secret of a `Basic` header."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return name, secret
