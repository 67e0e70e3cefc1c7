"""Who joins a run, and what it is told when somebody is missing or different."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from host_processes import ROOT, free_port

from biofm_jax.errors import UserError
from biofm_jax.train.hosts import discovered_seat, seat_of_environment
from biofm_jax.train.roll_call import Line, Seat, roll_call
from biofm_jax.train.watch import Watch

CALL = """
import json, sys, time
{plant}
from biofm_jax.errors import UserError
from biofm_jax.train.roll_call import Seat, roll_call
seat, facts = json.loads(sys.argv[1]), json.loads(sys.argv[2])
try:
    print(json.dumps(roll_call(Seat(*seat), facts)[1]))
except UserError as error:
    print("refused:", error)
"""
FACTS = {"jax": "0.10.2", "commit": "abc", "loop.steps": 10}


def call(*seats, plants=None, facts=None):
    """What each process says; a seat is (processes, process, seconds)."""
    coordinator = f"127.0.0.1:{free_port()}"
    running = []
    for number, (processes, process, seconds) in enumerate(seats):
        seat = json.dumps([coordinator, processes, process, seconds])
        own = json.dumps(FACTS | (facts or {}).get(number, {}))
        code = CALL.format(plant=(plants or {}).get(number, ""))
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", code, seat, own],
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
        )
    return [process.communicate(timeout=60)[0].strip() for process in running]


def test_all_are_there():
    assert call((3, 1, 30), (3, 0, 30), (3, 2, 30)) == ["[]"] * 3


def test_the_coordinator_is_absent():
    (said,) = call((2, 1, 1))
    assert said.startswith("refused: process 1 found no coordinator at 127.0.0.1:")
    assert "within 1 s (Connection refused)" in said and "BIOFM_COORDINATOR" in said


def test_somebody_is_missing():
    first, second = call((3, 0, 2), (3, 2, 30))
    assert first == second and "of 3 processes, 1 did not join" in first
    assert "within 2 s: 1. Start the same command" in first


@pytest.mark.parametrize(
    "seats, words",
    [
        (((2, 0, 30), (3, 1, 30)), "was told of 3 processes, "),
        (((3, 0, 30), (3, 1, 30), (3, 1, 30)), "process number 1 was taken by "),
        (((2, 0, 30), (2, 2, 30)), "process number 2 was taken by "),
    ],
)
def test_processes_that_are_counted_wrong(seats, words):
    said = call(*seats)
    assert len(set(said)) == 1 and words in said[0]


@pytest.mark.parametrize("changed", [{"jax": "0.10.1"}, {"commit": "abd"}, {"loop.steps": 11}])
def test_hosts_that_run_something_else(changed):
    first, second = call((2, 0, 30), (2, 1, 30), facts={1: changed})
    ((name, value),) = changed.items()
    assert first == second
    assert f"(process 1) does not run what {socket.gethostname()} (process 0) runs" in first
    assert f"{name} is {value} there and {FACTS[name]} on" in first


def test_a_clock_that_is_wrong_is_told():
    first, second = call(
        (2, 0, 30), (2, 1, 30), plants={1: "t = time.time\ntime.time = lambda: t() - 60"}
    )
    assert first == second
    (warning,) = json.loads(first)
    assert "(process 1) is 60.0 s behind that of" in warning or "is 59.9 s behind" in warning


def test_a_stranger_on_the_port_is_ignored():
    port = free_port()
    seats = [Seat(f"127.0.0.1:{port}", 2, number, 30) for number in (0, 1)]
    found = {}
    thread = threading.Thread(target=lambda: found.update(first=roll_call(seats[0], FACTS)))
    thread.start()
    for _ in range(100):
        try:
            stranger = socket.create_connection(("127.0.0.1", port), 1)
            break
        except OSError:
            time.sleep(0.02)
    stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    found["second"] = roll_call(seats[1], FACTS)
    thread.join(30)
    assert [len(found[name][0]) for name in ("first", "second")] == [1, 1]
    for lines, _ in found.values():
        lines[0].close()


def test_a_port_in_use_is_refused():
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on port {port}"):
            roll_call(Seat(f"127.0.0.1:{port}", 2, 0, 5), FACTS)


@pytest.mark.parametrize(
    "values, words",
    [
        (("10.0.0.2:80", "2", ""), "BIOFM_PROCESS_ID is not set"),
        (("10.0.0.2:80", "two", "0"), "BIOFM_PROCESSES=two"),
        (("10.0.0.2:80", "2", "2"), "BIOFM_PROCESS_ID=2 must be 0 to 1"),
        (("10.0.0.2", "2", "0"), "must be HOST:PORT"),
        (("10.0.0.2:port", "2", "0"), "must be HOST:PORT"),
    ],
)
def test_variables_that_make_no_sense(monkeypatch, values, words):
    names = ("BIOFM_COORDINATOR", "BIOFM_PROCESSES", "BIOFM_PROCESS_ID")
    for name, value in zip(names, values, strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=words):
        seat_of_environment(5)


def test_seats_of_the_environment(monkeypatch):
    assert seat_of_environment(5) is None
    monkeypatch.setenv("BIOFM_COORDINATOR", "[::1]:8476")
    monkeypatch.setenv("BIOFM_PROCESSES", "2")
    monkeypatch.setenv("BIOFM_PROCESS_ID", "1")
    seat = seat_of_environment(5)
    assert seat == Seat("[::1]:8476", 2, 1, 5) and seat.address == ("::1", 8476)


def test_seats_of_slurm(monkeypatch):
    for name in ("BIOFM_COORDINATOR", "BIOFM_PROCESSES", "BIOFM_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    slurm = {
        "SLURM_JOB_ID": "1000",
        "SLURM_STEP_NODELIST": "gpu[3-4]",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "0",
    }
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    seat, devices = discovered_seat(5)
    assert (seat.address[0], seat.processes, seat.process, devices) == ("gpu3", 2, 1, [0])


def test_no_cluster_is_told():
    with pytest.raises(UserError, match="found no TPU pod, SLURM or MPI job here"):
        discovered_seat(5)


class Three:
    """Watches of processes 0, 1 and 2 in one process, and what would have ended them."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            near = [socket.create_connection(server.getsockname()) for _ in range(2)]
            pairs = [(connection, server.accept()[0]) for connection in near]
        self.ended = [[], [], []]
        here = [Line(pair[0], f"host{i} (process {i})") for i, pair in enumerate(pairs, 1)]
        self.far = [Line(pair[1], "host0 (process 0)") for pair in pairs]
        self.watches = [
            Watch(here, chief=True, end=self.ended[0].append),
            Watch(self.far[:1], chief=False, end=self.ended[1].append),
            Watch(self.far[1:], chief=False, end=self.ended[2].append),
        ]

    def wait(self, *numbers):
        end = time.monotonic() + 10
        while not all(self.ended[number] for number in numbers) and time.monotonic() < end:
            time.sleep(0.01)
        return [self.ended[number] for number in numbers]


@pytest.fixture
def three(monkeypatch):
    monkeypatch.setattr("biofm_jax.train.watch.GRACE", 0.2)
    found = Three()
    yield found
    for watch in found.watches:
        watch.close()


def test_a_process_that_dies_ends_all_and_is_named(three):
    three.far[0].connection.shutdown(socket.SHUT_RDWR)  # as the kernel does for process 1
    for said in three.wait(0, 2):
        assert len(said) == 1 and "host1 (process 1) is gone without a word" in said[0]


def test_a_process_that_fails_is_quoted(three):
    three.watches[1].failing("UserError: no such file")
    three.watches[1].close()
    for said in three.wait(0, 2):
        assert len(said) == 1 and "host1 (process 1) failed: UserError: no such file" in said[0]


def test_processes_that_fail_together_speak_for_themselves(three):
    for watch in three.watches:
        watch.failing("NonFiniteLoss: step 5")
    for watch in reversed(three.watches):
        watch.close()
    time.sleep(0.4)
    assert three.ended == [[], [], []]


def test_processes_that_leave_in_peace_end_nobody(three):
    three.watches[0].close()
    three.watches[2].close()
    three.watches[1].close()
    time.sleep(0.4)
    assert three.ended == [[], [], []]
