"""An apt for tests: answers what apt-get and apt-helper would, from the invented lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess

LISTS = Path(__file__).parents[1] / "fixtures" / "debian"
NO_NETWORK = "W: Failed to fetch the index: Could not resolve the mirror\n"
ALL = ("Packages", "Packages-security", "Translation-en")


@dataclass
class FakeApt:
    """The private lists appear with a successful update; the system's are there from the start."""

    network: bool = True
    system: tuple[str, ...] = ()
    origin: str = "Debian"
    others: str = ""
    private: tuple[str, ...] = ()
    commands: list[list[str]] = field(default_factory=list)

    def __call__(self, command: Sequence[str]) -> CompletedProcess[bytes]:
        self.commands.append(list(command))
        if command[-1] == "update":
            return self._update()
        if command[-1] == "indextargets":
            names = self.private if "-o" in command else self.system
            return CompletedProcess(command, 0, self._targets(names).encode(), b"")
        assert command[1] == "cat-file"
        path = Path(command[2])
        if not path.is_file():
            return CompletedProcess(command, 100, b"", b"E: Could not open file\n")
        return CompletedProcess(command, 0, path.read_bytes(), b"")

    @property
    def updates(self) -> int:
        return sum(command[-1] == "update" for command in self.commands)

    def _update(self) -> CompletedProcess[bytes]:
        if not self.network:  # apt itself ends with 0 here
            return CompletedProcess([], 0, b"", NO_NETWORK.encode())
        self.private = self.private or ALL
        return CompletedProcess([], 0, b"", b"")

    def _targets(self, names: tuple[str, ...]) -> str:
        targets = ""
        for name in names:
            kind = "Translations" if name.startswith("Translation") else "Packages"
            targets += f"MetaKey: main/{name}\nFilename: {LISTS / name}\n"
            targets += f"Origin: {self.origin}\nCreated-By: {kind}\n\n"
        return targets + self.others
