"""One guest made, recreated, changed, completed or started, in an order that a crash survives.

The record is the journal: what is asked is written before it is done, and each step may run again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from virtkit import access, seed
from virtkit.apply.context import GRACE, Context
from virtkit.apply.engine import Say
from virtkit.apply.guest.definition import Definition
from virtkit.apply.guest.seed_keys import SeedKeys
from virtkit.apply.guest.volumes import Volumes
from virtkit.apply.guest.work import Work
from virtkit.apply.hotplug import Hotplug
from virtkit.apply.provision import provision, wait_login
from virtkit.apply.shutdown import stop
from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.host import FileUnusable, Unreachable
from virtkit.plan import Change
from virtkit.progress import Progress
from virtkit.state import public_keys
from virtkit.xml import diff, tree

#: Seconds that a guest gets to follow.
_FOLLOW = 120.0


class GuestSteps:
    """The steps of one guest that is made, recreated, changed, completed or started."""

    def __init__(self, context: Context, change: Change) -> None:
        self.work = Work(context, change)
        self._seed_keys = SeedKeys(self.work)
        self.definition = Definition(self.work, self._seed_keys)
        self.volumes = Volumes(self.work, self._seed_keys)

    @property
    def _hotplug(self) -> Hotplug:
        return Hotplug(self.work.host, self.work.guest)

    def stop(self, progress: Progress) -> None:
        assert self.work.observed is not None
        stays = self.work.restarts or any(
            e.role == "disk" for e in self.work.observed.record.volumes
        )
        driver = DRIVERS[self.work.observed.record.type]
        stop(self.work.host, driver, self.work.observed.domain, GRACE if stays else 0.0, progress)

    def unplug(self, progress: Progress) -> None:
        """Takes from the running guest what it is no longer to have; it unmounts disks first,
        and for that it must not be paused."""
        self.work.host.domains.resume(self.work.guest.driver, self.work.guest.domain)
        if any("/disk[" in each for each in self.work.record.detaching):
            self.follow(progress)
        self._hotplug.unplug(self.work.record, progress)

    def plug(self, say: Say) -> None:
        self._hotplug.plug(self.work.xml, say)

    def follow(self, _say: Say) -> None:
        """Lets the guest's own system follow: cards, keys, disks and their size, CPUs."""
        authorized = self._seed_keys.authorized(self._seed_keys.held())
        still = set(public_keys.blobs(authorized))
        former = [e for e in public_keys.blobs(self.work.record.keys or ()) if e not in still]
        script = seed.update(self.work.guest, authorized, self._detaching_disks(), former)
        folder = Path(self.work.guest.source_folder)
        try:
            ran = access.run(
                self.work.host, self.work.record, folder, ["sh", "-c", script], _FOLLOW
            )
            why = ran.err.decode("utf-8", "replace").strip() if ran.code != 0 else ""
        except Unreachable as error:
            # nobody expects anything of this guest
            why = str(error) if self.work.guest.spec.ready.kind != "none" else ""
        if why:
            raise VirtkitError(
                f"guest {self.work.guest.name} did not apply the change",
                why=why,
                cure=self._follow_cure(),
                where=f"{self.work.host.name} guest/{self.work.guest.name}",
            )

    def _follow_cure(self) -> str:
        """What helps a guest whose system did not follow."""
        keys_change = self.work.keys is not None and not public_keys.same(
            self.work.keys, self.work.record.keys or ()
        )
        if keys_change:
            again = "run again where you have a key that it accepts"
            restart = "`virtkit restart` gives it the new keys, which its seed has; or "
            return restart + again if self.work.guest.skips_cloud_init else again
        return "see `virtkit logs`; end what uses the disk or the card in the guest, then run again"

    def _detaching_disks(self) -> dict[str, str]:
        """The disks that the running guest is no longer to have, and what it calls them."""
        answer = {}
        xml = self.work.host.domains.live(self.work.guest.driver, self.work.guest.domain)
        live = tree.parse(xml, "a domain") if xml else None
        for each in self.work.record.volumes:
            # a template may call it otherwise
            target = diff.target_of(live, each.key) if live is not None else each.target
            if f"devices/disk[{target}]" in self.work.record.detaching:
                name = each.name.removeprefix(f"{self.work.guest.domain}-")
                device = self.work.guest.driver.disk_device
                answer[name] = device.format(name=name, target=target)
        return answer

    def start(self) -> None:
        try:
            self.work.host.domains.start(self.work.guest.driver, self.work.guest.domain)
        except FileUnusable as error:
            cure = _image_cure(self.work.guest.image.name, self.work.down())
            raise error.retold(FileUnusable, cure=cure) from error

    def wait_ready(self, progress: Progress) -> None:
        folder, current = Path(self.work.guest.source_folder), self.work.record.keys or ()
        late = (
            self.work.follows
            and self.work.keys is not None
            and not public_keys.same(self.work.keys, current)
        )
        access.wait_ready(self.work.host, self.work.record, folder, progress, keys_follow=late)

    def wait_login(self, progress: Progress) -> None:
        wait_login(self.work.context, self.work.record, progress, keys_follow=self.work.follows)

    def provision(self, progress: Progress) -> None:
        assert self.work.guest.playbooks is not None
        variables = self.work.guest.spec.vars
        self.work.record = provision(
            self.work.context, self.work.record, self.work.guest.playbooks, variables, progress
        )

    def finish(self) -> None:
        """Says in the record that all is done, and what still waits for a restart."""
        new = replace(self.work.record, finished=True, booted=True)
        if self.work.keys is not None:
            new = replace(new, keys=self.work.keys, former_ssh_keys=())
        if not self.work.running or self.work.restarts:
            new = replace(new, staged={}, staged_in="", detaching=())
        if new != self.work.record:
            self.work.record = new
            self.work.host.domains.write_record(new)


def _image_cure(image: str, down: str) -> str:
    return (
        f"check that the pool's folder is mounted. `virtkit up` makes image {image} again if it is "
        f"gone or its length is wrong. If it is damaged otherwise: {down} (and whatever else uses "
        f"it), virtkit image rm {image}, virtkit up. If a disk of the guest's own is gone or "
        f"damaged: {down}, virtkit up"
    )
