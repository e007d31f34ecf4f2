"""The environment of a container's process: namespaces with their own root, or the plain host.

The launcher uses it between fork and exec. Stdlib only.
The root is an overlay over the host's files: a container may write anywhere and leaves no trace on the host.
That separates pods from the host's files and from each other's processes. It is not a security boundary.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import sys
from typing import Any

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x04000000, 0x10000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 0x1, 0x2, 0x4, 0x8, 0x20
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
HOST = "/.host"
"""Where the host's files are while a container's root is being assembled."""

OWN = ("proc", "sys", "dev", "tmp", "run")
"""Directories of the root that belong to the container alone."""

SHARED = ("bin", "etc", "home", "lib", "lib32", "lib64", "nix", "opt", "root", "sbin", "usr", "var")
"""Directories of the host's root that serve as the image, besides the one that contains Python."""

LaunchRequest = dict[str, Any]
"""A request of the runtime to the launcher, as JSON."""

_libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Turn a failed C call into OSError."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    """Create new namespaces. Raises OSError."""
    check(_libc.unshare(flags), "unshare")


def enter(descriptor: int, kind: int) -> None:
    """Enter a namespace. Raises OSError."""
    check(_libc.setns(descriptor, kind), "setns")


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process, on Linux. Raises OSError."""
    if sys.platform == "linux":
        check(_libc.prctl(option, value, 0, 0, 0), "prctl")


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, options: str = "") -> None:
    """Mount a file system. Raises OSError."""
    encoded = kind.encode() if kind else None
    check(
        _libc.mount(source.encode(), target.encode(), encoded, ctypes.c_ulong(flags), options.encode()),
        f"mount {source} on {target}",
    )


def make_mount_point(path: str, *, directory: bool) -> None:
    """Create a directory or a file to mount on, unless it exists."""
    if directory:
        os.makedirs(path, exist_ok=True)
    elif not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))


class NamespaceSandbox:
    """Containers with their own root, processes and host name."""

    name = "namespaces"

    def __init__(self, directory: str, python: str, *, user_namespace: bool) -> None:
        self.base = directory
        self.options = ",userxattr" if user_namespace else ""
        self.links: list[tuple[str, str]] = []
        self.trees: list[str] = []
        for name in {*SHARED, python.split("/")[1]} - set(OWN):
            if os.path.islink(f"/{name}"):
                self.links.append((os.readlink(f"/{name}"), name))
            elif os.path.isdir(f"/{name}"):
                self.trees.append(name)
        mount("none", "/", None, MS_REC | MS_PRIVATE)
        mount("tmpfs", directory, "tmpfs", 0, "mode=755")
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        self.own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        for name in ("root", "scratch", "layer/usr/local/bin"):
            os.makedirs(f"{directory}/{name}")
        for name in ("python", "python3"):
            os.symlink(python, f"{directory}/layer/usr/local/bin/{name}")
        self._devices(f"{directory}/dev")

    def _devices(self, directory: str) -> None:
        os.makedirs(f"{directory}/shm")
        os.makedirs(f"{directory}/pts")
        os.chmod(f"{directory}/shm", 0o1777)
        for name in DEVICES:
            make_mount_point(f"{directory}/{name}", directory=False)
            mount(f"/dev/{name}", f"{directory}/{name}", None, MS_BIND)
        mount("/dev/pts", f"{directory}/pts", None, MS_BIND | MS_REC)
        make_mount_point(f"{directory}/termination-log", directory=False)
        for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
            os.symlink(f"/proc/self/{target}", f"{directory}/{name}")
        os.symlink("pts/ptmx", f"{directory}/ptmx")

    def fork(self) -> int:
        """Like os.fork, but the child is the first process of a new PID namespace."""
        unshare(CLONE_NEWPID)
        pid = os.fork()
        if pid:
            enter(self.own_pids, CLONE_NEWPID)
        return pid

    def fork_into(self, container: int) -> int:
        """Like os.fork, but the child lives in the namespaces of a running container."""
        kinds = (("pid", CLONE_NEWPID), ("uts", CLONE_NEWUTS), ("mnt", CLONE_NEWNS))
        opened = [(os.open(f"/proc/{container}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), flag) for name, flag in kinds]
        try:
            enter(*opened[0])
            pid = os.fork()
            if pid:
                enter(self.own_pids, CLONE_NEWPID)
            else:
                for descriptor, kind in opened[1:]:
                    enter(descriptor, kind)
            return pid
        finally:
            for descriptor, _ in opened:
                os.close(descriptor)

    def isolate(self, request: LaunchRequest) -> None:
        """Give the new process, which calls it, a root with the container's mounts. Raises OSError."""
        unshare(CLONE_NEWNS | CLONE_NEWUTS)
        hostname = request["hostname"].encode()
        check(_libc.sethostname(hostname, len(hostname)), "sethostname")
        binds = [(source, os.path.realpath(target), read_only) for source, target, read_only in request["mounts"]]
        self._assemble({target: os.path.isdir(source) for source, target, _ in binds})
        os.chdir(f"{self.base}/root")
        number = PIVOT_ROOT[platform.machine()]
        check(_libc.syscall(ctypes.c_long(number), b".", f".{HOST}".encode()), "pivot_root")
        os.chdir("/")
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        mount(f"{HOST}{self.base}/dev", "/dev", None, MS_BIND | MS_REC)
        mount(f"{HOST}/sys", "/sys", None, MS_BIND | MS_REC)
        for source, target, read_only in binds:
            self._bind(HOST + source, target, read_only=read_only)
        check(_libc.umount2(HOST.encode(), MNT_DETACH), "umount2")
        os.rmdir(HOST)

    def _assemble(self, points: dict[str, bool]) -> None:
        """Mount an overlay for each directory: a user namespace may not overlay `/`, which contains other mounts."""
        root, scratch = f"{self.base}/root", f"{self.base}/scratch"
        mount("tmpfs", root, "tmpfs", 0, "mode=755")
        mount("tmpfs", scratch, "tmpfs", 0, "mode=755")
        for name in (*OWN, HOST[1:]):
            os.mkdir(f"{root}/{name}")
        for target, name in self.links:
            os.symlink(target, f"{root}/{name}")
        for target, is_directory in points.items():
            # This user owns a directory in the upper layer, regardless of the owner of the one below it. A user
            # namespace requires that for a mount point.
            if target.split("/")[1] in self.trees:
                make_mount_point(f"{scratch}/upper{target}", directory=is_directory)
        for name in self.trees:
            upper, work = f"{scratch}/upper/{name}", f"{scratch}/work/{name}"
            for directory in (f"{root}/{name}", upper, work):
                os.makedirs(directory, exist_ok=True)
            lower = f"{self.base}/layer/usr:/usr" if name == "usr" else f"/{name}"
            try:
                options = f"lowerdir={lower},upperdir={upper},workdir={work}{self.options}"
                mount("overlay", f"{root}/{name}", "overlay", 0, options)
            except OSError:  # It contains a mount. Bind the host's directory instead.
                mount(f"/{name}", f"{root}/{name}", None, MS_BIND | MS_REC)

    @staticmethod
    def _bind(source: str, target: str, *, read_only: bool) -> None:
        make_mount_point(target, directory=os.path.isdir(source))
        mount(source, target, None, MS_BIND | MS_REC)
        if read_only:
            # In a user namespace the remount must keep the locked flags of the source file system.
            flags = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
            mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | flags)


class PlainSandbox:
    """Containers that share everything with the host: works without privileges, on any Unix."""

    name = "plain"

    def fork(self) -> int:
        """Like os.fork."""
        return os.fork()

    def fork_into(self, container: int) -> int:
        """Like os.fork."""
        return os.fork()

    def isolate(self, request: LaunchRequest) -> None:
        """Let the new process, which calls it, end with the launcher."""
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


Sandbox = NamespaceSandbox | PlainSandbox


def enter_namespaces() -> bool:
    """Put the children of this process into new namespaces; return whether that needed a user namespace."""
    flags = CLONE_NEWNS | CLONE_NEWPID
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            unshare(flags)
            return False
    user, group = os.geteuid(), os.getegid()
    unshare(flags | CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    return True


def check_usable(sandbox: NamespaceSandbox) -> None:
    """Assemble one container's root. Raises OSError if this system does not allow it."""
    reading, writing = os.pipe()
    pid = sandbox.fork()
    if pid == 0:
        try:
            sandbox.isolate({"hostname": "check", "mounts": []})
        except BaseException as error:  # In any case, a forked child must not return to its parent's work.
            os.write(writing, str(error).encode())
        os._exit(0)
    os.close(writing)
    failure = os.read(reading, 4096).decode(errors="replace")
    os.close(reading)
    os.waitpid(pid, 0)
    if failure:
        raise OSError(failure)


def open_namespaces(directory: str, python: str) -> NamespaceSandbox:
    """Fork the first process of new namespaces, and return there; the parent only waits for it. Raises OSError."""
    user_namespace = enter_namespaces()
    inner = os.fork()
    if inner:
        for descriptor in range(3, 64):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) & 0xFF)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    sandbox = NamespaceSandbox(directory, python, user_namespace=user_namespace)
    check_usable(sandbox)
    return sandbox
