"""The command line: verbs, options, exit codes and what goes where."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import re
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from virtkit.api import Answer, Check, Event, GuestStatus, Orphan
from virtkit.cli import aliases, arguments, main, output, progress
from virtkit.cli.arguments import SpecOptions
from virtkit.cli.commands import GROUPS, VERBS, function
from virtkit.errors import RequestError

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
BAD_SPECS = Path(__file__).parents[2] / "cases" / "bad-specs"
FIRST_WORDS = {name.partition(" ")[0] for name in VERBS}
CONTRACT = (
    *("validate", "render", "plan", "up", "down", "status", "start", "stop", "restart", "pause"),
    *("resume", "ssh", "exec", "console", "logs", "cp", "inventory", "ssh-config", "init"),
    *("image list", "image import", "image build", "image pull", "image rm", "doctor", "schema"),
    *("provision", "host list", "host check", "host prepare", "host trust"),
)
#: They have the caller's streams, or write a file: no result to give as data.
NO_JSON = {"ssh", "exec", "cp", "init"}


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def virtkit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs the program in an empty folder, without a libvirt."""

    def unreachable(uri: str) -> None:
        opened.append(uri)
        raise libvirt.libvirtError("nobody is there")

    opened: list[str] = []
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(libvirt, "open", unreachable)
    for variable in ("XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))

    def run(*arguments: str, stdin: str = "") -> Result:
        monkeypatch.setattr(sys, "argv", ["virtkit", *arguments])
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Result(int(ended.value.code or 0), printed.out, printed.err)

    run.opened = opened  # type: ignore[attr-defined]  # a function that carries a list, as below
    return run


def write(text: str, name: str = "virtkit.yaml") -> str:
    Path(name).write_text(text)
    return name


# --- verbs and options ----------------------------------------------------------------------


def test_mistakes_are_told_as_the_readme_shows(virtkit: Run) -> None:
    guest = "    type: quemu\n    memmory: 1GiB\n    memory: 512\n    networks: [fornt]\n"
    write(f"name: lab\nnetworks:\n  front: {{}}\nguests:\n  web:\n{guest}", "lab.yaml")
    shown = README.partition("<!-- error -->\n```\n")[2].partition("```\n")[0]
    result = virtkit("validate", "lab.yaml")
    assert (result.code, result.out, result.err) == (2, "", shown)


def test_all_verbs_are_there() -> None:
    """None is lost that people's scripts may call, and the README has them all and no other."""
    assert set(CONTRACT) - set(VERBS) == set()
    assert {name.partition(" ")[0] for name in VERBS if " " in name} == set(GROUPS)
    table = README.partition("## The verbs\n\n")[2].partition("\n\n")[0]
    named = set()
    for row in table.splitlines()[2:]:
        for words in re.findall(r"`([^`]+)`", row.split("|")[1]):
            group, _, verbs = re.sub(r" [A-Z]+", "", words).rpartition(" ")
            named |= {f"{group} {each}".strip() for each in verbs.split("/")}
    assert named == set(VERBS)


def test_version(virtkit: Run) -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert virtkit("--version") == Result(0, f"virtkit {project['version']}\n", "")


@pytest.mark.parametrize("verb", [*VERBS, *GROUPS, ""])
def test_help(verb: str, virtkit: Run) -> None:
    result = virtkit(*verb.split(), "--help")
    assert result.code == 0
    assert f"usage: virtkit {verb}".rstrip() in result.out


def test_short_help(virtkit: Run) -> None:
    assert virtkit("plan", "-h") == virtkit("plan", "--help")


@pytest.mark.parametrize("verb", VERBS)
def test_options_that_the_contract_promises(verb: str, virtkit: Run) -> None:
    text = virtkit(*verb.split(), "--help").out
    options = re.findall(r"^  (?:-., )?(--[a-z-]+)", text, re.M)
    assert "--debug" in options
    assert ("--json" in options) is (verb not in NO_JSON)
    assert (function(verb).__doc__ or "").split()[0] in text


def test_the_list_of_verbs_says_what_their_own_help_says() -> None:
    for name, (_, text) in VERBS.items():
        said = " ".join((function(name).__doc__ or "").split())
        assert said.startswith(text.removesuffix(".")), name


def test_every_verb_that_is_written_is_in_the_list() -> None:
    listed = {place for place, _ in VERBS.values()}
    modules = {place.partition(".")[0] for place in listed}
    written = set()
    for name in modules:
        module = importlib.import_module(f"virtkit.cli.{name}")
        written |= {
            f"{name}.{each}"
            for each, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__
            and inspect.isfunction(value)
            and not each.startswith("_")
        }
    assert written == listed


def test_every_alias_names_a_verb() -> None:
    assert {each for each in aliases.ALIASES.values() if each not in FIRST_WORDS} == set()
    assert set(aliases.ALIASES) & FIRST_WORDS == set()


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        *(("halt", "stop"), ("destroy", "down"), ("ps", "status"), ("apply", "up")),
        *(("statsu", "status"), ("vallidate", "validate"), ("sshconfig", "ssh-config")),
    ],
)
def test_did_you_mean(word: str, meant: str, virtkit: Run) -> None:
    result = virtkit(word, "lab.yaml")
    assert result.code == 2
    assert f"did you mean virtkit {meant}?" in result.err
    assert result.out == ""


def test_no_such_verb(virtkit: Run) -> None:
    result = virtkit("xyzzy")
    assert result.code == 2
    assert "see virtkit --help" in result.err


@pytest.mark.parametrize(
    "line",
    [
        *("plan --nope", "up --parallel 0", "up --parallel x", "stop --timeout soon", "cp"),
        *("image frob", "image rm", "plan -f", "validate a.yaml b.yaml", "cp virtkit.yaml a"),
        *("ssh", "exec virtkit.yaml web", "ssh virtkit.yaml", "image build", "logs no.yaml"),
        *("status nothing.txt", "inventory virtkit.yaml web"),
        *("plan --volumes", "plan --down --restart", "--debug up", "up --debug --nope"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_words(line: str, as_json: bool, virtkit: Run) -> None:
    if "virtkit.yaml" in line:
        write("name: lab\n")
    verb, *rest = line.split()
    result = virtkit(verb, *(["--json"] if as_json else []), *rest)
    if as_json and "has no option --json" in result.out:
        return
    assert result.code == 2
    assert "Traceback" not in result.err
    if as_json:
        assert result.json["error"]["code"] == 2
        assert result.json["error"]["cure"]
    else:
        assert result.err.startswith("error: ")
        assert "\n  cure: " in result.err
        assert result.out == ""


# --- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(each.name for each in BAD_SPECS.iterdir()))
def test_bad_specs(name: str, virtkit: Run, tmp_path: Path) -> None:
    """Each is refused with where and cure, and nothing is touched."""
    path = str(BAD_SPECS / name / "spec.yaml")
    result = virtkit("validate", path)
    assert result.code == 2
    assert result.out == ""
    expected = (BAD_SPECS / name / "expected.txt").read_text()
    assert result.err.count("error: ") >= expected.count("error: ")
    for word in ("error: ", f"  where: {BAD_SPECS / name}/", "  cure: "):
        assert word in result.err
    assert "Traceback" not in result.err
    as_json = virtkit("up", path, "--json", "--yes")
    assert as_json.code == 2
    assert len(as_json.json["errors"]) == expected.count("error: ")
    assert as_json.json["error"] == as_json.json["errors"][0]
    for each in as_json.json["errors"]:
        assert each.keys() == {"what", "where", "why", "cure", "code"}
        assert each["where"].startswith(f"{BAD_SPECS / name}/")
        assert each["cure"]
        assert each["code"] == 2
    assert virtkit.opened == []  # type: ignore[attr-defined]
    assert [each.name for each in tmp_path.rglob("*")] == ["work"]


BAD_NAMES = (".", "..", "../x", "/", "a/b", "-rf", "--", "", " ", "a b", "x\n", "~", "$(id)", "*")
#: Where a spec holds a name that reaches libvirt or a path.
PLACES = {
    "environment": "name: {}\nguests: {web: {}}",
    "guest": "name: lab\nguests: {{}: {}}",
    "network": "name: lab\nnetworks: {{}: {}}\nguests: {web: {}}",
    "guest's network": "name: lab\nguests: {web: {networks: [{}]}}",
    "existing": "name: lab\nnetworks: {n: {existing: {}}}\nguests: {web: {networks: [n]}}",
    "bridge": "name: lab\nnetworks: {n: {mode: bridge, bridge: {}}}\nguests: {a: {networks: [n]}}",
    "disk": "name: lab\nguests: {web: {disks: [{name: {}, size: 1GiB, mount: /srv}]}}",
    "image": "name: lab\nimages: {{}: {path: x}}\nguests: {web: {}}",
    "guest's image": "name: lab\nguests: {web: {image: {}}}",
    "pool": "name: lab\nhosts: {local: {pool: {}}}\nguests: {web: {}}",
    "profile": "name: lab\nprofiles: {{}: {}}\nguests: {web: {}}",
    "after": "name: lab\nguests: {web: {after: [{}]}}",
    "group": "name: lab\nguests: {web: {groups: [{}]}}",
    "user": "name: lab\nguests: {web: {user: {}}}",
    "mount": "name: lab\nguests: {web: {disks: [{name: d, size: 1GiB, mount: {}}]}}",
    "domain": "name: lab\nnetworks: {n: {domain: {}}}\nguests: {web: {networks: [n]}}",
}


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("place", PLACES)
def test_names_that_libvirt_never_hears(place: str, name: str, virtkit: Run) -> None:
    """A domain named `.` or `..` has libvirt delete its own directories."""
    write(PLACES[place].replace("{}", json.dumps(name), 1), "lab.yaml")
    for verb in (["validate"], ["up", "--yes"]):
        result = virtkit(*verb, "lab.yaml", "--json")
        assert result.code == 2, result
        assert result.json["error"]["cure"]
        assert result.json["error"]["where"].startswith("lab.yaml:")
    assert virtkit.opened == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("stem", [".", "..", "-rf", "a b", "A", "$(id)", "virtkit"])
def test_environments_that_files_and_folders_would_name(stem: str, virtkit: Run) -> None:
    folder = Path("-x..y")
    folder.mkdir()
    (folder / f"{stem}.yaml").write_text("guests: {web: {}}")
    for verb in (["validate"], ["up", "--yes"], ["down"]):
        result = virtkit(*verb, "-f", str(folder / f"{stem}.yaml"))
        assert result.code == 2
        assert "can't be called" in result.err
        assert "name: " in result.err
    assert virtkit.opened == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["..", "../web", "-rf", "/etc/passwd", "web/../db", "$(id)"])
@pytest.mark.parametrize("verb", ["plan", "up", "render"])
def test_words_that_name_no_guest(verb: str, name: str, virtkit: Run) -> None:
    write("name: lab\nguests: {web: {}}\n")
    result = virtkit(verb, "virtkit.yaml", "--", name)
    assert result.code == 2
    assert "no guest" in result.err
    assert virtkit.opened == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["..", "../x", "-rf", "/etc", "$(id)"])
def test_words_that_name_no_image(name: str, virtkit: Run, tmp_path: Path) -> None:
    result = virtkit("image", "build", "--", name)
    assert result.code == 2
    assert "no image" in result.err
    assert virtkit.opened == []  # type: ignore[attr-defined]
    assert [each.name for each in tmp_path.rglob("*")] == ["work"]


@pytest.mark.parametrize(
    "line",
    [
        "plan",
        "up",
        "up --yes",
        "down",
        "status",
        "doctor",
        "doctor --orphans",
        "inventory",
        "ssh-config",
        "logs",
    ],
)
def test_no_libvirt(line: str, virtkit: Run) -> None:
    write("guests: {web: {}}\n")
    result = virtkit(*line.split())
    assert result.code == 2, "nothing was touched"
    assert "Traceback" not in result.err
    assert "nobody is there" in result.err + result.out
    assert "cure: " in result.err + result.out


@pytest.mark.parametrize("text", ["\x1b[2J\x1b]0;x\x07", "[/bold] [red]", "\r\x9b31m", "\u202e"])
def test_what_guests_say_moves_no_terminal(
    text: str, virtkit: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last lines of a console stand in errors, and libvirt quotes names of strangers."""

    def unreachable(_uri: str) -> None:
        raise libvirt.libvirtError(f"before {text} after")

    write("guests: {web: {}}\n")
    monkeypatch.setattr(libvirt, "open", unreachable)
    result = virtkit("status", "virtkit.yaml")
    assert result.code == 2
    assert "before " in result.err
    assert all(each.isprintable() for each in result.err.split("\n"))
    assert (
        f"before {text} after" in virtkit("status", "virtkit.yaml", "--json").json["error"]["why"]
    )


@pytest.mark.parametrize("verb", ["exec", "ssh"])
@pytest.mark.parametrize(
    "words",
    ["lab.yaml web ls --json --debug", "-f lab.yaml web ls --json --debug", "web -- ls --json"],
)
def test_a_commands_options_are_its_own(verb: str, words: str, virtkit: Run) -> None:
    """virtkit's own errors are as if the command had none."""
    write("name: lab\nguests: {web: {}}\n", "lab.yaml")
    write("name: lab\nguests: {web: {}}\n")
    result = virtkit(verb, *words.split())
    assert result.code != 0
    assert result.out == ""
    assert result.err.startswith("error: ")


@pytest.mark.parametrize(
    ("line", "cure"),
    [
        ("logs virtkit.yaml web --follow --json", "leave out one of the two"),
        ("console virtkit.yaml web --json", "--vnc"),
    ],
)
def test_what_has_no_document_takes_no_json(line: str, cure: str, virtkit: Run) -> None:
    write("name: lab\nguests: {web: {}}\n")
    result = virtkit(*line.split())
    assert result.code == 2
    assert cure in result.json["error"]["cure"]
    assert virtkit.opened == []  # type: ignore[attr-defined]


def test_debug_shows_the_traceback(virtkit: Run) -> None:
    with pytest.raises(RequestError):
        virtkit("validate", "none.yaml", "--debug")


def test_standard_input(virtkit: Run) -> None:
    assert virtkit("validate", "-", stdin="name: lab\nguests: {web: {}}\n").code == 0
    assert "<stdin>:1:1 name" in virtkit("validate", "-", stdin="guests: {}\n").err


# --- what needs no libvirt --------------------------------------------------------------------


def test_validate(virtkit: Run) -> None:
    write("name: lab\nguests: {web: {count: 2}}\n", "lab.yml")
    result = virtkit("validate", "lab.yml")
    assert (result.code, result.out, result.err) == (0, "lab.yml: valid, 2 guests\n", "")
    data = virtkit("validate", "-f", "lab.yml", "--json").json
    assert (data["environment"], data["valid"]) == ("lab", True)
    assert list(data["guests"]) == ["web-1", "web-2"]


def test_init_then_validate(virtkit: Run) -> None:
    assert virtkit("init").code == 0
    assert virtkit("validate").code == 0
    written = Path("virtkit.yaml").read_text()
    Path("virtkit.yaml").write_text("mine")
    again = virtkit("init")
    assert again.code == 2
    assert "--force" in again.err
    assert Path("virtkit.yaml").read_text() == "mine"
    assert virtkit("init", "--force").code == 0
    assert Path("virtkit.yaml").read_text() == written


def test_schema(virtkit: Run) -> None:
    result = virtkit("schema")
    assert result.code == 0
    assert result.json["$schema"].startswith("https://json-schema.org/")
    assert set(result.json["properties"]) >= {"guests", "networks", "images"}
    assert virtkit("schema", "--json") == result


def test_colour_tells_nothing_alone(virtkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    result = virtkit("validate", "none.yaml")
    assert "\x1b" not in result.err + result.out


# --- words ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "files", "expected"),
    [
        (["lab.yaml", "web"], None, (["lab.yaml"], ["web"])),
        (["lab.yml"], None, (["lab.yml"], [])),
        (["-", "web"], None, (["-"], ["web"])),
        (["web"], ["lab.txt"], (["lab.txt"], ["web"])),
        (["a.yaml"], ["b.yaml", "c.yaml"], (["b.yaml", "c.yaml"], ["a.yaml"])),
    ],
)
def test_split(
    given: list[str], files: list[str] | None, expected: tuple[list[str], list[str]]
) -> None:
    assert SpecOptions(files=files).split(given) == expected


def test_split_takes_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=r"no virtkit\.yaml here"):
        SpecOptions().split(["web"])
    write("name: lab\n")
    assert SpecOptions().split(["web"]) == (["virtkit.yaml"], ["web"])
    assert SpecOptions(settings=["name=x"]).split(["web"]) == (["virtkit.yaml"], ["web"])


def test_several_files_and_what_is_set(virtkit: Run) -> None:
    write("name: lab\nguests: {web: {memory: 1GiB}}\n", "base.yaml")
    write("guests: {db: {cpus: 2}}\n", "more.yaml")
    both = ["-f", "base.yaml", "--set", "guests.web.memory=2GiB", "--file=more.yaml"]
    guests = virtkit("validate", "--json", *both, "--set=guests.db.cpus=3").json["guests"]
    assert (guests["web"]["memory"], guests["db"]["cpus"]) == (2 * 1024**3, 3)
    wrong = virtkit("validate", *both, "--set", "guests.db.cpus=none")
    assert (wrong.code, wrong.err.splitlines()[1]) == (2, "  where: --set guests.db.cpus")


def test_one_guest() -> None:
    assert arguments.one_guest(["web"], "usage") == ("web", [])
    assert arguments.one_guest(["web", "--", "ls", "--", "-l"], "usage") == (
        "web",
        ["ls", "--", "-l"],
    )
    assert arguments.one_guest(["web", "ls", "-l"], "usage") == ("web", ["ls", "-l"])
    for nothing in ([], ["--", "ls"]):
        with pytest.raises(RequestError) as caught:
            arguments.one_guest(nothing, "usage")
        assert caught.value.cure == "usage"


def test_the_status_of_several_specs_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    def guest(name: str, spec: str, owner: str) -> GuestStatus:
        return GuestStatus(
            "duo", name, "lxc", "shared", "local", "running", True, ("10.0.0.1",), "virtkit", (),
            spec, owner=owner,
        )  # fmt: skip

    guests = [guest("a", "/a/duo.yaml", "alice"), guest("b-with-a-long-name", "<stdin>", "")]
    output.status(guests, environments=True)
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], lines[3], lines[4]] == ["duo: /a/duo.yaml (alice)", "", "duo: <stdin>"]
    assert lines[2].index("lxc") == lines[6].index("lxc"), "columns go on"
    output.status(guests, environments=False)
    assert "duo" not in capsys.readouterr().out
    output.status([], environments=True)
    assert capsys.readouterr().out.startswith("guest")


def test_the_status_table_shows_what_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    """Names of fields have brackets, and a record of a stranger's may have anything."""
    pending = ("devices/filesystem[/mnt]",)
    guest = GuestStatus(
        "lab", "[red]web", "lxc", "shared", "local", "running", True, (), "us[/]er\x1b[31m", (), "",
        pending, "[/mnt] is missing",
    )  # fmt: skip
    output.status([guest], environments=True)
    shown = capsys.readouterr().out
    for each in ("[red]web", "us[/]er", *pending, "[/mnt] is missing"):
        assert each in shown
    assert "\x1b" not in shown


def test_what_is_left_over_moves_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A volume's name is a file's, and a stranger may have given it."""
    odd = "lab-web-\x1b[2J[red]"
    orphan = Orphan("volume", odd, "", f"{odd} is listed nowhere", f"virsh '{odd}'")
    output.orphans(Answer([orphan]))
    output.checks([Check(odd, False, odd, odd)])
    printed = capsys.readouterr().out
    assert printed.count("lab-web-\\x1b[2J[red]") == 6
    assert all(each.isprintable() for each in printed.split("\n"))


def test_progress_moves_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """What a guest's agent or a command in it said comes along."""
    with progress.shown(output.err(), "lab: up") as tell:
        tell(Event("progress", "guest/web", "local", "ready", 1.0, "it said \x1b[2J[red]"))
    assert "it said \\x1b[2J[red]" in capsys.readouterr().err
