"""What a guest's keys take from elsewhere: files beside the spec, variables of the environment.

It becomes part of the guest's ``cloud_init``, so all that is true of that is true of it. What can't
be read is an error of whoever makes the guest, and of nobody who only looks at it or removes it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from virtkit.errors import RequestError, SpecErrors
from virtkit.spec.document import CLOUD_INIT, read_document
from virtkit.spec.files import read_file
from virtkit.spec.model.base import DEFAULT_USER
from virtkit.spec.model.secret import is_crypt_hash
from virtkit.spec.nodes import Node, error_at
from virtkit.spec.problem import Problem, quote
from virtkit.spec.scalars import kind_of

USER_DATA, PASSWORD = "user_data", "password"
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

    def with_password(self, guest: Node) -> Node:
        """A merged guest whose ``cloud_init`` gives the login its password."""
        login = self._login(guest)
        if login is None:
            return guest
        cloud = guest.entries.get(CLOUD_INIT, Node({}, login.path[:-2], login.mark, login.key))
        users = cloud.entries.get("users", Node([], login.path[:-1], login.mark, login.key))
        if not isinstance(cloud.value, dict) or not isinstance(users.value, list):
            return guest  # which is refused
        both = Node([login, *users.value], users.path, users.mark, users.key)
        entries = {**cloud.value, "users": both}
        cloud = Node(entries, cloud.path, cloud.mark, cloud.key)
        return Node({**guest.entries, CLOUD_INIT: cloud}, guest.path, guest.mark, guest.key)

    def _user_data(self, guest: Node) -> Node | None:
        node = guest.entries.get(USER_DATA)
        if node is None or not isinstance(node.value, str):
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

    def _login(self, guest: Node) -> Node | None:
        """The entry of ``users`` that gives the login its password."""
        node = guest.entries.get(PASSWORD)
        text = None if node is None else self._secret(node)
        if node is None or text is None:
            return None
        user = guest.entries.get("user")
        login: dict[str, Any] = {
            "name": user.value if user is not None else DEFAULT_USER,
            "lock_passwd": False,
            "hashed_passwd" if is_crypt_hash(text) else "plain_text_passwd": text,
        }
        path = (*guest.path, CLOUD_INIT, "users", 0)
        entries = {key: Node(e, (*path, key), node.mark, node.key) for key, e in login.items()}
        return Node(entries, path, node.mark, node.key)

    def _secret(self, node: Node) -> str | None:
        """A text, or what the file or the variable holds that a map names."""
        if isinstance(node.value, str):
            return node.value
        name, path = node.entries.get("env"), node.entries.get("file")
        if path is not None and isinstance(path.value, str):
            text = self._text(path, path.value)
            return None if text is None else text.rstrip("\r\n")
        if name is None or not isinstance(name.value, str):
            return None
        text = os.environ.get(name.value)
        if text is None:
            what = f"the variable {quote(name.value)} is not set"
            self._refuse(name, Problem(what, cure=f"export {name.value}=… before you run this"))
        return text

    def _text(self, node: Node, path: str) -> str | None:
        try:
            return read_file(path, self.folder / Path(path).expanduser())
        except RequestError as error:
            self._refuse(node, Problem(error.what, why=error.why, cure=error.cure))
            return None

    def _refuse(self, node: Node, problem: Problem) -> None:
        self.unread.append(error_at(node.position, node.path, problem))
