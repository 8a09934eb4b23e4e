"""Files of a guest that can't both be there. Pure."""

from __future__ import annotations

from virtkit.spec.draft import Entry
from virtkit.spec.errors import Problems
from virtkit.spec.problem import Problem, quote


def check(entry: Entry, problems: Problems) -> None:
    """Two files at one path, a file where another one, or a disk, needs a folder, and one in a
    folder of the host's."""
    fields = entry.fields
    of_host = [each.target for each in fields.folders]
    taken = {disk.mount: f"the disk {disk.name}" for disk in fields.disks if disk.mount}
    for index, file in enumerate(fields.files):
        paths = [each.path for each in fields.files[:index]]
        problem = None
        if file.path in paths:
            problem = Problem(
                f"the guest is given two files at {quote(file.path)}", cure="remove one of them"
            )
        elif file.path in taken:
            problem = Problem(
                f"no file can be put at {quote(file.path)}",
                why=f"{taken[file.path]} is mounted there",
                cure="put the file below that folder",
            )
        elif inside := next((e for e in of_host if f"{file.path}/".startswith(f"{e}/")), ""):
            problem = Problem(
                f"no file can be put at {quote(file.path)}",
                why=f"a folder of the host is on {inside}, and the file would hide below it, or be "
                "put into it",
                cure="put it into that folder on the host, or give it another path",
            )
        else:
            below = [e.path for e in fields.files if e.path.startswith(f"{file.path}/")]
            below += [mount for mount in (*taken, *of_host) if mount.startswith(f"{file.path}/")]
            if below:
                problem = Problem(
                    f"{quote(file.path)} would be a file and a folder",
                    why=f"{quote(below[0])} is to be in it",
                    cure="give one of them another path",
                )
        if problem is not None:
            problems.at(entry.node, ("files", index, "path"), problem)
