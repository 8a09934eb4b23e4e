"""Who may log in to a guest, and its host key: what its seed says, and is to say."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from virtkit import access, seed
from virtkit.apply.guest.context import GuestContext
from virtkit.apply.volumes import seed_files
from virtkit.state import public_keys


class SeedKeys:
    """The keys in the seed of one guest."""

    def __init__(self, context: GuestContext) -> None:
        self._context = context

    def requested(self) -> tuple[str, ...] | None:
        """The keys that the guest is to let in: those of its spec, or those that it was made with.

        None of them where it has no seed. None where an older version of virtkit made it, and its
        seed does not say which these are.
        """
        if not self._context.guest.has_seed:
            return ()
        old = self._context.old
        if old is None or self._context.from_scratch or "ssh_keys" in self._context.fields:
            return public_keys.canonical(access.authorized_keys(self._context.guest))
        if self._context.guest.keys is not None:
            return self._context.guest.keys
        current = self.current()
        if current is not None and not old.finished and self._context.guest.spec.ssh_keys is None:
            # a run that was to give it the caller's own ones was interrupted
            own = public_keys.canonical(access.own_keys(self._context.guest.environment))
            if own and set(public_keys.blobs(own)) <= set(public_keys.blobs(current)):
                return own
        return current

    def current(self) -> tuple[str, ...] | None:
        """The keys that the guest lets in now, by its record, else by its seed."""
        if self._context.old is None or self._context.old.keys is not None:
            return self._context.old.keys if self._context.old else None
        held = self.from_seed()
        return public_keys.canonical(held.authorized) if held else None

    def authorized(self, held: seed.SshKeys | None) -> Sequence[str]:
        """The lines of authorized_keys; those that ``held`` has may say more than the keys."""
        if self._context.keys is None:
            return held.authorized if held else access.authorized_keys(self._context.guest)
        if held and public_keys.same(public_keys.canonical(held.authorized), self._context.keys):
            return held.authorized
        named = self._context.guest.spec.ssh_keys is not None
        new = self._context.from_scratch or self._context.old is None
        from_spec = named and (new or self._context.guest.keys is not None)
        return access.authorized_keys(self._context.guest) if from_spec else self._context.keys

    def for_new_seed(self) -> seed.SshKeys:
        """Who may log in, and the host key, for a seed that is about to be made.

        A guest that lives on keeps its instance and its host key. Another one gets new ones, and
        its record has them before this returns.
        """
        held = None if self._context.from_scratch else self.from_seed()
        authorized = self.authorized(held)
        if held is not None:
            return replace(held, authorized=authorized)
        old = self._context.old
        if old is not None and old.booted and not self._context.from_scratch:
            return seed.SshKeys(authorized, "", old.host_key)
        private, public = access.new_key_pair()
        self._context.record = replace(
            self._context.record, host_key=public, instance=str(uuid.uuid4())
        )
        self._context.host.domains.write_record(self._context.record)
        return seed.SshKeys(authorized, private, public)

    def from_seed(self) -> seed.SshKeys | None:
        """The keys in the seed that the guest has; None where it can't be read."""
        return self.read_seed()[0] if self._context.record.instance else None

    def read_seed(self) -> tuple[seed.SshKeys | None, str]:
        """The keys and the instance in the guest's seed; nothing where it can't be read."""
        files = seed_files(self._context.host.storage, self._context.guest)
        return seed.keys_in(files), seed.instance_in(files)
