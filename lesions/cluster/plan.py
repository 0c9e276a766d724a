"""Plan a run: the stages of dvc.yaml in DVC's order, what each depends on, where it can run and what it needs."""

from pathlib import Path

from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.stage import PipelineStage

from lesions.cluster import task

LOGS = Path("runs/parallel")
MACHINES = LOGS / "machines.csv"  # where stages ran

Graph = dict[str, set[str]]  # stage -> those that it depends on


def plan(repo: Repo, targets: list[str]) -> tuple[list[str], Graph]:
    """Return the stages of `dvc repro targets`, in its order, and what each of them depends on."""
    graph = get_active_graph(repo.index.graph)
    order = plan_repro(graph, collect_stages(repo, targets or ["dvc.yaml"]))
    return [s.addressing for s in order], {s.addressing: {d.addressing for d in graph.successors(s)} for s in order}


def to_run(order: list[str], graph: Graph, changed: set[str]) -> Graph:
    """Return the part of `graph` that has changed or depends on it; `order` has all stages, dependencies first."""
    found: Graph = {}
    for name in order:
        needed = graph[name] & found.keys()
        if needed or name in changed:
            found[name] = needed
    return found


def urgency(graph: Graph, work: dict[str, float]) -> dict[str, float]:
    """Return how much the longest chain from each stage on has to do; `graph` has dependencies first."""
    found = {name: work.get(name, 0.0) for name in graph}
    for name in reversed(graph):
        for before in graph[name] & graph.keys():
            found[before] = max(found[before], work.get(before, 0.0) + found[name])
    return found


def log_of(name: str) -> Path:
    return LOGS / f"{name.replace('@', '-')}.log"


def at_home(stages: dict[str, PipelineStage]) -> set[str]:
    """Return the stages that must run where the repository is: their meta says so, or they write, or read, what DVC
    keeps no copy of."""
    fixed = [Path(out.fs_path) for stage in stages.values() for out in stage.outs if task.uncached(out)]
    return {
        name
        for name, stage in stages.items()
        if (stage.meta or {}).get("home")
        or any(task.uncached(out) for out in stage.outs)
        or any(overlap(Path(dep.fs_path), path) for dep in stage.deps for path in fixed)
    }


def overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def needs(stage: PipelineStage) -> dict[str, float]:
    """Return what the stage's `meta` asks of a machine, as Dask names resources: {"gpu": 1, "memory": 8}."""
    return {name: float(amount) for name, amount in (stage.meta or {}).items() if name != "home"}


def known(stage: PipelineStage) -> bool:
    """Say whether the stage has run, as far as dvc.lock or this run says."""
    return all(one.hash_info for one in [*stage.deps, *stage.outs])


def small_files(stage: PipelineStage, before: list[PipelineStage], root: Path) -> dict[str, bytes]:
    """Return the metrics and plots that a stage reads, by path: DVC keeps no copy of them."""
    deps = {Path(dep.fs_path) for dep in stage.deps}
    found = [path for other in before for path in task.small(other)]
    return task.read([path for path in found if deps & {path, *path.parents}], root)
