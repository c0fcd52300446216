"""The journal: what is written is read back, torn tails are dropped, damage is loud."""

import errno
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from batchrun.errors import LedgerError
from batchrun.ledger.journal import Journal, reopen
from batchrun.ledger.lines import Line, Lost, Sent, Tally, opened_line, sealed_line
from batchrun.ledger.replay import replay
from batchrun.records import Result


def result(row: int, text: str = "fine") -> Result:
    return Result(row, f"r{row}", "default", 0, f"h{row}", "ok", completion=text)


def filled(path: Path, rows: int = 3) -> bytes:
    journal = Journal(path, "digest")
    for row in range(rows):
        journal.append(Line(sent=Sent(row, "default", 0, f"h{row}", 7)))
        journal.append(Line(result=result(row, f"answer {row} “quoted”\n")))
    journal.sync()
    journal.close()
    return path.read_bytes()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Header, attempts and results come back as they were."""
    path = tmp_path / "j"
    filled(path)
    found = replay(path)
    assert found.shard == "digest"
    assert found.results == {(row, "default", 0): result(row, f"answer {row} “quoted”\n") for row in range(3)}
    assert found.tallies[(0, "default", 0)] == Tally(sent=1, hash="h0", ceiling=7)
    assert not found.torn
    assert found.in_flight() == {}


def test_every_line_is_json(tmp_path: Path) -> None:
    """A journal is text that jq reads, one object a line."""
    for line in filled(tmp_path / "j").decode().splitlines():
        assert "crc" in json.loads(line)


def test_a_journal_cut_at_any_byte_keeps_every_whole_record(tmp_path: Path) -> None:
    """A torn tail is dropped with a note; no record before it is lost, none is invented; a lost newline loses nothing."""
    path = tmp_path / "j"
    data = filled(path)
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        found = replay(path)
        whole = data[:cut] if data[cut : cut + 1] == b"\n" else data[:cut].rpartition(b"\n")[0]
        assert len(found.results) == whole.count(b'{"result"')
        assert found.torn == (whole != data[:cut].removesuffix(b"\n"))
        assert found.whole == (whole + b"\n" if whole else b"")


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    """Never a wrong answer and never a silent loss: a damaged record is an error that names file and line. Only damage
    to the very last byte looks like a torn tail, which is noted, and costs that record alone.
    """
    path = tmp_path / "j"
    data = filled(path, rows=2)
    honest = replay(path)
    for place in range(len(data)):
        number = data[:place].count(b"\n") + 1
        for bit in range(8):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            try:
                found = replay(path)
            except LedgerError as error:
                assert re.search(rf"{re.escape(str(path))}\W+(lines? )?{number}\b", str(error)), error
                continue
            assert (found.torn, place) == (True, len(data) - 1)
            assert found.results == {key: value for key, value in honest.results.items() if key[0] == 0}
            assert found.tallies == honest.tallies


def test_a_journal_cut_at_any_byte_is_gone_on_with(tmp_path: Path) -> None:
    """Behind a torn tail the next records are readable, and every whole record before it is kept."""
    path = tmp_path / "j"
    data = filled(path, rows=2)
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        kept = replay(path)
        journal, found = reopen(path, "digest")
        assert (found.results, found.tallies) == (kept.results, kept.tallies)
        journal.append(Line(result=result(9)))
        journal.close()
        again = replay(path)
        assert again.results == {**kept.results, (9, "default", 0): result(9)}
        assert (again.tallies, again.torn, again.shard) == (kept.tallies, False, "digest")


def test_a_reopened_journal_goes_on_behind_the_torn_tail(tmp_path: Path) -> None:
    """The unfinished record is cut off, and what follows is readable."""
    path = tmp_path / "j"
    data = filled(path)
    path.write_bytes(data[:-7])
    journal, found = reopen(path, "digest")
    assert found.torn
    journal.append(Line(result=result(9)))
    journal.close()
    assert set(replay(path).results) == {(0, "default", 0), (1, "default", 0), (9, "default", 0)}


def test_an_attempt_without_an_end_was_in_flight(tmp_path: Path) -> None:
    """Sent, and neither answered nor lost: it was under way when the writer died."""
    path = tmp_path / "j"
    journal = Journal(path, "digest")
    for row in range(4):
        journal.append(Line(sent=Sent(row, "default", 0, f"h{row}", 7)))
    journal.append(Line(result=result(0)))
    journal.append(Line(lost=Lost(1, "default", 0, 1)))
    journal.append(Line(lost=Lost(2, "default", 0, 0)))
    journal.close()
    found = replay(path)
    assert found.in_flight() == {(3, "default", 0): Tally(sent=1, hash="h3", ceiling=7)}
    assert found.tallies[(1, "default", 0)] == Tally(sent=1, unconfirmed=1, hash="h1", ceiling=7, risk=7)
    assert found.tallies[(2, "default", 0)] == Tally(sent=1, failed=1, hash="h2", ceiling=7)


@pytest.mark.parametrize(
    "line", [b"", b"{}", b'{"result":1}', b'{"a":1,"crc":"00000000"}', sealed_line(Line())[:-1] + b"x"]
)
def test_a_line_without_its_checksum_is_no_record(line: bytes) -> None:
    """Only a line whose checksum fits is believed."""
    assert opened_line(line) is None


def test_damage_is_named_with_a_way_on_that_keeps_the_rest(tmp_path: Path) -> None:
    """The command in the message takes away just the damaged lines; every other answer is still there."""
    path = tmp_path / "j"
    lines = filled(path).splitlines(keepends=True)
    for number in (2, 4):
        lines[number] = lines[number].replace(b"answer", b"anzwer")
    path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerError, match="lines 3, 5 are damaged") as caught:
        replay(path)
    script = str(caught.value).partition("sed ")[2].partition("\n")[0]
    subprocess.run(f"sed {script}", shell=True, check=True)
    assert set(replay(path).results) == {(2, "default", 0)}


def test_a_write_that_failed_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where space was missing the part of the line is taken back, so that the next record stands on a line of its own."""
    path = tmp_path / "j"
    filled(path)
    journal = Journal(path, "digest")
    real, calls = os.write, iter([10, None])

    def full(handle: int, data: bytes) -> int:
        size = next(calls, 0)
        if size is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle, data[: size or len(data)])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(LedgerError, match="free some space"):
        journal.append(Line(result=result(8)))
    journal.append(Line(result=result(9)))
    journal.close()
    assert (8, "default", 0) not in replay(path).results
    assert replay(path).results[(9, "default", 0)] == result(9)


def test_a_journal_whose_sync_failed_is_done_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed fdatasync nothing more is written, and no later sync calls the data safe."""
    journal = Journal(tmp_path / "j", "digest")

    def broken(_handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(LedgerError, match="Input/output error"):
        journal.sync()
    monkeypatch.undo()
    with pytest.raises(LedgerError, match=r"check the disk, then run the same command again.*not trusted"):
        journal.sync()
    with pytest.raises(LedgerError, match="nothing more is written"):
        journal.append(Line(result=result(0)))
