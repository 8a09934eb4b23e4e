"""What the steps of one guest share: its change, its record, and what the change takes.

``record`` is the journal: each step writes into it what it did.
"""

from __future__ import annotations

from virtkit.apply.context import Context
from virtkit.drivers.fields import FIRST_BOOT, FOLLOWED
from virtkit.plan import Change
from virtkit.state.desired import Guest
from virtkit.state.observed import ObservedGuest


class GuestContext:
    """One guest that is made, recreated, changed, completed or started."""

    def __init__(self, context: Context, change: Change) -> None:
        assert isinstance(change.desired, Guest)
        assert change.observed is None or isinstance(change.observed, ObservedGuest)
        self.host_context = context
        self.host = context.host
        self.guest = change.desired
        self.observed = change.observed
        self.old = self.observed.record if self.observed else None
        self.causes = {each.field: each.cause for each in change.reasons}
        self.staged = dict(change.staged)
        self.fields = {each.field.partition(".")[0] for each in change.reasons}
        live = [each.field for each in change.reasons if each.effect == "live"]
        self._live_fields = {each.partition(".")[0] for each in live}
        roots = [e for e in (self.old.volumes if self.old else ()) if e.role == "root"]
        #: Whether it is created or recreated: all of it is made, but for disks that stay. Not where
        #: only its domain was lost and its root is still there.
        self.from_scratch = change.action == "replace" or (
            change.action == "create" and not any(each.state == "made" for each in roots)
        )
        #: Whether nothing is to be done but to give it its playbooks.
        self.provisions_only = (
            change.action == "update"
            and set(self.causes) == {"playbooks"}
            and self.observed is not None
            and self.observed.state == "running"
        )
        #: Whether it is only started; an interrupted run may have left more to be done.
        self.starts_only = change.action == "start" and not (self.old and not self.old.finished)
        self.running = (
            self.observed is not None and self.observed.state != "stopped" and not self.from_scratch
        )
        # a guest that did not let go of a device is restarted where somebody asks for that
        stuck = self.old is not None and bool(self.old.detaching) and not self.old.finished
        needed = change.effect == "restart" or stuck
        self.restarts = self.running and context.options.restart and needed
        self.record = self.old or context.record_of_guest(self.guest)
        self.xml = self.record.rendered
        #: The keys that it is to let in; None where nobody knows which it has and has to keep.
        self.keys: tuple[str, ...] | None = None

    @property
    def to_be_started(self) -> bool:
        """Whether the guest is started: where the spec leaves it off, only one that ran is."""
        return self.guest.spec.start or self.restarts

    @property
    def provisions(self) -> bool:
        """Whether the guest is given playbooks."""
        playbooks = self.guest.playbooks
        provisioned = None if self.old is None or self.from_scratch else self.old.provisioned
        return playbooks is not None and (provisioned is None or not provisioned.has(playbooks))

    @property
    def _gets_what_may_fail(self) -> bool:
        """Whether a new guest is given files or a password, by a first boot that is over once it is
        ready: then somebody looks whether it has them."""
        has_some = bool(self.guest.spec.files) or self.guest.spec.password is not None
        waits = self.host_context.options.wait and self.guest.spec.ready.kind != "none"
        return has_some and waits and self.guest.skips_cloud_init

    @property
    def follows(self) -> bool:
        """Whether the guest's own system has something to do once it runs."""
        if not self.guest.has_seed:
            return False
        if self.old is None or self.from_scratch:
            return self._gets_what_may_fail
        unfinished = not self.old.finished and self.guest.spec.ready.kind != "none"
        if self.running and not self.restarts:
            return unfinished or bool(self._live_fields & FOLLOWED)
        # what boots again has it from its seed, but where cloud-init reads that
        late = self.old.booted and not self.guest.skips_cloud_init
        return late and (unfinished or bool(self.fields & FIRST_BOOT))

    def command(self, verb: str, *options: str) -> str:
        """The command that does ``verb`` to the guest."""
        return self.host_context.options.command(verb, self.guest.name, *options)
