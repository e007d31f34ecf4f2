"""Where a container's process lives: in namespaces with a root of its own, or plainly on the host.

Used only by the launcher, between fork and exec. Stdlib only.
The root is an overlay over the host's files: a container sees them, may write anywhere, and leaves no trace on the host.
That keeps pods apart from the host's files and from each other's processes. It is no security boundary.
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
"""Where the host's files are while a container's root is being put together."""

SHOWN = (
    *("/home", "/lib", "/nix", "/opt", "/root", "/usr", "/usr/local", "/var"),
    *("/etc/hostname", "/etc/hosts", "/etc/resolv.conf"),
)
"""Host paths that containers see even where they are file systems of their own (an overlay shows only the root's)."""

Request = dict[str, Any]

_libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Turn a failed C call into OSError."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    check(_libc.unshare(flags), "unshare")


def enter(descriptor: int, kind: int) -> None:
    check(_libc.setns(descriptor, kind), "setns")


def prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        check(_libc.prctl(option, value, 0, 0, 0), "prctl")


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, options: str = "") -> None:
    encoded = kind.encode() if kind else None
    check(
        _libc.mount(source.encode(), target.encode(), encoded, ctypes.c_ulong(flags), options.encode()),
        f"mount {source} on {target}",
    )


def touch(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))


def submounts() -> list[str]:
    """Mount points below the root that hold host files a container needs."""
    wanted = (*SHOWN, os.path.realpath(sys.base_prefix))
    found = []
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            point = line.split(" ", 5)[4].replace("\\040", " ")
            if point != "/" and any(path == point or path.startswith(point + "/") for path in wanted):
                found.append(point)
    return found


class Namespaces:
    """Containers with their own root, processes and host name."""

    name = "namespaces"

    def __init__(self, directory: str, python: str, *, user_namespace: bool) -> None:
        self.base = directory
        self.options = ",userxattr" if user_namespace else ""
        self.submounts = submounts()
        mount("none", "/", None, MS_REC | MS_PRIVATE)
        mount("tmpfs", self.base, "tmpfs", 0, "mode=755")
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        self.own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        binaries = f"{self.base}/layer/usr/local/bin"
        os.makedirs(binaries)
        os.makedirs(f"{self.base}/box")
        for name in ("python", "python3"):
            os.symlink(python, f"{binaries}/{name}")
        for name in ("proc", "sys", "dev", "tmp", HOST[1:]):
            os.mkdir(f"{self.base}/layer/{name}")
        self._devices(f"{self.base}/dev")

    def _devices(self, directory: str) -> None:
        os.makedirs(f"{directory}/shm")
        os.makedirs(f"{directory}/pts")
        os.chmod(f"{directory}/shm", 0o1777)
        for name in DEVICES:
            touch(f"{directory}/{name}")
            mount(f"/dev/{name}", f"{directory}/{name}", None, MS_BIND)
        mount("/dev/pts", f"{directory}/pts", None, MS_BIND | MS_REC)
        touch(f"{directory}/termination-log")
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

    def isolate(self, request: Request) -> None:
        """Called in the new process: give it its own root with the container's mounts."""
        unshare(CLONE_NEWNS | CLONE_NEWUTS)
        hostname = request["hostname"].encode()
        check(_libc.sethostname(hostname, len(hostname)), "sethostname")
        box = f"{self.base}/box"
        mount("tmpfs", box, "tmpfs", 0, "mode=755")
        for name in ("upper", "work", "root"):
            os.mkdir(f"{box}/{name}")
        layers = f"lowerdir={self.base}/layer:/,upperdir={box}/upper,workdir={box}/work{self.options}"
        mount("overlay", f"{box}/root", "overlay", 0, layers)
        os.chdir(f"{box}/root")
        number = PIVOT_ROOT[platform.machine()]
        check(_libc.syscall(ctypes.c_long(number), b".", f".{HOST}".encode()), "pivot_root")
        os.chdir("/")
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        mount(f"{HOST}{self.base}/dev", "/dev", None, MS_BIND | MS_REC)
        mount(f"{HOST}/sys", "/sys", None, MS_BIND | MS_REC)
        for point in self.submounts:
            self._bind(HOST + point, point, read_only=True)
        for source, target, read_only in request["mounts"]:
            self._bind(HOST + source, target, read_only=read_only)
        check(_libc.umount2(HOST.encode(), MNT_DETACH), "umount2")
        os.rmdir(HOST)

    @staticmethod
    def _bind(source: str, target: str, *, read_only: bool) -> None:
        if os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
        elif not os.path.exists(target):
            touch(target)
        mount(source, target, None, MS_BIND | MS_REC)
        if read_only:
            # In a user namespace the remount must keep the flags that the source file system is locked to.
            flags = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
            mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | flags)


class Plain:
    """Containers that share everything with the host: no rights needed, and any Unix."""

    name = "plain"

    def fork(self) -> int:
        return os.fork()

    def fork_into(self, container: int) -> int:
        return os.fork()

    def isolate(self, request: Request) -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


Isolation = Namespaces | Plain


def enter_namespaces() -> bool:
    """Make this process's children live in new namespaces; True if that took a user namespace."""
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


def rehearse(isolation: Namespaces) -> None:
    """Put one container's root together, to know now whether that works here. Raises OSError."""
    reading, writing = os.pipe()
    pid = isolation.fork()
    if pid == 0:
        try:
            isolation.isolate({"hostname": "rehearsal", "mounts": []})
        except BaseException as error:  # whatever it is, a forked child must not return to its parent's work
            os.write(writing, str(error).encode())
        os._exit(0)
    os.close(writing)
    failure = os.read(reading, 4096).decode(errors="replace")
    os.close(reading)
    os.waitpid(pid, 0)
    if failure:
        raise OSError(failure)


def isolated(directory: str, python: str) -> Namespaces:
    """Become the first process of new namespaces; the caller's process only waits for it. Raises OSError."""
    user_namespace = enter_namespaces()
    inner = os.fork()
    if inner:
        for descriptor in range(3, 64):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) & 0xFF)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    isolation = Namespaces(directory, python, user_namespace=user_namespace)
    rehearse(isolation)
    return isolation
