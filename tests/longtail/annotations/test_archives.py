"""Archives: read in place, and whatever is no archive of texts is refused."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from export_case import as_zip, read

from longtail.annotations import archives
from longtail.annotations.archives import members
from longtail.errors import DataError

LINE = '{"id": 1, "text": "t", "label": ["a"]}\n'


def names(data):
    return [(name, member.read()) for name, member in members(io.BytesIO(data), "x.zip")]


def with_entry(name="a.jsonl", data=LINE, **attributes):
    entry = zipfile.ZipInfo(name)
    for attribute, value in attributes.items():
        setattr(entry, attribute, value)
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(entry, data)
    return sink.getvalue()


def test_members_come_with_their_names():
    data = as_zip({"a.jsonl": LINE, "b/c.CSV": "x"})
    assert names(data) == [("a.jsonl", LINE.encode()), ("b/c.CSV", b"x")]


@pytest.mark.parametrize(
    "name", ["../a.jsonl", "/etc/a.jsonl", "a/../../b.json", "..\\a.csv", "C:\\a.csv", "c:/a.csv"]
)
def test_names_that_lead_outside_are_refused(name):
    with pytest.raises(DataError, match="outside of the archive"):
        names(with_entry(name))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (as_zip({"a.jsonl": LINE, "inner.zip": as_zip({"a.jsonl": LINE})}), "'inner.zip' is none"),
        (as_zip({"a.jsonl.gz": b"\x1f\x8b"}), "'a.jsonl.gz' is none of"),
        (as_zip({"[Content_Types].xml": "<x/>", "xl/a.xml": "<x/>"}), "Excel"),
        (as_zip({}), "empty"),
        (as_zip({"folder/": b""}), "empty"),
        (with_entry(external_attr=0o120777 << 16), "symbolic link"),
        (as_zip({"a.jsonl": LINE}, zipfile.ZIP_LZMA), "packed in an unusual way"),
        (as_zip({"a.jsonl": LINE}, zipfile.ZIP_BZIP2), "packed in an unusual way"),
        (as_zip({"a.jsonl": LINE})[:-10], "cut off"),
        (b"PK\x03\x04", "cut off"),
    ],
)
def test_other_archives_are_refused(data, said):
    with pytest.raises(DataError, match=said):
        names(data)


def test_a_member_without_a_name_is_refused():
    data = bytearray(as_zip({"a.jsonl": LINE}))
    data = data.replace(b"a.jsonl", b"").replace(b"\x07\0\0\0", b"\0\0\0\0")
    end = data.rindex(b"PK\x05\x06")
    size, offset = struct.unpack_from("<II", data, end + 12)
    struct.pack_into("<II", data, end + 12, size - 7, offset - 7)
    with pytest.raises(DataError, match="the member '' is none of"):
        names(bytes(data))


def test_an_encrypted_member_is_refused():
    data = bytearray(as_zip({"a.jsonl": LINE}))
    directory = data.index(b"PK\x01\x02")
    data[6] |= 1
    data[directory + 8] |= 1
    with pytest.raises(DataError, match="encrypted"):
        names(bytes(data))


def test_a_bomb_is_refused_before_it_is_unpacked():
    data = as_zip({"a.jsonl": bytes(64 << 20)})
    assert len(data) < 100_000
    with pytest.raises(DataError, match=r"would unpack to 67108864, more than any export"):
        names(data)


def test_a_small_archive_may_be_packed_well():
    assert len(names(as_zip({"a.jsonl": LINE * 10_000}))[0][1]) == len(LINE) * 10_000


def test_many_members_are_refused_before_the_directory_is_read(monkeypatch):
    monkeypatch.setattr(archives, "MAX_ARCHIVE_MEMBERS", 3)
    with pytest.raises(DataError, match="4 members"):
        names(as_zip({f"{n}.jsonl": LINE for n in range(4)}))
    data = bytearray(as_zip({"a.jsonl": LINE}))
    end = data.rindex(b"PK\x05\x06")
    struct.pack_into("<I", data, end + 12, 1 << 30)
    with pytest.raises(DataError, match="1073741824 bytes of directory"):
        names(bytes(data))


def test_a_zip64_archive_is_refused():
    data = as_zip({"a.jsonl": LINE})
    end = data.rindex(b"PK\x05\x06")
    with pytest.raises(DataError, match="zip64"):
        names(data[:end] + b"PK\x06\x07" + bytes(16) + data[end:])


def test_a_damage_within_a_member_is_a_data_error():
    data = bytearray(as_zip({"a.jsonl": LINE * 1000}, zipfile.ZIP_STORED))
    data[1000] ^= 0xFF
    with pytest.raises(DataError, match=r"a\.jsonl: the zip archive is damaged \(Bad CRC"):
        names(bytes(data))


def test_the_reader_of_an_archive_writes_no_file(tmp_path):
    read(tmp_path, as_zip({"folder/ann.jsonl": LINE}), name="x.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]
