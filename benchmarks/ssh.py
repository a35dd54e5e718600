"""Boards and servers over ssh, with the user's own client, keys and settings."""

from __future__ import annotations

import shutil
from pathlib import Path

from movinet_edge.benchmarks.device import PATIENCE, Device, DeviceLost, Done, call
from movinet_edge.errors import BadInput

COPY_PATIENCE = 600.0
FAILED = 255  # ssh's own, where the command's code is anything below
# Never asks: a benchmark that waits for a password looks as if it ran.
OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15")
ADVICE = {
    "Permission denied": "no key of this user is accepted there; add one with ssh-copy-id",
    "Host key verification failed": "its host key is not known; connect once with ssh by hand",
    "Could not resolve": "no such host is known; check the name",
    "Connection refused": "nothing listens there; is sshd running?",
    "timed out": "it does not answer; is it on, and is the address right?",
}


class SshDevice(Device):
    """A host as ``ssh`` takes it: ``user@host`` or a name of its settings."""

    home = "/tmp"

    def __init__(self, host: str, home: str | None = None):
        super().__init__()
        if host.startswith("-") or not host.strip():
            raise BadInput(f"{host!r} is no host; write --device ssh:user@host")
        for tool in ("ssh", "scp"):
            if shutil.which(tool) is None:
                raise BadInput(f"{tool} is not installed; get an OpenSSH client")
        self.host = host
        self.name, self.home = f"ssh:{host}", home or self.home

    def shell(self, script: str, timeout: float = PATIENCE) -> Done:
        done = call(["ssh", *OPTIONS, self.host, script], timeout, self.name)
        if done.code == FAILED:
            raise self._gone(done)
        return done

    def send(self, local: Path, remote: str) -> Done:
        return self._copy(str(local), f"{self.host}:{remote}")

    def fetch(self, remote: str, local: Path) -> Done:
        return self._copy(f"{self.host}:{remote}", str(local))

    def _copy(self, source: str, target: str) -> Done:
        return call(["scp", "-q", *OPTIONS, source, target], COPY_PATIENCE, self.name)

    def _gone(self, done: Done) -> BadInput | DeviceLost:
        said = done.err
        for words, advice in ADVICE.items():
            if words in said:
                return BadInput(f"{self.name} cannot be reached: {advice}")
        return DeviceLost(f"{self.name} was disconnected ({done.reason}); try again")
