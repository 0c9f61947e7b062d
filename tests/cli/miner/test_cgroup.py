"""Where control groups can be made: a folder stands for the kernel's, as a service with `Delegate=yes` finds it."""

import os
from pathlib import Path

import pytest

from aitbc_cli.miner.executors.cgroup import LEAF, CgroupParent, cgroup_parent, make_room

MOUNTS = """31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
35 31 0:32 {root} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
"""


def kernel(folder: Path, *, processes: str, controllers: str = "cpu memory pids", root: str = "/") -> Path:
    """A process in the group of a service; answers the group's folder."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text("3:cpuset:/\n0::/user.slice/aitbc.service\n")
    (folder / "proc/self/mountinfo").write_text(MOUNTS.format(root=root))
    group = folder / "sys/fs/cgroup" / "user.slice/aitbc.service".removeprefix(root.lstrip("/")).lstrip("/")
    group.mkdir(parents=True)
    (group / "cgroup.controllers").write_text(controllers)
    (group / "cgroup.procs").write_text(processes)
    (group / "cgroup.subtree_control").write_text("")
    return group


@pytest.mark.parametrize("root", ["/", "/user.slice"])
def test_a_miner_that_has_its_group_for_itself_moves_into_a_leaf(tmp_path: Path, root: str) -> None:
    group = kernel(tmp_path, processes=f"{os.getpid()}\n", root=root)
    assert make_room(tmp_path)
    assert (group / LEAF / "cgroup.procs").read_text() == str(os.getpid())
    assert (group / "cgroup.subtree_control").read_text() == "+memory"


def test_processes_of_others_are_never_moved(tmp_path: Path) -> None:
    group = kernel(tmp_path, processes=f"{os.getpid()}\n1\n")
    assert not make_room(tmp_path)
    assert not (group / LEAF).exists()


def test_without_the_memory_controller_nothing_is_made(tmp_path: Path) -> None:
    group = kernel(tmp_path, processes=f"{os.getpid()}\n", controllers="cpu pids")
    assert not make_room(tmp_path)
    assert not (group / LEAF).exists() and cgroup_parent(tmp_path) is None


def test_a_group_that_the_kernel_refuses_is_none(tmp_path: Path) -> None:
    assert CgroupParent(tmp_path / "missing", is_v2=True).make(memory_bytes=1 << 20) is None
    assert cgroup_parent(tmp_path) is None


def test_groups_of_dead_workers_are_removed(tmp_path: Path) -> None:
    dead, living = tmp_path / "aitbc-program-4194305-1", tmp_path / f"aitbc-program-{os.getpid()}-1"
    dead.mkdir()
    living.mkdir()
    CgroupParent(tmp_path, is_v2=False).remove_left()
    assert (dead.exists(), living.exists()) == (False, True)
