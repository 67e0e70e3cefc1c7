"""Roll call: every process tells process 0 who it is, before JAX's own runtime starts.

JAX ends a process with a stack trace when a peer is missing, and does not know what the peers
run. The call takes lines of JSON over the coordinator's port, which is free until JAX takes it.
Its connections stay open: one that breaks tells at once that a process died (`watch.py`).
"""

import contextlib
import dataclasses
import json
import socket
import time
from collections.abc import Sequence

from biofm_jax.errors import UserError

SKEW = 5.0  # seconds between two clocks that are worth a warning
LINE = 1 << 20  # bytes; no honest line is longer
PATIENCE = 5.0  # seconds for one line of somebody who is connected


@dataclasses.dataclass(frozen=True)
class Seat:
    """One process's place in a run.

    Attributes:
        coordinator: `host:port` of process 0.
        processes: of the whole run.
        process: this one, 0 to processes - 1.
        timeout: seconds to wait for the others.
    """

    coordinator: str
    processes: int
    process: int
    timeout: float = 300.0

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of process 0.

        Raises:
            UserError: the coordinator is not `host:port`.
        """
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise UserError(
                f"the coordinator {self.coordinator!r} must be HOST:PORT, such as 10.0.0.2:8476"
            )
        return host.strip("[]"), int(port)


@dataclasses.dataclass(frozen=True)
class Member:
    """What a process says of itself.

    Attributes:
        process: its number.
        processes: how many it believes there are.
        host: name of its machine.
        ahead: seconds by which its clock is ahead of process 0's.
        facts: what must be equal everywhere, name -> value.
    """

    process: int
    processes: int
    host: str
    ahead: float
    facts: dict

    def __str__(self) -> str:
        return f"{self.host} (process {self.process})"


class Line:
    """A connection that carries one JSON object a line."""

    def __init__(self, connection: socket.socket, name: str):
        self.connection, self.name = connection, name
        self._buffer = b""
        for option, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, option):  # a machine that vanishes is noticed within a minute
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def send(self, message: dict) -> None:
        """Send an object; a broken connection is left to whoever reads."""
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def read(self, seconds: float | None) -> dict | None:
        """The next object, or None where the other side has gone or writes something else.

        Raises:
            TimeoutError: nothing whole came in time; None waits for ever.
        """
        self.connection.settimeout(seconds)
        try:
            while b"\n" not in self._buffer:
                more = self.connection.recv(65536)
                if not more or len(self._buffer) > LINE:
                    return None
                self._buffer += more
            line, _, self._buffer = self._buffer.partition(b"\n")
            message = json.loads(line)
        except TimeoutError:
            raise
        except (OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    @property
    def waiting(self) -> bool:
        """Whether a whole line was received and not read yet."""
        return b"\n" in self._buffer

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self.connection.close()


def roll_call(seat: Seat, facts: dict) -> tuple[list[Line], list[str]]:
    """Wait until all processes are there and run the same.

    Args:
        seat: of this process.
        facts: what must be equal everywhere, name -> JSON value.

    Returns:
        The connections that stay open (of process 0: to all others; of another: to process 0),
        and warnings.

    Raises:
        UserError: somebody is missing, counted wrong or runs something else; every process that
            is there says the same.
    """
    own = {"process": seat.process, "processes": seat.processes, "host": socket.gethostname()}
    own["facts"] = facts
    return _take(seat, own) if seat.process == 0 else _answer(seat, own)


def _take(seat: Seat, own: dict) -> tuple[list[Line], list[str]]:
    members, lines = [Member(**own, ahead=0.0)], []
    deadline = time.monotonic() + seat.timeout
    with _listening(seat.address[1]) as server:
        try:
            while len(members) < seat.processes:
                server.settimeout(max(0.01, deadline - time.monotonic()))
                try:
                    line = Line(server.accept()[0], "")
                except TimeoutError:
                    raise UserError(_missing(seat, members)) from None
                if (member := _hear(line)) is None:
                    line.close()  # no process of ours: a port scanner, a browser
                    continue
                line.name = str(member)
                lines.append(line)
                if problem := _misplaced(member, members, seat):
                    raise UserError(problem)
                members.append(member)
            members.sort(key=lambda member: member.process)
            if problem := differences(members):
                raise UserError(problem)
        except UserError as error:
            for line in lines:
                line.send({"error": str(error)})
                line.close()
            raise
    warnings = skews(members)
    # The port is closed before the others hear of it, and free for JAX.
    for line in lines:
        line.send({"warnings": warnings, "host": own["host"]})
    return lines, warnings


def _listening(port: int) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=4096)
    except OSError as error:
        raise UserError(
            f"process 0 cannot listen on port {port} of this host ({error.strerror}): another run "
            "may use it; choose another port in BIOFM_COORDINATOR, the same for all processes"
        ) from None


def _hear(line: Line) -> Member | None:
    """What a newcomer says; its clock is read when it is asked, not when it connects."""
    line.send({"call": "biofm_jax"})
    try:
        said = line.read(PATIENCE)
        return said and Member(
            process=int(said["process"]),
            processes=int(said["processes"]),
            host=str(said["host"]),
            ahead=float(said["time"]) - time.time(),
            facts=dict(said["facts"]),
        )
    except (TimeoutError, KeyError, TypeError, ValueError):
        return None


def _answer(seat: Seat, own: dict) -> tuple[list[Line], list[str]]:
    deadline = time.monotonic() + seat.timeout
    reason = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            line = Line(socket.create_connection(seat.address, min(left, PATIENCE)), "process 0")
        except OSError as error:
            reason = error.strerror or str(error)
            time.sleep(min(0.2, left))
            continue
        try:
            if (line.read(min(left, PATIENCE)) or {}).get("call") == "biofm_jax":
                line.send(own | {"time": time.time()})
                # Process 0 waits for the last process as long as it was told to.
                verdict = line.read(max(left, 0) + seat.timeout + PATIENCE)
                if verdict and "error" in verdict:
                    raise UserError(verdict["error"])
                if verdict:
                    line.name = f"{verdict['host']} (process 0)"
                    return [line], verdict["warnings"]
                reason = "process 0 hung up"
            else:
                reason = "what answers there is no process 0 that waits; another run may use it"
        except TimeoutError:
            reason = "it answers, but not with a roll call"
        line.close()
        time.sleep(0.2)
    raise UserError(
        f"process {seat.process} found no coordinator at {seat.coordinator} within "
        f"{seat.timeout:g} s ({reason}). Start process 0 there with the same command, and check "
        "BIOFM_COORDINATOR and the firewall; BIOFM_JOIN_TIMEOUT sets the seconds to wait"
    )


def _misplaced(member: Member, members: Sequence[Member], seat: Seat) -> str | None:
    if member.processes != seat.processes:
        return (
            f"{member} was told of {member.processes} processes, {members[0]} of "
            f"{seat.processes}; BIOFM_PROCESSES must be the same everywhere"
        )
    twins = [other for other in members if other.process == member.process]
    if twins or not 0 < member.process < seat.processes:
        who = f"{twins[0].host} and {member.host}" if twins else member.host
        return (
            f"process number {member.process} was taken by {who}; BIOFM_PROCESS_ID must be "
            f"another one of 0 to {seat.processes - 1} for each process"
        )
    return None


def _missing(seat: Seat, members: Sequence[Member]) -> str:
    there = {member.process for member in members}
    absent = [str(number) for number in range(seat.processes) if number not in there]
    shown = ", ".join(absent[:20]) + (f" and {len(absent) - 20} more" if len(absent) > 20 else "")
    return (
        f"of {seat.processes} processes, {len(absent)} did not join {seat.coordinator} within "
        f"{seat.timeout:g} s: {shown}. Start the same command for each of them, or correct "
        "BIOFM_PROCESSES; BIOFM_JOIN_TIMEOUT sets the seconds to wait"
    )


def differences(members: Sequence[Member]) -> str | None:
    """What a process runs that process 0 does not, in words, or None."""
    first = members[0]
    for member in members[1:]:
        names = [
            name
            for name in sorted(first.facts.keys() | member.facts.keys())
            if first.facts.get(name) != member.facts.get(name)
        ]
        if names:
            told = "; ".join(
                f"{name} is {member.facts.get(name)} there and {first.facts.get(name)} on "
                f"{first.host}"
                for name in names[:5]
            )
            more = f" (and {len(names) - 5} more)" if len(names) > 5 else ""
            return (
                f"{member} does not run what {first} runs: {told}{more}. Install the same "
                "versions, check out the same commit and give the same options on every host"
            )
    return None


def skews(members: Sequence[Member]) -> list[str]:
    """Clocks that are more than `SKEW` seconds from process 0's, in words."""
    return [
        f"the clock of {member} is {abs(member.ahead):.1f} s "
        f"{'ahead of' if member.ahead > 0 else 'behind'} that of {members[0]}; set them by NTP, "
        "or times of logs and files will not fit together"
        for member in members
        if abs(member.ahead) > SKEW
    ]
