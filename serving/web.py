"""Put security headers, the log and JSON errors around the end points, and serve /docs from here."""

import logging
import time

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "default-src 'self'; img-src 'self' blob:; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
DOCS_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
DOCS = """<!doctype html><html lang="en"><meta charset="utf-8"><title>lesions: API</title>
<link rel="stylesheet" href="static/swagger-ui.css"><link rel="icon" href="data:,"><div id="swagger-ui"></div>
<script src="static/swagger-ui-bundle.js"></script><script src="docs.js"></script></html>"""
log = logging.getLogger("serving")


class Around:
    """Put security headers on every answer, and a line into the log that names no picture and no client."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(
                    HEADERS | {"Content-Security-Policy": DOCS_POLICY if scope["path"] == "/docs" else POLICY}
                )
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "") or "/"
            took = (time.perf_counter() - begun) * 1000
            log.info("%s %s %d %.0f ms", scope["method"], route, status, took)


def errors(app: FastAPI) -> None:
    """Answer every error with a JSON body that has one line, `detail`."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()[0]
        return JSONResponse({"detail": f"{'.'.join(map(str, found['loc']))}: {found['msg']}"}, 422)

    @app.exception_handler(SQLAlchemyError)
    async def database(request: Request, error: SQLAlchemyError) -> JSONResponse:
        log.error("the database does not answer: %s", type(error).__name__)
        return JSONResponse({"detail": "the database does not answer; try again"}, 503, {"Retry-After": "5"})


def documentation(app: FastAPI) -> None:
    """Serve /docs with Swagger's files from this server."""
    app.mount("/static", StaticFiles(packages=[("fastapi_offline", "static")]), "static")

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(DOCS)
