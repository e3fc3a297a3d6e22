import logging
import os
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from fake_apt import ALL, FakeApt

from longtail import apt
from longtail.errors import DataError


def test_lists_are_downloaded_into_the_folder_of_ours(tmp_path):
    run = FakeApt()

    lists = apt.fetch(tmp_path, run=run)

    assert lists.origin == "downloaded"
    assert lists.trouble == ""
    assert [file.kind for file in lists.files] == ["Packages", "Packages", "Translations"]
    update = run.commands[0]
    assert f"Dir::State::lists={tmp_path / 'lists'}" in update
    assert f"Dir::Cache={tmp_path / 'cache'}" in update
    configuration = (tmp_path / "apt.conf").read_text()
    assert 'Acquire::Languages { "en"; };' in configuration
    assert "#clear APT::Update::Post-Invoke-Success;" in configuration


def test_a_second_fetch_within_the_day_downloads_nothing(tmp_path):
    run = FakeApt()
    apt.fetch(tmp_path, run=run)

    assert apt.fetch(tmp_path, run=run).origin == "reused"
    assert run.updates == 1


def test_old_lists_are_downloaded_again(tmp_path):
    run = FakeApt()
    apt.fetch(tmp_path, run=run)
    two_days_ago = time.time() - timedelta(days=2).total_seconds()
    os.utime(tmp_path / "complete", (two_days_ago, two_days_ago))

    assert apt.fetch(tmp_path, run=run).origin == "downloaded"
    assert run.updates == 2


def test_without_network_older_lists_of_ours_serve_and_the_next_run_tries_again(tmp_path, caplog):
    run = FakeApt()
    apt.fetch(tmp_path, run=run)
    run.network = False

    lists = apt.fetch(tmp_path, run=run, max_age=timedelta(0))

    assert lists.origin == "older"
    assert "Could not resolve the mirror" in lists.trouble
    assert "Could not resolve the mirror" in caplog.text
    apt.fetch(tmp_path, run=run)
    assert run.updates == 3


def test_without_network_the_systems_lists_serve_and_the_log_says_so(tmp_path, caplog):
    run = FakeApt(network=False, system=("Packages",))

    with caplog.at_level(logging.WARNING):
        lists = apt.fetch(tmp_path, run=run)

    assert lists.origin == "system"
    assert "the system's own are read" in caplog.text


def test_without_any_lists_the_error_has_apts_words_and_what_to_do(tmp_path):
    with pytest.raises(DataError, match="Could not resolve the mirror") as caught:
        apt.fetch(tmp_path, run=FakeApt(network=False))

    assert "longtail retrain --data FILE" in str(caught.value)


def test_descriptions_alone_are_no_lists(tmp_path):
    with pytest.raises(DataError, match="the system has none"):
        apt.fetch(tmp_path, run=FakeApt(network=False, system=("Translation-en",)))


def test_without_apt_a_sentence_says_so(tmp_path):
    def no_such_program(command):
        raise FileNotFoundError(command[0])

    with pytest.raises(DataError, match="there is no apt-get on this machine") as caught:
        apt.fetch(tmp_path, run=no_such_program)

    assert "longtail retrain --data FILE" in str(caught.value)


def test_other_archives_are_left_out_beside_debian(tmp_path):
    other = "Filename: /nowhere/Packages\nOrigin: vendor\nCreated-By: Packages\n"

    lists = apt.fetch(tmp_path, run=FakeApt(others=other))

    assert len(lists.files) == len(ALL)
    assert all(not file.path.startswith("/nowhere") for file in lists.files)


def test_a_list_that_apt_cannot_read_is_named(tmp_path):
    lists = apt.Lists((apt.IndexFile("Packages", "/nowhere/Packages"),), "system")

    with pytest.raises(DataError, match=r"/nowhere/Packages: .*Could not open file"):
        list(apt.read_lists(lists, "Packages", frozenset({"Package"}), run=FakeApt()))


def test_commands_run_without_input_and_in_english(monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    program = "import os, sys; print(os.environ['LC_ALL'], repr(sys.stdin.read()))"

    done = apt.run_command([sys.executable, "-c", program])

    assert done.stdout.decode().split() == ["C", "''"]


def test_a_command_that_never_answers_is_a_failure(monkeypatch):
    monkeypatch.setattr(apt, "_UPDATE_SECONDS", 0.2)

    done = apt.run_command([sys.executable, "-c", "import time; time.sleep(30)"])

    assert done.returncode == 124
    assert b"no answer within" in done.stderr


def test_many_complaints_are_counted_not_listed(tmp_path):
    def run(command):
        errors = b"".join(b"E: mirror %d is away\n" % number for number in range(9))
        return subprocess.CompletedProcess(command, 100, b"", errors)

    with pytest.raises(DataError, match="mirror 0 is away; and 8 more"):
        apt.fetch(tmp_path, run=run)
