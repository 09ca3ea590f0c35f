"""Which file systems are taken for those of a network."""

from __future__ import annotations

import os
from pathlib import Path

from streamer.adapters.sqlite.mounts import kind_of, network_file_system

MOUNTS = """\
22 1 0:20 / /proc rw,nosuid - proc proc rw
29 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
44 29 0:41 / /mnt/data rw,relatime shared:2 master:1 - nfs4 server:/export rw,vers=4.2
45 29 0:42 / /mnt/with\\040space rw - fuse.sshfs host:/ rw
"""


def test_the_kind_of_a_file_system_is_that_of_its_device(tmp_path: Path) -> None:
    assert [kind_of(device, MOUNTS) for device in ("254:0", "0:41", "0:42", "9:9")] == [
        "ext4",
        "nfs4",
        "fuse.sshfs",
        None,
    ]
    device = os.stat(tmp_path).st_dev
    mounts = tmp_path / "mountinfo"
    for kind, told in {"nfs4": "nfs4", "fuse.sshfs": "fuse.sshfs", "fuse.fuse-overlayfs": None, "ext4": None}.items():
        mounts.write_text(f"29 1 {os.major(device)}:{os.minor(device)} / / rw - {kind} x rw\n")
        assert network_file_system(tmp_path, mounts) == told
    assert network_file_system(tmp_path, tmp_path / "no such file") is None
