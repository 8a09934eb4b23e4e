"""One guest made, recreated, changed, completed or started, in an order that a crash survives.

The record is the journal: what is asked is written before it is done, and each step may run again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lxml import etree

from virtkit import access, seed
from virtkit.apply.context import SHUTDOWN_TIMEOUT, Context
from virtkit.apply.engine import Say
from virtkit.apply.guest.context import GuestContext
from virtkit.apply.guest.definition import GuestDefinition
from virtkit.apply.guest.seed_keys import SeedKeys
from virtkit.apply.guest.volumes import Volumes
from virtkit.apply.hotplug import Hotplug
from virtkit.apply.provision import provision, wait_login
from virtkit.apply.shutdown import stop_guest
from virtkit.drivers import DRIVERS
from virtkit.errors import VirtkitError
from virtkit.host import FileUnusable, Unreachable
from virtkit.plan import Change
from virtkit.progress import Progress
from virtkit.state import public_keys
from virtkit.xml import diff, tree

#: Seconds that a guest gets to follow.
_FOLLOW_TIMEOUT = 120.0
#: Runs a script from its input: it is too long for an argument, and nobody else may see it.
_FOLLOW_COMMAND = ("sh", "-c", 'eval "$(cat)"')


class GuestSteps:
    """The steps of one guest that is made, recreated, changed, completed or started."""

    def __init__(self, context: Context, change: Change) -> None:
        self.context = GuestContext(context, change)
        self._seed_keys = SeedKeys(self.context)
        self.definition = GuestDefinition(self.context, self._seed_keys)
        self.volumes = Volumes(self.context, self._seed_keys)

    @property
    def _hotplug(self) -> Hotplug:
        return Hotplug(
            self.context.host, self.context.guest, self.context.command("up", "--restart")
        )

    def stop(self, progress: Progress) -> None:
        assert self.context.observed is not None
        stays = self.context.restarts or any(
            e.role == "disk" for e in self.context.observed.record.volumes
        )
        driver = DRIVERS[self.context.observed.record.type]
        stop_guest(
            self.context.host,
            driver,
            self.context.observed.domain,
            SHUTDOWN_TIMEOUT if stays else 0.0,
            progress,
        )
        if self.context.restarts and driver.scheme == self.context.guest.driver.scheme:
            domains, domain = self.context.host.domains, self.context.guest.domain
            wanted = domains.definition(driver, domain)
            domains.forget_state(driver, domain, self.context.observed.live, wanted)

    def unplug(self, progress: Progress) -> None:
        """Takes from the running guest what it is no longer to have; it unmounts disks and folders
        first, and for that it must not be paused."""
        self.context.host.domains.resume(self.context.guest.driver, self.context.guest.domain)
        kinds = ("/disk[", "/filesystem[")
        if any(kind in each for each in self.context.record.detaching for kind in kinds):
            self.follow(progress)
        self._hotplug.unplug(self.context.record, progress)

    def plug(self, say: Say) -> None:
        self._hotplug.plug(self.context.xml, say)

    def follow(self, _say: Say) -> None:
        """Has the guest's own system follow: interfaces, keys, files, disks and their size, CPUs.
        A new one is only asked whether its first boot gave it all. One that reads no seed is not
        known, and follows nothing."""
        if not self.context.guest.has_seed:
            return
        if self.context.old is None or self.context.from_scratch:
            script = seed.check(self.context.guest)
        else:
            script = self._update_script()
        folder = Path(self.context.guest.source_folder)
        try:
            ran = access.run(
                self.context.host,
                self.context.record,
                folder,
                _FOLLOW_COMMAND,
                _FOLLOW_TIMEOUT,
                script.encode(),
            )
            why = ran.err.decode("utf-8", "replace").strip() if ran.code != 0 else ""
        except Unreachable as error:
            # nobody expects anything of this guest
            why = str(error) if self.context.guest.spec.ready.kind != "none" else ""
        if why:
            raise VirtkitError(
                f"guest {self.context.guest.name} did not apply the change",
                why=why,
                cure=self._follow_cure(),
                where=f"{self.context.host.name} guest/{self.context.guest.name}",
            )

    def _update_script(self) -> str:
        authorized = self._seed_keys.authorized(self._seed_keys.from_seed())
        still = set(public_keys.blobs(authorized))
        former = [e for e in public_keys.blobs(self.context.record.keys or ()) if e not in still]
        return seed.update(self.context.guest, authorized, self._detaching_disks(), former)

    def _follow_cure(self) -> str:
        """What helps a guest whose system did not follow."""
        keys_change = self.context.keys is not None and not public_keys.same(
            self.context.keys, self.context.record.keys or ()
        )
        if keys_change:
            again = "run again where you have a key that it accepts"
            restart = self.context.command("restart")
            restart = f"`{restart}` gives it the new keys, which its seed has; or "
            return restart + again if self.context.guest.skips_cloud_init else again
        cure = "end what uses the disk or interface in the guest"
        if self.context.old is None or self.context.from_scratch:
            cure = "correct the file's `path:` or `owner:`"
        elif self.context.fields & {"files", "password"}:
            cure += ", or correct the file's `path:` or `owner:`"
        return f"see `{self.context.command('logs')}`; {cure}, then run again"

    def _detaching_disks(self) -> dict[str, str]:
        """The disks that the running guest is no longer to have, and what it calls them."""
        answer = {}
        xml = self.context.host.domains.live(self.context.guest.driver, self.context.guest.domain)
        live = tree.parse(xml, "a domain") if xml else None
        for each in self.context.record.volumes:
            # a template may call it otherwise
            target = diff.disk_target(live, each.key) if live is not None else each.target
            leaves = (each.role, each.state) == ("disk", "deleting")
            if leaves and f"devices/disk[{target}]" in self.context.record.detaching:
                name = each.name.removeprefix(f"{self.context.guest.domain}-")
                answer[name] = self._device(live, name, target)
        # one that the host had already is none of the volumes
        current = {each.name for each in self.context.guest.disks}
        for disk in live.iterfind("./devices/disk[@device='disk']") if live is not None else ():
            name, element = disk.findtext("serial", ""), disk.find("target")
            target = element.get("dev", "") if element is not None else ""
            leaves = f"devices/disk[{target}]" in self.context.record.detaching
            if leaves and name and name not in current:
                answer.setdefault(name, self._device(live, name, target))
        return answer

    def _device(self, live: etree._Element | None, name: str, target: str) -> str:
        """What the guest calls the disk that has a ``target``."""
        buses = self.context.guest.driver.buses
        element = live.find(f"./devices/disk/target[@dev='{target}']") if live is not None else None
        bus = element.get("bus", "") if element is not None else ""
        return buses.get(bus, next(iter(buses.values()))).device.format(name=name, target=target)

    def start(self) -> None:
        """Starts the domain.

        Raises:
            FileUnusable: a disk or an image is damaged or gone; the cure says what brings it back.
        """
        try:
            self.context.host.domains.start(self.context.guest.driver, self.context.guest.domain)
        except FileUnusable as error:
            raise error.as_type(FileUnusable, cure=self._image_cure()) from error

    def _image_cure(self) -> str:
        """What brings back an image or a disk that is damaged or gone."""
        image, up, down = self.context.guest.image.name, *map(self.context.command, ("up", "down"))
        options = self.context.host_context.options
        remove, doctor = options.command("image rm", image), options.command("doctor")
        return (
            f"check that the pool's folder is mounted. {up} makes image {image} again if it is "
            f"gone or its length is wrong. If it is damaged otherwise: {down} (and whatever else "
            f"uses it), {remove}, {up}. If a disk of the guest's own is gone: {doctor} says what "
            "brings it back; one that is damaged, and of which nobody has a copy: delete its file "
            "first"
        )

    def wait_ready(self, progress: Progress) -> None:
        folder, current = Path(self.context.guest.source_folder), self.context.record.keys or ()
        late = (
            self.context.follows
            and self.context.keys is not None
            and not public_keys.same(self.context.keys, current)
        )
        access.wait_ready(
            self.context.host, self.context.record, folder, progress, keys_follow=late
        )

    def wait_login(self, progress: Progress) -> None:
        wait_login(
            self.context.host_context,
            self.context.record,
            progress,
            keys_follow=self.context.follows,
        )

    def provision(self, progress: Progress) -> None:
        assert self.context.guest.playbooks is not None
        variables = self.context.guest.spec.vars
        self.context.record = provision(
            self.context.host_context,
            self.context.record,
            self.context.guest.playbooks,
            variables,
            progress,
        )

    def finish(self) -> None:
        """Says in the record that all is done, and what still waits for a restart."""
        runs = self.context.to_be_started or self.context.running
        booted = self.context.record.booted or runs
        new = replace(self.context.record, finished=True, booted=booted)
        if self.context.keys is not None:
            new = replace(new, keys=self.context.keys, former_ssh_keys=())
        if not self.context.running or self.context.restarts:
            new = replace(new, staged={}, staged_in="", detaching=())
        if new != self.context.record:
            self.context.record = new
            self.context.host.domains.write_record(new)
