"""Whether a folder lies on this machine: WAL needs memory that all users of the file share."""

from __future__ import annotations

import os
from pathlib import Path

NETWORK = {
    "9p", "afs", "beegfs", "ceph", "cifs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb2",
    "smb3", "smbfs",
}  # fmt: skip
MOUNTS = Path("/proc/self/mountinfo")


def network_file_system(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """The kind of network file system that the folder is on; None when it is on none, or nothing tells.

    A FUSE file system counts as one: most of them (sshfs, s3fs, glusterfs) are.
    """
    try:
        device = os.stat(folder).st_dev
        kind = kind_of(f"{os.major(device)}:{os.minor(device)}", mounts.read_text(errors="replace"))
    except OSError:
        return None
    is_remote = kind in NETWORK or ((kind or "").startswith("fuse.") and kind != "fuse.fuse-overlayfs")
    return kind if is_remote else None


def kind_of(device: str, mountinfo: str) -> str | None:
    """The type of the file system with this `major:minor`, from the lines of mountinfo."""
    for line in mountinfo.splitlines():
        front, _, back = line.partition(" - ")
        if back and front.split()[2:3] == [device]:
            return back.split()[0]
    return None
