"""Answer as study E's API does, and more: models, predictions of pictures, tasks, health, metrics, docs, the page.

uvicorn serving.app:app --workers 4 --no-access-log
"""

import asyncio
import hmac
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from anyio import CancelScope, CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response, Security
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import SQLAlchemyError
from starlette.middleware.trustedhost import TrustedHostMiddleware

from serving import NOTICE, models, prepare, settings, uploads, web
from serving.schemas import BulkTask, Item, Limits, Models, Running, Task, failures
from serving.settings import Settings
from serving.tasks import BUSY, ENDED, Queue, QueueFullError
from serving.uploads import Upload

HERE = Path(__file__).parent
TOGETHER, TOGETHER_BYTES = 32, 8e6  # images, bytes that one transaction keeps
TEND = 5  # seconds
router = APIRouter()
REFUSED = failures(
    s400="unknown model", s401="wrong token", s413="too large", s415="neither JPEG nor PNG", s422="unreadable",
    s429="too many uploads at once", s503="the queue is full, or the database does not answer",
)  # fmt: skip


class Server:
    """What the end points share: settings, the queue, and how many uploads are received at this moment."""

    def __init__(self, told: Settings) -> None:
        self.settings, self.queue = told, Queue(told)
        self.receiving = 0
        self.decoding = CapacityLimiter(2)  # a decoded picture takes up to 150 MB

    def known(self, name: str) -> str:
        there = models.find(self.settings)
        if name not in there:
            raise HTTPException(400, models.unknown(name, there, self.settings))
        return name

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places for uploads. Raises HTTPException 429 where all are taken, 503 for a full queue."""
        if self.receiving >= self.settings.uploads:
            raise HTTPException(429, "too many uploads at once; try again", {"Retry-After": "2"})
        self.receiving += 1
        try:
            yield
        except QueueFullError:
            raise HTTPException(503, "the queue is full; try again", {"Retry-After": "5"}) from None
        finally:
            self.receiving -= 1

    def checked(self, upload: Upload) -> str | None:
        """Return what the picture's size and header say against it."""
        if upload.too_large:
            return f"more than {self.settings.image_mb:g} MB"
        try:
            prepare.opened(upload.content, self.settings.image_mpx)
        except prepare.ImageError as error:
            return str(error)
        return None

    async def one(self, request: Request) -> Upload:
        """Receive the one picture of a request, and decode it to see that it can be."""
        limit = self.settings.image_mb
        found = [upload async for upload in uploads.received(request, limit, limit + uploads.FRAME / 1e6)]
        if len(found) != 1:
            raise HTTPException(422, f"{len(found)} images; expected one. /predict_bulk takes many")
        if found[0].too_large:
            raise HTTPException(413, f"the image has more than {limit:g} MB")
        mpx = self.settings.image_mpx
        try:
            await to_thread.run_sync(prepare.decoded, found[0].content, mpx, limiter=self.decoding)
        except prepare.ImageError as error:
            raise HTTPException(error.status, str(error)) from None
        return found[0]

    async def many(self, request: Request, task: str, model: str) -> int:
        """Receive and keep many pictures as they arrive; return how many."""
        told, count, size = self.settings, 0, 0
        waiting: list[tuple[int, Upload]] = []

        def keep() -> None:
            self.queue.add(task, model, [(place, u.name, u.content, self.checked(u)) for place, u in waiting])

        async for upload in uploads.received(request, told.image_mb, told.request_mb):
            if count == told.request_images:
                raise HTTPException(413, f"more than {told.request_images} images in a request")
            waiting.append((count, upload))
            count, size = count + 1, size + len(upload.content)
            if len(waiting) == TOGETHER or size >= TOGETHER_BYTES:
                await to_thread.run_sync(keep)
                waiting, size = [], 0
        await to_thread.run_sync(keep)
        if not count:
            raise HTTPException(422, "no image in the request: send them as `files` of a form")
        return count

    async def tend(self) -> None:
        """Let old tasks expire, also where no worker lives."""
        while True:
            await asyncio.sleep(TEND)
            with suppress(SQLAlchemyError):
                await to_thread.run_sync(self.queue.tend)


def shared(request: Request, given: Annotated[Any, Security(HTTPBearer(auto_error=False))]) -> Server:
    """Return what the end points share. Refuses a request without the token, where one is set."""
    server: Server = request.app.state.server
    token = given.credentials if given else ""
    if server.settings.token and not hmac.compare_digest(server.settings.token.encode(), token.encode()):
        raise HTTPException(401, "a token is asked for", {"WWW-Authenticate": "Bearer"})
    return server


Shared = Annotated[Server, Depends(shared)]
Name = Annotated[str, Query(description="one of /public_models", max_length=200)]
IMAGE = {"type": "string", "format": "binary"}
FORM = uploads.openapi("file", IMAGE, "image/jpeg", "image/png")
BULK_FORM = uploads.openapi("files", {"type": "array", "items": IMAGE})
TOKEN = failures(s401="wrong token")
UNKNOWN = TOKEN | failures(s404="unknown task")
TASK = {202: {"model": Running, "description": "not all images are done"}, **UNKNOWN, **failures(s410="has gone")}


@router.get("/public_models", responses=TOKEN)
def public_models(server: Shared) -> Models:
    """Say which models there are, what each one's card says, and what an upload may have."""
    there, told = models.find(server.settings), server.settings
    cards = {name: found.card for name, found in there.items()}
    limits = Limits(image_mb=told.image_mb, request_mb=told.request_mb, request_images=told.request_images)
    return Models(models=list(there), cards=cards, limits=limits, notice=NOTICE)


@router.post("/predict", responses=REFUSED, openapi_extra=FORM)
async def predict(request: Request, server: Shared, model_id: Name = "") -> Task:
    """Take one JPEG or PNG, as `file` of a form or as the body, and answer with its task."""
    model = server.known(model_id)
    with server.place():
        upload = await server.one(request)
        task = await to_thread.run_sync(server.queue.create)
        await to_thread.run_sync(server.queue.add, task, model, [(0, upload.name, upload.content, None)])
        await to_thread.run_sync(server.queue.start, task)
    return Task(task_uuid=task)


@router.post("/predict_bulk", responses=REFUSED, openapi_extra=BULK_FORM)
async def predict_bulk(request: Request, server: Shared, model_id: Name = "") -> BulkTask:
    """Take many pictures, as `files` of a form; a bad one gets an `error` among the results, the rest goes on."""
    model = server.known(model_id)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(422, "no image in the request: send them as `files` of a form")
    with server.place():
        task = await to_thread.run_sync(server.queue.create)
        try:
            count = await server.many(request, task, model)
            await to_thread.run_sync(server.queue.start, task)
        except BaseException:  # a client that goes away, too
            with CancelScope(shield=True):
                await to_thread.run_sync(server.queue.end, task, "cancelled")
            raise
    return BulkTask(task_uuid=task, num_images=count)


@router.get("/from_task/{task_uuid}", response_model=list[Item], responses=TASK)
def from_task(server: Shared, task_uuid: str) -> Response:
    """Give what is said of each image, in the order of the upload; 202 and what there is while the task runs."""
    progress = server.queue.progress(task_uuid)
    if progress is None:
        raise HTTPException(404, "unknown task")
    if progress.gone:
        raise HTTPException(410, f"the task is {progress.gone}")
    results = f"[{','.join(progress.results)}]"
    if progress.done == progress.total:
        return Response(results, media_type="application/json")
    state = "running" if progress.started else "queued"
    text = f'{{"state":"{state}","done":{progress.done},"total":{progress.total},"results":{results}}}'
    return Response(text, 202, {"Retry-After": "1"}, "application/json")


@router.delete("/from_task/{task_uuid}", status_code=204, responses=UNKNOWN)
def cancel(server: Shared, task_uuid: str) -> None:
    """Cancel a task; pictures, names and results are deleted."""
    if not server.queue.end(task_uuid, "cancelled"):
        raise HTTPException(404, "unknown task, or one that has gone already")


@router.get("/health/live")
def live() -> dict[str, str]:
    """Say that this process answers."""
    return {"status": "live"}


@router.get("/health/ready", responses=failures(s503="not ready"))
def ready(request: Request) -> dict[str, str]:
    """Say whether the database answers, a worker lives and there is a model."""
    server: Server = request.app.state.server
    if not server.queue.alive():
        raise HTTPException(503, "no worker", {"Retry-After": "1"})
    if not models.find(server.settings):
        raise HTTPException(503, models.unknown("", {}, server.settings))
    return {"status": "ready"}


@router.get("/metrics", response_class=PlainTextResponse, responses=TOKEN)
def metrics(server: Shared) -> str:
    """Give figures in Prometheus' text format; they are the database's, so every process gives the same."""
    figures = server.queue.figures()
    lines = ["# TYPE lesions_images gauge"]
    lines += [f'lesions_images{{state="{s}"}} {figures["states"].get(s, 0)}' for s in (*BUSY, *ENDED)]
    for name, value in (
        ("oldest_queued_seconds", f"{figures['waited']:.3f}"), ("workers", len(figures["workers"])),
        ("models", len(models.find(server.settings))),
    ):  # fmt: skip
        lines += [f"# TYPE lesions_{name} gauge", f"lesions_{name} {value}"]
    lines.append("# TYPE lesions_worker_images_total counter")
    for row in figures["workers"]:
        lines += [f'lesions_worker_images_total{{worker="{row.id}",state="{s}"}} {getattr(row, s)}' for s in ENDED]
    return "\n".join(lines) + "\n"


def build(told: Settings) -> FastAPI:
    """Return the application."""
    server = Server(told)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        tending = asyncio.create_task(server.tend())
        yield
        tending.cancel()

    app = FastAPI(title="lesions", description=NOTICE, lifespan=life, docs_url=None, redoc_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=told.hosts.split(","))
    app.add_middleware(web.Around)
    web.errors(app)
    app.state.server = server
    app.include_router(router)
    web.documentation(app)
    app.mount("/", StaticFiles(directory=HERE / "ui", html=True), "page")
    return app


def __getattr__(name: str) -> Any:
    """Build `app` when a server asks for it, not when this file is imported."""
    if name != "app":
        raise AttributeError(name)
    try:
        found = globals()["app"] = build(settings.read())
    except settings.InputError as error:
        sys.exit(f"error: {error}")
    return found
