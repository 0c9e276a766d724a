"""Make the key and certificate by which head, scheduler and workers know each other; copy the folder to each machine.

    python -m lesions.tools.certificates .certificates

Whoever has the key may run code as those who use it: the files are for their owner alone. They are good for a year.
"""

import argparse
import os
from pathlib import Path

from distributed.security import Security

from lesions.cluster.engine import FILES
from lesions.core.errors import InputError, run


def make(folder: Path) -> None:
    """Write the files into a new folder. Raises InputError if it is there: other machines may have copies."""
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise InputError(f"{folder}: there already; copy it to the other machines, or remove it for new ones") from None
    security = Security.temporary()
    for key, name in FILES.items():
        with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
            file.write(getattr(security, key))
    print(f"{folder}: {', '.join(FILES.values())}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new folder")
    make(parser.parse_args().folder)


if __name__ == "__main__":
    run(main)
