"""What a guest's keys take from elsewhere: files beside the spec, variables of the environment.

What ``user_data`` names becomes part of the guest's ``cloud_init``, so all that is true of that is
true of it. What can't be read is an error of whoever makes the guest, and of nobody who only looks
at it or removes it.
"""

from __future__ import annotations

import json
import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from virtkit.errors import RequestError, SpecErrors
from virtkit.spec.document import CLOUD_INIT, read_document
from virtkit.spec.files import read_content, read_file
from virtkit.spec.model import MAX_FILES_SIZE
from virtkit.spec.model.ignition import MAX_IGNITION_SIZE
from virtkit.spec.nodes import Node, error_at
from virtkit.spec.problem import Problem, quote
from virtkit.spec.scalars import kind_of
from virtkit.spec.values import host_path

USER_DATA, PASSWORD, FILES, IGNITION = "user_data", "password", "files", "ignition"
#: Why an Ignition file is no larger, and what to do.
_IGNITION_LIMIT = (
    "it is read at each plan, and copied for each guest",
    "have it fetch the rest itself: `ignition: {config: {merge: [{source: URL}]}}`",
)
#: How a file begins that cloud-init takes for keys, and not for a program or an archive.
_CLOUD_CONFIG = "#cloud-config"


@dataclass
class References:
    """Reads what the guests of a spec in ``folder`` name; ``unread`` is what could not be."""

    folder: Path
    unread: list[RequestError] = field(default_factory=list)

    def layers(self, guest: Node) -> list[Node]:
        """What lies under all layers of a guest: the cloud-config that its ``user_data`` names."""
        cloud = self._user_data(guest)
        if cloud is None:
            return []
        return [Node({CLOUD_INIT: cloud}, guest.path, cloud.mark, cloud.key)]

    def file_contents(self, guest: Node) -> dict[str, bytes]:
        """What is in each of the files that a merged guest is given, by its path in the guest."""
        answer: dict[str, bytes] = {}
        files = guest.entries.get(FILES)
        for each in files.items if files is not None else ():
            content = self._content(each)
            if content is not None:
                answer[str(each.entries["path"].value)] = content
        if files is not None and sum(map(len, answer.values())) > MAX_FILES_SIZE:
            problem = Problem(
                f"the guest's files have more than {MAX_FILES_SIZE // 1024} KiB together",
                why="they lie in its seed, which it reads when it boots",
                cure="have the guest fetch the largest (a playbook, or `cloud_init: {runcmd: …}`), "
                "put it into an image, or copy it with `virtkit cp`",
            )
            self._refuse(files, problem)
        return answer

    def password(self, guest: Node) -> str | None:
        """The login's password, or the hash of it; None where there is none to be read."""
        node = guest.entries.get(PASSWORD)
        text = None if node is None else self._secret(node)
        if node is None or text is None:
            return None
        if not text or any(unicodedata.category(each) in ("Cc", "Cs") for each in text):
            problem = Problem(
                "the password is empty, or is no single line of text",
                cure="give the variable or the file one line",
            )
            self._refuse(next(iter(node.entries.values()), node), problem)
            return None
        return text

    def ignition(self, guest: Node) -> bytes:
        """What is in the Ignition file of a merged guest; nothing where there is none, or none to
        be read."""
        node = guest.entries.get(IGNITION)
        if node is None or node.value is None:
            return b""
        path = node if isinstance(node.value, str) else node.entries.get("file")
        content = self._given(path, node, MAX_IGNITION_SIZE, _IGNITION_LIMIT)
        problem = None if content is None else _no_ignition(content)
        if problem is not None:
            self._refuse(node, problem)
        return content or b""

    def _content(self, file: Node) -> bytes | None:
        source, content = file.entries.get("source"), file.entries.get("content")
        if content is None:
            return self._given(source, file, MAX_FILES_SIZE)
        if isinstance(content.value, str):
            return content.value.encode()
        return self._given(content.entries.get("file"), content, MAX_FILES_SIZE)

    def _given(self, path: Node | None, around: Node, limit: int, *larger: Any) -> bytes | None:
        """What is in the file that ``path`` names, else in the variable that ``around`` does.

        Args:
            limit: bytes that a file may have, and ``larger`` what is said of one that has more.
        """
        if path is None:
            text = self._variable(around.entries["env"])
            return None if text is None else os.fsencode(text)
        name = str(path.value)
        try:
            return read_content(self.folder / Path(name).expanduser(), name, limit, *larger)
        except RequestError as error:
            self._refuse(path, Problem(error.what, why=error.why, cure=error.cure))
            return None

    def _user_data(self, guest: Node) -> Node | None:
        node = guest.entries.get(USER_DATA)
        if node is None or not isinstance(node.value, str) or not _is_path(node.value):
            return None
        text = self._text(node, node.value)
        if text is None:
            return None
        source = node.value
        path = (*guest.path, CLOUD_INIT)
        if text.partition("\n")[0].strip() != _CLOUD_CONFIG:
            self._refuse(
                node,
                Problem(
                    f"{quote(source)} is not cloud-config",
                    why=f"its first line is not {_CLOUD_CONFIG}",
                    cure="begin it with that line, or run the program by `cloud_init: {runcmd: …}`",
                ),
            )
            return None
        try:
            root, problems = read_document(text, source, path)
        except SpecErrors as errors:
            self.unread += errors.errors
            return None
        self.unread += [error_at(each.mark, each.path, each.problem) for each in problems]
        if root is None or isinstance(root.value, dict):
            return root
        what = f"{quote(source)} is {kind_of(root.plain())}, and no map of cloud-config's keys"
        self._refuse(node, Problem(what, cure="write `key: value` lines"))
        return None

    def _secret(self, node: Node) -> str | None:
        """A text, or what the file or the variable holds that a map names."""
        if isinstance(node.value, str):
            return node.value
        name, path = node.entries.get("env"), node.entries.get("file")
        if path is not None and isinstance(path.value, str):
            text = self._text(path, path.value)
            return None if text is None else text.rstrip("\r\n")
        return None if name is None else self._variable(name)

    def _variable(self, node: Node) -> str | None:
        """What a variable of the environment holds."""
        name = str(node.value)
        text = os.environ.get(name)
        if text is None:
            what = f"the variable {quote(name)} is not set"
            self._refuse(node, Problem(what, cure=f"export {name}=… before you run this"))
        return text

    def _text(self, node: Node, path: str) -> str | None:
        try:
            return read_file(path, self.folder / Path(path).expanduser())
        except RequestError as error:
            self._refuse(node, Problem(error.what, why=error.why, cure=error.cure))
            return None

    def _refuse(self, node: Node, problem: Problem) -> None:
        self.unread.append(error_at(node.position, node.path, problem))


def _is_path(text: str) -> bool:
    """Whether a text is the path of a file, as far as that alone tells. The model says why not."""
    try:
        return bool(host_path(text))
    except Problem:
        return False


def _no_ignition(content: bytes) -> Problem | None:
    """Why a content is none that Ignition takes; None where it may be. It may hold secrets, so
    nothing of it is told."""
    try:
        config = json.loads(content)
    except (ValueError, RecursionError):
        return Problem(
            "this is no Ignition file",
            why="it is not JSON",
            cure="make one of a Butane file: butane --strict config.bu > config.ign",
        )
    ignition = config.get("ignition") if isinstance(config, dict) else None
    version = ignition.get("version") if isinstance(ignition, dict) else None
    if isinstance(version, str):
        return None
    return Problem(
        "this is no Ignition file",
        why='it does not say `"ignition": {"version": …}`',
        cure='begin it with {"ignition": {"version": "3.3.0"}}, or as your system\'s manual has it',
    )
