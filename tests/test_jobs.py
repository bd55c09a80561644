"""Parts with limits, on commands of a line each: what fails or takes too long is told."""

import json
import time

from processes import ends_within

from vared_mm.jobs import Job, Part, run_parts, table


def read(file, known):
    return [{**known, **json.loads(file.read_text())}]


def job(name, file, *codes):
    return Job(name, [["-c", code] for code in codes], {file: {"net": name}})


def writing(file, text='{"ms": 1.5}'):
    return f"open({str(file)!r}, 'w').write({text!r})"


def test_what_fails_is_told_with_its_last_words_and_the_others_go_on(tmp_path):
    first, second, third = (tmp_path / f"{i}.tmp" for i in range(3))
    bad = Part("bad", 200, [
        job("boom", first, writing(first), "raise KeyError('luck')", writing(second)),
        job("half", second, writing(second, "{")),
        job("fine", third, writing(third)),
    ], read)  # fmt: skip
    good = Part("good", 200, [job("after", third, writing(third, '{"ms": [1.0, 250.4]}'))], read)
    outcomes = run_parts([bad, good], 200, tmp_path / "out", "a card")
    assert [outcome.state for outcome in outcomes] == ["failed", "done"]
    # Also what was written before the failure counts.
    assert outcomes[0].rows == [{"net": "boom", "ms": 1.5}, {"net": "fine", "ms": 1.5}]
    (boom, half) = outcomes[0].failures
    assert boom.startswith("boom: python -c raise KeyError('luck') ended with 1: KeyError: 'luck'")
    assert half.startswith("half: 1.tmp cannot be read: JSONDecodeError")
    written = (tmp_path / "out" / "summary.md").read_text()
    assert written.startswith("# a card\n\n| part | state |")
    assert "\n| bad | failed | 2 | 3 | 2 | 0 | " in written
    assert f"\n- {boom}\n" in written
    assert "\n| after | 1 to 250 |\n" in written
    assert json.loads((tmp_path / "out" / "bad.json").read_text())["failures"] == [boom, half]
    assert "KeyError: 'luck'" in (tmp_path / "out" / "log.txt").read_text()


def test_what_meets_its_limit_ends_with_all_it_started_and_the_rest_is_not_begun(tmp_path):
    file, pid = tmp_path / "file", tmp_path / "pid"
    child = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(99)"
    starts = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    jobs = [job("long", file, starts), job("late", tmp_path / "none", "pass")]
    file.write_text('{"ms": 1.5}')
    begin = time.monotonic()
    (outcome,) = run_parts([Part("slow", 3, jobs, read)], 60, tmp_path / "out", "a card")
    assert time.monotonic() - begin < 60
    assert outcome.state == "cut short"
    assert outcome.rows == [{"net": "long", "ms": 1.5}]
    assert outcome.unfinished == [
        "long: stopped, its part's time was over", "late: not begun, its part's time was over",
    ]  # fmt: skip
    # A busy machine may not have come so far.
    if pid.exists():
        assert ends_within(pid.read_text(), 10)


def test_a_part_that_is_cut_short_before_its_first_result_has_failed(tmp_path):
    jobs = [job("any", tmp_path / "file", "pass")]
    (outcome,) = run_parts([Part("none", 0, jobs, read)], 60, tmp_path / "out", "a card")
    assert outcome.state == "failed"
    assert "No result." in (tmp_path / "out" / "summary.md").read_text()


def test_columns_are_those_of_all_rows():
    assert table([{"a": 1, "b": 0.12345}, {"b": "x|y", "c": 250.6}]) == (
        "| a | b | c |\n| --- | --- | --- |\n| 1 | 0.123 |  |\n|  | x\\|y | 251 |"
    )
