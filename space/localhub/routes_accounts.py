"""Routes about the caller and about cards: who am I, and is this README one the Hub takes."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel

from space.localhub.errors import Unauthorized
from space.localhub.front_matter import verdict
from space.localhub.services import TheAsker

router = APIRouter()


@router.get("/api/whoami-v2")
def whoami(asker: TheAsker) -> dict[str, Any]:
    user = asker.user
    if user is None:
        raise Unauthorized("Invalid username or password.")
    orgs = [
        {"type": "org", "id": org, "name": org, "fullname": org, "avatarUrl": "", "roleInOrg": "write"}
        for org in sorted(user.orgs)
    ]
    return {
        "type": "user",
        "id": user.id,
        "name": user.name,
        "fullname": user.fullname,
        "email": f"{user.name}@localhost",
        "emailVerified": True,
        "isPro": False,
        "avatarUrl": "",
        "orgs": orgs,
        "auth": {"type": "access_token", "accessToken": {"displayName": "local", "role": asker.role}},
    }


class Card(BaseModel):
    content: str
    repoType: str = "model"


@router.post("/api/validate-yaml")
def validate_yaml(body: Card, response: Response) -> dict[str, Any]:
    errors, warnings = verdict(body.content)
    response.status_code = 400 if errors else 200
    return {
        "errors": [{"message": message} for message in errors],
        "warnings": [{"message": message} for message in warnings],
    }
