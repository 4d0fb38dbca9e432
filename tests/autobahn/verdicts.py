"""What Autobahn found, as a table, and what of it is not to be."""

from __future__ import annotations

import collections
import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import attrs


__all__ = ["BEHAVIOURS", "Finding", "faults", "read_reports", "table"]

BEHAVIOURS = ("OK", "NON-STRICT", "INFORMATIONAL", "FAILED")
_GOOD = ("OK", "INFORMATIONAL")
# Bad text is to be refused at its first bad byte. Here that byte comes inside a frame that is not whole yet, and ours
# is refused when the frame is whole: text is checked a frame at a time, which is what makes it fast.
_LATE_FAILURES = frozenset({"6.4.3", "6.4.4"})
_CLOSES_WITHOUT_CODE = "7.3.1"


@attrs.frozen
class Finding:
    """
    One case.

    Attributes:
        name: Such as ``6.4.3``.
        behaviour: What Autobahn says of the messages.
        close: What Autobahn says of the end: "OK" if it is right, or "INFORMATIONAL".
        code: The close code that was received, or None.
        codes: The close codes that are right.
        result: Autobahn's words about both.
    """

    name: str
    behaviour: str
    close: str
    code: int | None
    codes: tuple[int, ...] = (1000,)
    result: str = ""

    @property
    def section(self) -> str:
        """The number before the first point."""
        return self.name.split(".")[0]

    @property
    def close_verdict(self) -> str:
        """
        Autobahn's verdict on the end, or a stricter one.

        Autobahn forgives a client that ends the connection without a code. Ours must have arrived, but where it
        answers a close frame that has none.
        """
        if self.close == "OK" and self.code not in self.codes and self.name != _CLOSES_WITHOUT_CODE:
            return "NO CODE"
        return self.close


def read_reports(folder: Path, agent: str) -> list[Finding]:
    """Read what the server wrote about this client, in the order of the cases."""
    index = json.loads((folder / "index.json").read_text()).get(agent, {})
    found = [
        _finding(name, json.loads((folder / entry["reportfile"]).read_text()))
        for name, entry in index.items()
    ]
    return sorted(found, key=lambda finding: [int(part) for part in finding.name.split(".")])


def _finding(name: str, report: dict[str, Any]) -> Finding:
    return Finding(
        name,
        report["behavior"],
        report["behaviorClose"],
        report["remoteCloseCode"],
        tuple(report["expectedClose"]["closeCode"]),
        f"{report['result']} {report['resultClose']}",
    )


def table(findings: Iterable[Finding]) -> str:
    """Return a row for each section, and one for all."""
    sections: dict[str, list[Finding]] = {}
    for finding in findings:
        sections.setdefault(finding.section, []).append(finding)
    rows = [*sections.items(), ("all", [each for found in sections.values() for each in found])]
    closes = sorted(
        {each.close_verdict for each in rows[-1][1]}, key=lambda word: (word != "OK", word)
    )
    lines = [["section", *(word.lower() for word in BEHAVIOURS), *(f"close {w}" for w in closes)]]
    for name, found in rows:
        behaviours = collections.Counter(
            each.behaviour if each.behaviour in BEHAVIOURS else "FAILED" for each in found
        )
        verdicts = collections.Counter(each.close_verdict for each in found)
        counts = [behaviours[word] for word in BEHAVIOURS] + [verdicts[word] for word in closes]
        lines.append([name, *map(str, counts)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) + "\n"
        for line in lines
    )


def faults(findings: Iterable[Finding], played: Collection[str]) -> list[str]:
    """
    Return what is not as it must be, a line each.

    Args:
        findings: What the reports say.
        played: The names of the cases that were played.
    """
    found = []
    reported = {finding.name: finding for finding in findings}
    if not played or {*played} != reported.keys():
        found.append(f"{len(played)} cases were played, and {len(reported)} reported")
    for name, finding in reported.items():
        wrong = []
        late = name in _LATE_FAILURES and finding.behaviour == "NON-STRICT"
        if finding.behaviour not in _GOOD and not late:
            wrong.append(finding.behaviour)
        if finding.close_verdict not in _GOOD:
            wrong.append(f"close {finding.close_verdict} (code {finding.code})")
        if wrong:
            found.append(f"case {name}: {', '.join(wrong)}. {finding.result}")
    return found
