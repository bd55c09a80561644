"""How C++ sources are compiled and kept: what is loaded, from where, and what takes over."""

import logging
import multiprocessing
import os
import shutil
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import KERNELS, SOURCES
from processes import ends_within

from vared_mm.kernels import compiler, loading, max_pool
from vared_mm.kernels.loading import Source, compiled, loaded

TWO = Source("two", 'extern "C" long number() { return 2; }\nextern "C" void nothing() {}')
THREE = Source("three", 'extern "C" long number() { return 3; }')

needs_compiler = pytest.mark.usefixtures("_compiler")


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    """A folder of the test's own, and nothing that was told or given up before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Who keeps the warnings of other tests, where they are failures.
    monkeypatch.setattr(logging.getLogger(loading.__name__), "handlers", [])
    loading.warn.cache_clear()
    compiler._too_slow.clear()


def script(folder, text):
    file = folder / "cxx"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


def number(source=TWO):
    library = loaded(source)
    return None if library is None else library["number"]()


@needs_compiler
def test_a_library_is_compiled_once():
    assert number() == 2
    made = compiled(TWO).stat().st_mtime_ns
    assert number() == 2
    assert compiled(TWO).stat().st_mtime_ns == made


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def cut_to_nothing(file):
    file.write_bytes(b"")


def give_another(file):
    shutil.copy(compiled(THREE), file)


def link_to_a_copy(file):
    copy = file.with_name("copy")
    file.replace(copy)
    file.symlink_to(copy)


@needs_compiler
@pytest.mark.parametrize("spoil", [cut, cut_to_nothing, give_another, link_to_a_copy])
def test_a_file_that_is_not_as_it_was_made_is_made_again(spoil):
    spoil(compiled(TWO))
    assert number() == 2
    assert not compiled(TWO).is_symlink()


@needs_compiler
def test_another_compiler_or_c_library_makes_another_file(monkeypatch, tmp_path):
    files = {compiled(TWO)}
    monkeypatch.setattr(compiler, "c_library", lambda: "glibc 1.0")
    files.add(compiled(TWO))
    cxx = script(tmp_path, f'exec {compiler.command()[0]} "$@"')
    monkeypatch.setenv("CXX", cxx)
    files.add(compiled(TWO))
    os.utime(cxx, (0, 0))
    files.add(compiled(TWO))
    assert len(files) == 4


@pytest.mark.parametrize(
    ("script_text", "told"),
    [
        ('printf "Fehler: \\374ble Option\\n" >&2; exit 1', "ble Option"),
        ("head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 1", "xxx"),
        ("kill -9 $$", "ends with -9: no word"),
        ("exit 0", "ends with 0: no word"),
        ('for last; do :; done; echo garbage > "$last"', "invalid ELF header|too short"),
    ],
    ids=["no UTF-8", "3 MB", "ended by a signal", "nothing made", "no library made"],
)
def test_whatever_a_compiler_does_torch_takes_over_after_one_warning(
    script_text, told, monkeypatch, caplog, tmp_path
):
    monkeypatch.setenv("CXX", script(tmp_path, script_text))
    assert number() is None
    assert number() is None
    (record,) = caplog.records
    assert "torch's operations take their place" in record.getMessage()
    assert any(words in record.getMessage() for words in told.split("|"))
    assert len(record.getMessage()) < 5000


@pytest.mark.parametrize("cxx", ["no-such-compiler", "-x", '"g++', "/etc/passwd"])
def test_a_compiler_that_cannot_be_started_costs_nothing_but_speed(cxx, monkeypatch, caplog):
    monkeypatch.setenv("CXX", cxx)
    assert number() is None
    assert number(THREE) is None
    assert len(caplog.records) == 1


def test_a_compiler_that_hangs_is_ended_with_its_children_and_asked_once(
    monkeypatch, caplog, tmp_path
):
    monkeypatch.setattr(compiler, "SECONDS", 0.5)
    pid = tmp_path / "pid"
    monkeypatch.setenv("CXX", script(tmp_path, f"sleep 100 & echo $! > {pid}; wait"))
    start = time.monotonic()
    assert number() is None
    assert number() is None
    assert time.monotonic() - start < 5
    assert "takes more than 0.5 s" in caplog.text
    assert ends_within(pid.read_text().strip(), 5)


@needs_compiler
@pytest.mark.parametrize("cxx", ["", "  "])
def test_an_empty_cxx_is_as_none(cxx, monkeypatch):
    monkeypatch.setenv("CXX", cxx)
    assert number() == 2


@needs_compiler
def test_a_compilers_path_may_hold_spaces(monkeypatch, tmp_path):
    folder = tmp_path / "my compilers"
    folder.mkdir()
    monkeypatch.setenv("CXX", script(folder, f'exec {compiler.command()[0]} "$@"'))
    assert number() == 2


@needs_compiler
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o702, 0o1777])
def test_a_folder_that_others_may_write_into_is_not_loaded_from(mode, caplog):
    file = compiled(TWO)
    file.parent.chmod(mode)
    assert number() is None
    assert "others may write into it" in caplog.text


@needs_compiler
def test_a_folder_in_one_that_all_may_write_into_is_not_loaded_from(caplog):
    caches = compiled(TWO).parents[1]
    caches.chmod(0o777)
    assert number() is None
    assert "put a folder of their own in the place" in caplog.text
    # With the sticky bit, as /tmp has it, nobody can.
    caches.chmod(0o1777)
    assert number() == 2


@needs_compiler
@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give a folder away")
def test_a_folder_of_somebody_else_is_not_loaded_from(caplog):
    folder = compiled(TWO).parent
    os.chown(folder, 12345, 12345)
    assert number() is None
    assert "belongs to somebody else" in caplog.text


@needs_compiler
@pytest.mark.parametrize("umask", [0, 0o002, 0o077])
def test_whatever_is_made_nobody_else_may_write_there(umask):
    before = os.umask(umask)
    try:
        file = compiled(TWO)
    finally:
        os.umask(before)
    for path in (file, file.parent, file.parents[1]):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert number() == 2


def test_a_folder_that_cannot_be_made_costs_nothing_but_speed(monkeypatch, caplog, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert number() is None
    assert "XDG_CACHE_HOME" in caplog.text


@needs_compiler
def test_a_full_disk_costs_nothing_but_speed(monkeypatch, caplog):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert number() is None
    assert "No space left" in caplog.text
    monkeypatch.undo()


def test_without_a_compiler_one_warning_tells_what_takes_over(monkeypatch, caplog, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    max_pool.library.cache_clear()
    try:
        assert max_pool.library() is None
        assert max_pool.library() is None
    finally:
        max_pool.library.cache_clear()
    (record,) = caplog.records
    assert "torch's operations take their place" in record.getMessage()
    assert "no C++ compiler" in record.getMessage()


def no_home():
    raise RuntimeError("Could not determine home directory.")


def test_without_a_home_folder_the_warning_names_the_variable_that_helps(monkeypatch, caplog):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("CXX", "any")
    monkeypatch.setattr(Path, "home", no_home)
    assert number() is None
    assert "XDG_CACHE_HOME" in caplog.text


def test_threads_that_want_the_kernels_first_do_not_disturb_each_other(monkeypatch, tmp_path):
    # A compiler that takes its time: it writes its own words, beside what the others write.
    cxx = script(tmp_path, 'sleep 0.3\nfor last; do :; done\necho "$@" > "$last"')
    monkeypatch.setenv("CXX", f"{cxx} -DMORE_THAN_A_NAME")
    with ThreadPoolExecutor(4) as threads:
        made = set(threads.map(lambda _: compiled(max_pool.SOURCE), range(4)))
    (file,) = (tmp_path / "cache/vared_mm").iterdir()
    assert made == {file}
    # What the user asks for comes last, where it holds.
    ours, _, rest = file.read_text().partition(" -DMORE_THAN_A_NAME ")
    assert ours.startswith("-O3 ")
    assert rest.startswith("-x c++ - -o ")


def number_in(queue):
    queue.put(number())


@needs_compiler
def test_processes_that_want_the_kernels_first_do_not_disturb_each_other(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=number_in, args=(queue,)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=60) for _ in processes] == [2, 2, 2]
    for process in processes:
        process.join()
    assert len(list((tmp_path / "cache/vared_mm").iterdir())) == 1


@needs_compiler
def test_an_update_of_the_file_does_not_reach_those_who_imported_the_old_one(tmp_path):
    file = tmp_path / "two.cpp"
    file.write_text(TWO.text)
    source = Source.read(file)
    file.write_text('extern "C" long number(long *from) { return *from; }')
    assert number(source) == 2


@needs_compiler
def test_a_source_that_does_not_compile_is_told_with_the_compilers_words(caplog):
    assert loaded(Source("wrong", "int main( {")) is None
    assert "error:" in caplog.text


@needs_compiler
def test_a_function_that_the_library_lacks_is_told(caplog):
    assert loaded(Source("none", '#if 0\nextern "C" void lacking() {}\n#endif')) is None
    assert "lacking" in caplog.text


def test_every_source_belongs_to_a_kernel_that_is_tested_with_and_without_it():
    made_of = "".join(source.text for source in SOURCES)
    files = Path(loading.__file__).parent.rglob("*.cpp")
    assert [file.name for file in files if file.read_text("utf-8") not in made_of] == []


@needs_compiler
@pytest.mark.parametrize("kernels", KERNELS, ids=lambda kernels: kernels.__name__)
def test_every_source_compiles(kernels, monkeypatch):
    monkeypatch.undo()
    library = getattr(kernels, "compiled_kernels", kernels.library)
    assert library() is not None
