"""Where an image's tree is made, for a caller whose folders are not what they should be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: Prints where a build would be made, or why nowhere.
SCRIPT = """
from pathlib import Path
from virtkit.errors import RequestError
from virtkit.images import build_folder
print(list(build_folder.leftovers()))
try:
    with build_folder.tree_folder(Path.cwd()) as folder:
        print(folder)
except RequestError as error:
    print(error.why)
"""


def test_a_temporary_folder_that_the_caller_may_not_look_at(tmp_path: Path) -> None:
    closed, work = tmp_path / "closed", tmp_path / "work"
    (closed / "tmp").mkdir(parents=True)
    work.mkdir()
    closed.chmod(0)
    line = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", SCRIPT]
    done = subprocess.run(
        line if os.geteuid() == 0 else line[3:],
        cwd=work,
        env={**os.environ, "TMPDIR": str(closed / "tmp")},
        capture_output=True,
        text=True,
        check=False,
    )
    closed.chmod(0o700)
    assert done.returncode == 0, done.stderr
    assert list((closed / "tmp").iterdir()) == []
