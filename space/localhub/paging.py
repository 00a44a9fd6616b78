"""Long answers go out page by page, with the next page's address in the `Link` header."""

import re
from collections.abc import Sequence
from typing import TypeVar

from fastapi import Request, Response

from space.localhub.errors import BadRequest

Item = TypeVar("Item")
NUMBER = re.compile(r"[0-9]{1,9}")


def one_page(request: Request, response: Response, items: Sequence[Item], most: int) -> Sequence[Item]:
    """The page that the request's cursor points at. The cursor is the number of items before it."""
    start = asked_number(request, "cursor", 0)
    size = max(1, min(asked_number(request, "limit", most), most))
    if start + size < len(items):
        url = request.url.include_query_params(cursor=start + size)
        response.headers["Link"] = f'<{url}>; rel="next"'
    return items[start : start + size]


def asked_number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not NUMBER.fullmatch(text):
        raise BadRequest(f"Invalid {name}.")
    return int(text)
