"""Pack what workers without a checkout need: the sources, and the names of the packages that these ask for."""

import io
import re
import subprocess
import tarfile
from pathlib import Path

from dvc.repo import Repo
from dvc.stage import PipelineStage

from lesions.core.errors import InputError


def pinned(requirements: Path) -> list[str]:
    """Return the names of the packages that a requirements.txt pins."""
    text = requirements.read_text(encoding="utf-8") if requirements.exists() else ""
    return re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)


def packed(repo: Repo) -> bytes:
    """Return as a tar what git knows, or would add, of what stages read, but no outputs; the same bytes each time."""
    stages = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]
    root, outs = Path(repo.root_dir), {Path(out.fs_path) for stage in stages for out in stage.outs}
    local = [Path(dep.fs_path) for stage in stages for dep in stage.deps if dep.protocol == "local"]
    tops = {path.relative_to(root).parts[0] for path in local}
    listing = ["git", "ls-files", "-z", "-co", "--exclude-standard", "--", "dvc.yaml", ".dvcignore", *tops]
    try:
        names = subprocess.run(listing, cwd=root, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        raise InputError(
            f"{root}: not a git repository; which files to send to other machines is asked of git"
        ) from None
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in sorted(set(filter(None, names))):
            path = root / name
            if path.is_file() and not {path, *path.parents} & outs:
                info = tarfile.TarInfo(name)
                info.size, info.mode = path.stat().st_size, path.stat().st_mode & 0o777
                archive.addfile(info, io.BytesIO(path.read_bytes()))
    return packed.getvalue()
