"""Bundles that are damaged or malicious are refused whole, with the reason, and the memory stays as it was."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memp.embedding import HashEmbedder
from memp.embedding.base import FloatMatrix, Role
from memp.errors import InputError
from memp.procedure import Script, procedure_id
from memp.trajectory import MAX_TEXT
from memp.transfer import import_bundle
from memp.transfer.form import MAX_LINE
from tests.factories import NOW, procedure
from tests.store_contract import everything
from tests.test_transfer import SMALL, bundle, made, memory

ROOT = Path(__file__).parent.parent

Members = dict[str, bytes]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Members:
    """The members of a bundle of two procedures, with vectors and one tombstone."""
    folder = tmp_path_factory.mktemp("good")
    path = made(folder / "a.db", *map(procedure, ("heat an egg", "cool a mug", "open the door")))
    with memory(path) as held:
        held.store.retire(procedure_id("open the door"), "it failed", NOW)
    with zipfile.ZipFile(bundle(folder, name="a", vectors=True)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def described(members: Members, /, **said: Any) -> bytes:
    """The manifest that is true of some members, but for what is `said`."""
    manifest = json.loads(members["manifest.json"])
    manifest["members"] = {
        name: {"lines": text.count(b"\n"), "bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
        for name, text in members.items()
        if name.endswith(".jsonl")
    }
    return json.dumps({**manifest, **said}).encode()


def packed(path: Path, members: Members, packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


class Victim:
    """A memory that must not change, and what is said when a bundle is refused."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = made(folder / "ours.db", procedure("heat an egg", reward=0.5))
        self._before = self._state()

    def _state(self) -> dict[str, Any]:
        with memory(self.path) as held:
            return everything(held.store)

    def check(self) -> None:
        """It is as it was."""
        assert self._state() == self._before

    def refuses(self, file: Path) -> str:
        """Try to import a file, also into a memory that is not there; return the reason."""
        said = set()
        for dry_run in (False, True):
            with pytest.raises(InputError) as raised:
                import_bundle(self.path, file, dry_run=dry_run)
            said.add(str(raised.value))
        with pytest.raises(InputError):
            import_bundle(self.folder / "new.db", file, embedder=SMALL)
        assert not (self.folder / "new.db").exists()
        self.check()
        (reason,) = said
        assert "\n" not in reason
        return reason.removeprefix(f"the bundle {str(file)!r} is refused: ")

    def refuses_members(self, members: Members, /, **said: Any) -> str:
        """The same for members, under a manifest that is true of them but for what is `said`."""
        return self.refuses(
            packed(self.folder / "forged.zip", {**members, "manifest.json": described(members, **said)})
        )


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    return Victim(tmp_path)


def test_what_is_not_forged_is_taken_in(victim: Victim, good: Members) -> None:
    members = {**good, "manifest.json": described(good)}

    result = import_bundle(victim.path, packed(victim.folder / "x.zip", members, zipfile.ZIP_STORED))

    assert (len(result.added), len(result.replaced)) == (1, 1)


# --- the archive ---


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "a/../../evil",
        "..\\evil",
        "C:\\evil",
        "C:evil",
        "\\\\host\\evil",
        "x/../manifest.json",
    ],
)
def test_a_member_that_leads_out_is_refused(name: str, victim: Victim, good: Members) -> None:
    assert "would lie outside of it" in victim.refuses_members({**good, name: b"evil"})
    assert not (victim.folder.parent / "evil").exists()


@pytest.mark.parametrize(
    "name", ["evil.py", "procedures.jsonl/", "./manifest.json", "MANIFEST.JSON", "a/manifest.json"]
)
def test_a_member_that_is_none_of_a_bundles_is_refused(name: str, victim: Victim, good: Members) -> None:
    assert "is not one of manifest.json," in victim.refuses_members({**good, name: b"evil"})


def test_a_name_with_a_nul_is_refused(victim: Victim, good: Members) -> None:
    path = packed(victim.folder / "x.zip", {**good, "manifest.jsonX.py": b""})
    path.write_bytes(path.read_bytes().replace(b"manifest.jsonX.py", b"manifest.json\0.py"))

    assert "is not one of" in victim.refuses(path)


@pytest.mark.parametrize("missing", ["manifest.json", "procedures.jsonl", "tombstones.jsonl"])
def test_a_bundle_without_a_member_is_refused(missing: str, victim: Victim, good: Members) -> None:
    left = {name: text for name, text in good.items() if name != missing}

    assert victim.refuses(packed(victim.folder / "x.zip", left)) == f"it lacks {missing}"


def test_vectors_that_the_manifest_knows_nothing_of_are_refused(victim: Victim, good: Members) -> None:
    text = {name: text for name, text in good.items() if name != "vectors.jsonl"}
    silent = described(text, embedder=None)

    for members in ({**good, "manifest.json": silent}, {**text, "manifest.json": described(good)}):
        assert "others than its manifest says" in victim.refuses(packed(victim.folder / "x.zip", members))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(victim: Victim, good: Members) -> None:
    path = packed(victim.folder / "x.zip", good)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("procedures.jsonl", good["procedures.jsonl"])

    assert victim.refuses(path) == "its member 'procedures.jsonl' is there twice"


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
def test_a_link_is_refused(kind: int, victim: Victim, good: Members) -> None:
    path = victim.folder / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in good.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (kind if name == "tombstones.jsonl" else stat.S_IFREG) << 16
            archive.writestr(info, text)

    assert victim.refuses(path) == "its member 'tombstones.jsonl' is a link, or another thing that is no file"


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packings_are_refused(packing: int, victim: Victim, good: Members) -> None:
    assert "packed in a way that bundles do not use" in victim.refuses(
        packed(victim.folder / "x.zip", good, packing)
    )


def listed(path: Path, name: str, at: int, form: str, value: int) -> Path:
    """Change a number in the zip's list of members, and in the member's own header if `at` is in both."""
    raw = bytearray(path.read_bytes())
    place = raw.rindex(b"PK\x01\x02", 0, raw.rindex(name.encode()))
    struct.pack_into(form, raw, place + at, value)
    path.write_bytes(raw)
    return path


def test_an_encrypted_member_is_refused(victim: Victim, good: Members) -> None:
    path = listed(packed(victim.folder / "x.zip", good), "procedures.jsonl", 8, "<H", 1)

    assert victim.refuses(path) == "its member 'procedures.jsonl' is encrypted"


def test_what_is_no_zip_is_refused(victim: Victim, good: Members) -> None:
    whole = packed(victim.folder / "x.zip", good).read_bytes()
    for text in (
        b"",
        b"PK",
        b"PK\x05\x06",
        os.urandom(5000),
        b"x" * 10**6,
        whole[:-1],
        whole[: len(whole) // 2],
    ):
        (victim.folder / "x").write_bytes(text)
        assert victim.refuses(victim.folder / "x") == "it is no zip file, or not all of one"


def test_a_file_that_is_not_there_and_a_folder_are_refused(victim: Victim) -> None:
    os.mkfifo(victim.folder / "pipe")

    assert "No such file" in victim.refuses(victim.folder / "missing")
    assert victim.refuses(victim.folder) == "it is no file"
    assert victim.refuses(victim.folder / "pipe") == "it is no file"
    assert "null byte" in victim.refuses(victim.folder / "\0")


def test_a_long_list_of_members_is_refused_unread(victim: Victim) -> None:
    path = victim.folder / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(30_000):
            archive.writestr(f"{number:050}", b"")

    assert victim.refuses(path) == "its list of members is longer than a bundle's"


@given(at=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_is_noticed_or_changes_nothing(
    at: float, value: int, good: Members, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    whole = bytearray(packed(folder / "x.zip", good).read_bytes())
    whole[int(at * len(whole))] = value
    (folder / "x.zip").write_bytes(whole)
    with memory() as ours:
        try:
            import_bundle(ours.store, folder / "x.zip", embedder=SMALL)
        except InputError:
            assert ours.stats().procedures == 0
        else:
            assert [held.task for held in ours.procedures()] == ["heat an egg", "cool a mug"]


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_its_lines_say_nothing_but_a_refusal_comes_of_it(
    data: st.DataObject, good: Members, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("garbled")
    name = data.draw(st.sampled_from(["procedures.jsonl", "tombstones.jsonl", "vectors.jsonl"]))
    value = json.loads(good[name].splitlines()[0])
    place = value
    while isinstance(place, dict | list) and len(place):  # somewhere in it, anything
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(ANYTHING)
            break
        place = place[key]
    garbled = {**good, name: json.dumps(value).encode() + b"\n" + b"".join(good[name].splitlines(True)[1:])}
    path = packed(folder / "x.zip", {**garbled, "manifest.json": described(garbled)})

    with memory() as ours:
        try:
            import_bundle(ours.store, path, embedder=SMALL)
        except InputError:
            assert ours.stats().procedures == 0
        else:
            assert ours.stats().procedures == 2
            ours.retrieve("heat an egg")


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


# --- sizes ---


def bomb(good: Members, size: int) -> Members:
    """A line of one procedure whose texts unpack to `size` bytes."""
    told = Script(goal="x" * MAX_TEXT, steps=("go",))
    lines = []
    for number in range(size // MAX_TEXT):
        entry = procedure(source=f"{number}", script=told).model_dump(mode="json", exclude={"usage"})
        lines.append({"usage": {}, "revisions": [{"procedure": entry, "reason": "built"}]})
    return {
        **good,
        "procedures.jsonl": b"".join(json.dumps(line).encode() + b"\n" for line in lines),
        "vectors.jsonl": b"",
    }


def test_a_bomb_is_refused_by_what_its_list_of_members_says(victim: Victim, good: Members) -> None:
    assert "its member 'procedures.jsonl' unpacks to more than 200 times its size" in victim.refuses_members(
        bomb(good, 24 * MAX_TEXT)
    )


def test_a_bomb_that_lies_about_its_size_is_refused_while_it_unpacks(victim: Victim, good: Members) -> None:
    members = bomb(good, 24 * MAX_TEXT)
    size = len(members["procedures.jsonl"])
    path = packed(victim.folder / "x.zip", {**members, "manifest.json": described(members)})
    with zipfile.ZipFile(path) as archive:
        shrunk = archive.getinfo("procedures.jsonl").compress_size

    for said in (size - 1, 1000, 0):
        listed(path, "procedures.jsonl", 24, "<I", said)
        assert "procedures.jsonl" in victim.refuses(path) or "CRC" in victim.refuses(path)
    # As large as the packed size may make it, where only part of that is there.
    listed(path, "procedures.jsonl", 24, "<I", size)
    listed(path, "procedures.jsonl", 20, "<I", shrunk * 3)
    assert "longer than all of it" in victim.refuses(path)


def test_more_than_a_bundle_may_unpack_to_is_refused(victim: Victim, good: Members) -> None:
    path = packed(victim.folder / "x.zip", good, zipfile.ZIP_STORED)
    for name in ("procedures.jsonl", "tombstones.jsonl"):
        listed(path, name, 24, "<I", 2**32 - 2)

    assert "as a bomb does" in victim.refuses(path)
    assert "members.procedures.jsonl.bytes" in victim.refuses_members(
        good,
        members={
            **json.loads(described(good))["members"],
            "procedures.jsonl": {"lines": 1, "bytes": 2**50, "sha256": "0" * 64},
        },
    )


@pytest.mark.parametrize("text", [b" ", b"[[],", b"\xff"])
def test_a_line_that_is_too_long_is_refused_before_it_is_read(
    text: bytes, victim: Victim, good: Members
) -> None:
    noise = np.random.default_rng(0).integers(1, 9, MAX_LINE // 8, dtype=np.uint8).tobytes()  # packs badly
    members = {**good, "procedures.jsonl": text * (MAX_LINE // len(text)) + noise + b"\n"}

    assert victim.refuses_members(members) == f"procedures.jsonl line 1 is longer than {MAX_LINE} bytes"


def test_a_text_that_is_too_long_is_refused(victim: Victim, good: Members) -> None:
    def lengthened(line: dict[str, Any]) -> None:
        line["revisions"][0]["reason"] = "x" * (MAX_TEXT + 1)

    assert "procedures.jsonl line 1: a text of 1000001 characters" in victim.refuses_members(
        altered(good, "procedures.jsonl", lengthened)
    )


def test_a_manifest_that_is_too_long_is_refused(victim: Victim, good: Members) -> None:
    assert victim.refuses_members(good, memp="x" * 70_000) == "manifest.json is longer than 65536 bytes"


MEASURED = """
import resource, sys
from memp.errors import InputError
from memp.transfer import import_bundle
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    import_bundle(":memory:", sys.argv[1])
except InputError as error:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


BOMBS = {
    "blank lines": b"\n" * 2**26,
    "a line without an end": b"[]," * 2**24,
    "the longest line": b"[" + b"[]," * (MAX_LINE // 3 - 2) + b"[]]\n",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_takes_little_memory(kind: str, tmp_path: Path, good: Members) -> None:
    members = {**good, "procedures.jsonl": BOMBS[kind]}
    path = packed(tmp_path / "x.zip", {**members, "manifest.json": described(members)})
    with zipfile.ZipFile(path) as archive:
        shrunk = archive.getinfo("procedures.jsonl").compress_size
    listed(path, "procedures.jsonl", 24, "<I", min(len(BOMBS[kind]), 2**24 + 100 * shrunk))

    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(ran.stdout) < 60


# --- what the manifest says ---


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("sha256", "0" * 64, "sha256 .*, not 0000"),
        ("bytes", 1, "longer than the 1 bytes"),
        ("bytes", 10**6, "bytes [0-9]+, not 1000000"),
        ("lines", 1, "lines 2, not 1"),
        ("lines", 3, "lines 2, not 3"),
    ],
)
def test_what_is_not_what_the_manifest_says_is_refused(
    field: str, value: Any, reason: str, victim: Victim, good: Members
) -> None:
    members = json.loads(described(good))["members"]
    members["procedures.jsonl"][field] = value

    said = victim.refuses_members(good, members=members)
    assert said.startswith("procedures.jsonl is ")
    assert re.search(reason, said)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"version": 2}, "its version is 2, this memp reads 1; upgrade memp"),
        ({"version": "1"}, "its version is '1'"),
        ({"version": 2, "novelty": 1}, "its version is 2"),
        ({"format": "other"}, "its format is 'other', not 'memp-bundle'"),
        ({"novelty": 1}, "novelty: Extra inputs are not permitted"),
        ({"as_of": "yesterday"}, "as_of: "),
        ({"embedder": None}, "its members are"),
        ({"members": {}}, r"its members are \[\]"),
        ({"members": []}, "members: "),
        ({"memp": 1}, "memp: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_manifest_that_says_something_else_is_refused(
    said: dict[str, Any], reason: str, victim: Victim, good: Members
) -> None:
    refusal = victim.refuses_members(good, **said)
    assert refusal.startswith("manifest.json: ")
    assert re.search(reason, refusal)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"null", b"{", b'{"version": 1, "version": 1}', b"\xff", b"[" * 60_000]
)
def test_a_manifest_that_is_none_is_refused(text: bytes, victim: Victim, good: Members) -> None:
    path = packed(victim.folder / "x.zip", {**good, "manifest.json": text})

    assert victim.refuses(path).startswith("manifest.json: ")


# --- what the lines say ---


def altered(good: Members, name: str, change: Callable[[dict[str, Any]], object]) -> Members:
    """The members with the first line of one changed."""
    first, *rest = good[name].splitlines(keepends=True)
    line = json.loads(first)
    change(line)
    return {**good, name: json.dumps(line).encode() + b"\n" + b"".join(rest)}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\n", "not JSON"),
        (b"{}\n", "Field required"),
        (b"[]\n", "valid dictionary|object"),
        (b"\xef\xbb\xbf{}\n", "not JSON"),
        (b'{"usage": "\xff"}\n', "not UTF-8"),
        (b'{"usage": NaN}\n', "NaN is no number"),
        (b'{"usage": Infinity}\n', "Infinity is no number"),
        (b'{"usage": 1e999}\n', "the number '1e999' is too large"),
        (b'{"usage": {}, "usage": {}}\n', "the field 'usage' is given twice"),
        (b'{"usage": {"uses": 1, "uses": 1}}\n', "the field 'uses' is given twice"),
        (b'{"usage": "\\ud800"}\n', "a lone surrogate"),
        (b'{"usage": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "nested too deeply"),
        (b'{"usage": ' + b"9" * 5000 + b"}\n", "digits"),
        (b"{'usage': 1}\n", "not JSON"),
        (b"\x80\x04\x95.\n", "not UTF-8"),  # the beginning of a pickle
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_line_that_is_no_strict_json_is_refused(
    line: bytes, reason: str, victim: Victim, good: Members
) -> None:
    for name in ("procedures.jsonl", "tombstones.jsonl", "vectors.jsonl"):
        assert re.search(
            f"{name}.* line 1: .*({reason})|{name} ({reason})",
            victim.refuses_members({**good, name: line + good[name]}),
        )


def test_a_last_line_that_does_not_end_is_refused(victim: Victim, good: Members) -> None:
    members = {**good, "tombstones.jsonl": good["tombstones.jsonl"].rstrip()}

    assert victim.refuses_members(members) == "tombstones.jsonl does not end with the end of a line"


def entry(line: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = line["revisions"][0]["procedure"]
    return found


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda line: entry(line).update(id="0" * 16),
            "the id '0{16}' does not follow from its source 'heat an egg'",
        ),
        (lambda line: entry(line).update(source="other"), "does not follow from its source 'other'"),
        (lambda line: entry(line).update(namespace="vendor"), "does not follow from its source"),
        (lambda line: entry(line).update(namespace="a b"), "namespace"),
        (lambda line: entry(line).update(namespace=".."), "namespace"),
        (lambda line: entry(line).update(namespace="a..b"), "namespace"),
        (lambda line: entry(line).update(namespace="a" * 65), "namespace"),
        (lambda line: entry(line).update(novelty=1), "revisions.0.procedure.novelty: Extra inputs"),
        (lambda line: entry(line).update(reward=2), "revisions.0.procedure.reward"),
        (lambda line: entry(line).update(reward="1"), "revisions.0.procedure.reward"),
        (lambda line: entry(line).update(reward=1e999), "Infinity is no number"),
        (lambda line: entry(line).update(length=-1), "revisions.0.procedure.length"),
        (lambda line: entry(line).update(revision=2), "revision 1 is numbered 2"),
        (lambda line: entry(line)["trajectory"].update(task=" "), "the task is empty"),
        (
            lambda line: entry(line)["provenance"].update(created=-1),
            "revisions.0.procedure.provenance.created",
        ),
        (lambda line: line.update(revisions=[]), "revisions: "),
        (lambda line: line["revisions"].append(line["revisions"][0]), "revision 2 is numbered 1"),
        (
            lambda line: line["revisions"].append(
                {"procedure": {**entry(line), "source": "other", "revision": 2}, "reason": ""}
            ),
            "revision 2 is of another procedure",
        ),
        (lambda line: line["usage"].update(successes=1), "1 successes in 0 uses"),
        (lambda line: line["usage"].update(uses=-1), "usage.uses"),
        (lambda line: line["usage"].update(uses=10**30), "uses"),
        (lambda line: line["usage"].update(uses=2**60), "uses"),
        (lambda line: line["usage"].update(uses=2**53 - 1, successes=2**53 - 1), "uses"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_procedure_that_cannot_be_is_refused(
    change: Callable[[dict[str, Any]], object], reason: str, victim: Victim, good: Members
) -> None:
    said = victim.refuses_members(altered(good, "procedures.jsonl", change))
    assert said.startswith("procedures.jsonl line 1: ")
    assert re.search(reason, said)


def test_an_id_that_is_there_twice_is_refused(victim: Victim, good: Members) -> None:
    first = good["procedures.jsonl"].splitlines(keepends=True)[0]
    egg, door = procedure_id("heat an egg"), procedure_id("open the door")
    stone = json.loads(good["tombstones.jsonl"])
    again = json.dumps({**stone, "id": egg, "source": "heat an egg"}).encode() + b"\n"

    for members, twice in (
        ({**good, "procedures.jsonl": good["procedures.jsonl"] + first}, egg),
        ({**good, "tombstones.jsonl": good["tombstones.jsonl"] * 2}, door),
        ({**good, "tombstones.jsonl": again}, egg),
    ):
        assert victim.refuses_members(members) == f"the procedure {twice!r} is there twice"


def test_a_tombstone_of_another_source_is_refused(victim: Victim, good: Members) -> None:
    members = altered(good, "tombstones.jsonl", lambda line: line.update(source="cool a mug"))

    assert "does not follow from its source 'cool a mug'" in victim.refuses_members(members)


def rows(*numbers: list[float]) -> list[str]:
    return [base64.b64encode(np.array(row, dtype="<f4").tobytes()).decode() for row in numbers]


EAST = [1.0, *[0.0] * 63]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda line: line.update(vectors=rows(EAST)), "are not those that 'hash:char3-5-64-v1' makes"),
        (
            lambda line: line.update(vectors=rows([1.0, 0.0])),
            "its vectors have 2 and 64 dimensions|are not those",
        ),
        (lambda line: line.update(vectors=rows([2.0, *[0.0] * 63])), "unit length"),
        (lambda line: line.update(vectors=rows([float("nan")] * 64)), "not finite"),
        (lambda line: line.update(vectors=rows(EAST, EAST)), "of shape"),
        (lambda line: line.update(vectors=[]), "of shape"),
        (lambda line: line.update(vectors=["AAA"]), "padding|base64"),
        (lambda line: line.update(vectors=["AAAA"]), "multiple of element size"),
        (lambda line: line.update(vectors=["!" * 344]), "base64"),
        (lambda line: line.update(texts=["another task"]), "that are not made of its task"),
        (lambda line: line.update(texts=[]), "texts"),
        (lambda line: line.update(kind=""), "kind"),
        (lambda line: line.update(id="0" * 16), "where no procedure has it"),
        (lambda line: line.update(id=procedure_id("cool a mug")), "twice"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_vectors_that_cannot_be_are_refused(
    change: Callable[[dict[str, Any]], object], reason: str, victim: Victim, good: Members
) -> None:
    said = victim.refuses_members(altered(good, "vectors.jsonl", change))
    assert re.search(reason, said)


def test_more_vectors_of_one_procedure_than_a_line_may_hold_are_refused(
    victim: Victim, good: Members
) -> None:
    first, second = good["vectors.jsonl"].splitlines(keepends=True)
    line = json.loads(first)
    kinds = [
        {**line, "kind": f"{kind}{'x' * 900}", "vectors": line["vectors"] * 40, "texts": ["x"] * 40}
        for kind in range(1200)
    ]
    text = b"".join(json.dumps(kind).encode() + b"\n" for kind in kinds)

    said = victim.refuses_members({**good, "vectors.jsonl": first + text + second})
    assert said == f"vectors.jsonl has more than {MAX_LINE} bytes of {line['id']!r}"


def test_vectors_in_another_order_are_refused(victim: Victim, good: Members) -> None:
    lines = good["vectors.jsonl"].splitlines(keepends=True)

    said = victim.refuses_members({**good, "vectors.jsonl": b"".join(reversed(lines))})
    assert "its order is that of theirs" in said


class Meddling(HashEmbedder):
    """Changes a bundle the first time it is asked for several vectors, which is while the memory is written."""

    def __init__(self, path: Path) -> None:
        super().__init__(dims=64)
        self._path = path

    def embed(self, texts: Sequence[str], role: Role = "key") -> FloatMatrix:
        if len(texts) > 1:
            raw = bytearray(self._path.read_bytes())
            raw[raw.rindex(b"you put egg")] ^= 1
            self._path.write_bytes(raw)
        return super().embed(texts, role)


def test_a_bundle_that_changes_after_it_was_checked_is_refused(victim: Victim, good: Members) -> None:
    one = json.loads(good["procedures.jsonl"].splitlines()[0])
    lines = []
    for number in range(3000):
        entry(one).update(source=f"{number}", id=procedure_id(f"{number}"))
        lines.append(json.dumps(one).encode() + b"\n")
    members = {**good, "procedures.jsonl": b"".join(lines)}
    del members["vectors.jsonl"]
    path = packed(
        victim.folder / "x.zip",
        {**members, "manifest.json": described(members, embedder=None)},
        zipfile.ZIP_STORED,
    )

    with pytest.raises(InputError, match=r"CRC|sha256"):
        import_bundle(victim.path, path, embedder=Meddling(path))
    victim.check()
