"""Receive pictures: one as a raw body, or many as multipart, one after the other, without a file on disk."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

LONGEST = 200  # characters of a label
FRAME = 2000  # bytes that multipart takes around each file


@dataclass
class Upload:
    """A picture and the client's name for it, a label and never a path. Of one too large there is no content."""

    name: str
    content: bytes
    too_large: bool = False


class Parts:
    """Collect the files of a multipart body as they become whole; of one above `limit` bytes no more is kept."""

    def __init__(self, boundary: bytes, limit: float) -> None:
        self.whole: list[Upload] = []
        self.limit, self.ended = limit, False
        self.field = self.value = b""
        self.name: str | None = None
        self.content = bytearray()
        self.size = 0
        self.parser = MultipartParser(boundary, {
            "on_part_begin": self.begin, "on_part_data": self.data, "on_part_end": self.end,
            "on_header_field": self.header_field, "on_header_value": self.header_value,
            "on_header_end": self.header_end, "on_end": self.last,
        })  # fmt: skip

    def begin(self) -> None:
        self.name, self.content, self.size = None, bytearray(), 0

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self.field += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def header_end(self) -> None:
        if self.field.lower() == b"content-disposition":
            name = parse_options_header(self.value)[1].get(b"filename")
            self.name = None if name is None else label(name.decode("utf-8", "replace"))
        self.field = self.value = b""

    def data(self, data: bytes, start: int, end: int) -> None:
        self.size += end - start
        if self.name is not None and self.size <= self.limit:
            self.content += data[start:end]

    def end(self) -> None:
        if self.name is not None:  # fields that are no files do not count
            large = self.size > self.limit
            self.whole.append(Upload(self.name, b"" if large else bytes(self.content), large))
        self.content = bytearray()

    def last(self) -> None:
        self.ended = True


def label(name: str) -> str:
    """Return a client's name as a label: on one line, of bounded length."""
    return printable(name)[:LONGEST] or "image"


def printable(name: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in name)


async def received(request: Request, image_mb: float, request_mb: float) -> AsyncIterator[Upload]:
    """Yield the pictures of a request as they arrive. Raises HTTPException 413 or 422."""
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > request_mb * 1e6:
        raise HTTPException(413, f"the request has more than {request_mb:g} MB")
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        yield await raw(request, image_mb)
        return
    seen = 0
    try:
        parts = Parts(options.get(b"boundary", b""), image_mb * 1e6)
        async for chunk in request.stream():
            seen += len(chunk)
            if seen > request_mb * 1e6:
                raise HTTPException(413, f"the request has more than {request_mb:g} MB")
            parts.parser.write(chunk)
            while parts.whole:
                yield parts.whole.pop(0)
    except FormParserError as error:
        raise HTTPException(422, f"not a readable multipart body ({error})") from None
    if not parts.ended:
        raise HTTPException(422, "not a readable multipart body (it ends too early)")


async def raw(request: Request, image_mb: float) -> Upload:
    """Return the body as one picture. Raises HTTPException 413 or 422."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > image_mb * 1e6:
            raise HTTPException(413, f"the image has more than {image_mb:g} MB")
    if not content:
        raise HTTPException(422, "no image in the request: send it as `file` of a form, or as the body")
    return Upload("image", bytes(content))


def openapi(field: str, schema: dict[str, Any], *others: str) -> dict[str, Any]:
    """Return OpenAPI's description of a body with the form's `field`, or of a raw one of `others` kinds."""
    form = {"type": "object", "properties": {field: schema}, "required": [field]}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    content |= {kind: {"schema": {"type": "string", "format": "binary"}} for kind in others}
    return {"requestBody": {"required": True, "content": content}}
