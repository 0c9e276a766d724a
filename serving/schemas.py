"""Define what the end points answer, for OpenAPI."""

from typing import Any

from pydantic import BaseModel, Field


class Limits(BaseModel):
    image_mb: float
    request_mb: float
    request_images: int


class Models(BaseModel):
    models: list[str]
    cards: dict[str, dict[str, Any]]
    limits: Limits
    notice: str


class Task(BaseModel):
    task_uuid: str


class BulkTask(Task):
    num_images: int


class Metadata(BaseModel):
    origin: str
    net_type: str
    img_size: int
    out_dim: int
    model: str
    digest: str
    notice: str


class Prediction(BaseModel):
    target: bool
    label: int
    prediction: str


class Familiarity(BaseModel):
    familiar: bool
    distance: float
    threshold: float


class ActivationMap(BaseModel):
    """How much each place speaks for the class, 0 to 1; `box`: left, top, right, bottom of what was looked at."""

    of: str = Field(alias="class")
    box: list[float]
    grid: list[list[float]]


class Item(BaseModel):
    """What is said of an image; with an `error` the other fields but `name` and `index` are null."""

    name: str
    probabilities: dict[str, float] | None
    metadata: Metadata | None
    prediction: Prediction | None
    balanced: dict[str, float] | None
    familiarity: Familiarity | None
    map: ActivationMap | None
    index: int
    error: str | None


class Running(BaseModel):
    state: str
    done: int
    total: int
    results: list[Item]


class Failure(BaseModel):
    detail: str


def failures(**reasons: str) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's description of errors: failures(s404='unknown task')."""
    return {int(status[1:]): {"model": Failure, "description": reason} for status, reason in reasons.items()}
