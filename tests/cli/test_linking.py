"""Which shared libraries the program needs in order to start."""

import re
import subprocess

from conftest import BINARY, ROOT


def needed(program):
    said = subprocess.run(
        ["readelf", "-d", program], capture_output=True, text=True, check=True, env={"LC_ALL": "C"}
    )
    return re.findall(r"\(NEEDED\).*\[(.*)\]", said.stdout)


def test_the_program_starts_without_cuda():
    """The driver and CUDA's libraries are opened at run time: no machine needs to have them."""
    libraries = needed(BINARY)
    assert "libc.so.6" in libraries
    assert not [name for name in libraries if re.match(r"lib(cu|nv|nccl)", name)], libraries


def test_the_check_of_the_portable_build_finds_what_a_bare_machine_lacks():
    def check(program):
        return subprocess.run(
            [ROOT / "cmake/check_static.sh", program], capture_output=True, text=True
        )

    assert needed("/bin/true") == ["libc.so.6"]
    assert check("/bin/true").returncode == 0
    (library,) = [name for name in needed("/bin/bash") if not name.startswith("libc.")]
    outcome = check("/bin/bash")
    assert outcome.returncode == 1 and f"/bin/bash needs {library}" in outcome.stderr
    assert check("/etc/passwd").returncode == 1
