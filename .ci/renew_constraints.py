"""Merges what pip resolves on two Python versions into constraints.txt.

Run in a clean environment of Python 3.11 and of a newer one, then merge:

    pip install --dry-run --ignore-installed --report 311.json '.[dev,bench]'
    pip install --dry-run --ignore-installed --report 312.json '.[dev,bench]'
    python .ci/renew_constraints.py 311.json 312.json > constraints.txt
"""

import json
import pathlib
import sys

HEADER = """\
# The versions that `make` installs. Renewed by .ci/renew_constraints.py; not edited by hand.
# Python 3.11 has its own lines where the newest release needs a newer Python (JAX, NumPy, ...).
"""


def read_versions(report: str) -> dict[str, str]:
    """Returns name -> version of everything in a `pip install --report` but jgps itself."""
    installed = json.loads(pathlib.Path(report).read_text())["install"]
    versions = {item["metadata"]["name"]: item["metadata"]["version"] for item in installed}
    return {name: version for name, version in versions.items() if name != "jgps"}


def merge(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Returns one line per package, or one per Python version where they differ."""
    lines = []
    for name in sorted(old | new, key=str.lower):
        if old.get(name) == new.get(name):
            lines.append(f"{name}=={old[name]}")
            continue
        if name in old:
            lines.append(f'{name}=={old[name]} ; python_version < "3.12"')
        if name in new:
            lines.append(f'{name}=={new[name]} ; python_version >= "3.12"')
    return lines


if __name__ == "__main__":
    old_report, new_report = sys.argv[1:]
    print(HEADER + "\n".join(merge(read_versions(old_report), read_versions(new_report))))
