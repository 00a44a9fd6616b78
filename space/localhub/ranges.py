"""Sends a file from disk, whole or the range that was asked for."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from space.localhub.objects import BLOCK

ONE_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class Unsatisfiable(Exception):
    """A range that lies wholly beyond the end."""


def asked_range(header: str, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last, or nothing if the header is none we serve: then the file goes whole."""
    match = ONE_RANGE.fullmatch(header.strip())
    if not match or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(size - int(last), 0), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise Unsatisfiable
    return start, stop


def send_file(request: Request, path: Path, headers: Mapping[str, str], media_type: str) -> Response:
    """Answer with 200, 206 or 416. A HEAD is told the size of the whole."""
    size = path.stat().st_size
    said = {**headers, "Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff"}
    if request.method == "HEAD":
        return Response(headers={**said, "Content-Length": str(size)}, media_type=media_type)
    try:
        part = asked_range(request.headers.get("range", ""), size)
    except Unsatisfiable:
        return JSONResponse({"error": "Range Not Satisfiable"}, 416, {**said, "Content-Range": f"bytes */{size}"})
    start, stop = part or (0, size)
    if part:
        said["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    said["Content-Length"] = str(stop - start)
    return StreamingResponse(blocks_between(path, start, stop), 206 if part else 200, said, media_type)


def blocks_between(path: Path, start: int, stop: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < stop and (block := file.read(min(BLOCK, stop - start))):
            start += len(block)
            yield block
