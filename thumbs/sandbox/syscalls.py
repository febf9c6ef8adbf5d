"""Forbids a child the system calls that decoding never needs, for the case that an image takes it over (seccomp, BPF).

Limits on open files alone leave a hole: who closes a descriptor may open another in its place. A forbidden call fails
with EPERM and does nothing. Where the kernel or the machine knows no filter, the limits stand alone. `child` calls it.
"""

import ctypes
import errno
import platform
import struct
import sys
from dataclasses import dataclass
from typing import Final

PR_SET_SECCOMP: Final = 22
PR_SET_NO_NEW_PRIVS: Final = 38
SECCOMP_MODE_FILTER: Final = 2
KILL_PROCESS: Final = 0x80000000
ALLOW: Final = 0x7FFF0000
DENY: Final = 0x00050000 | errno.EPERM
UNKNOWN: Final = 0x00050000 | errno.ENOSYS
CLONE_THREAD: Final = 0x00010000
OWNER_COMMANDS: Final = (8, 10, 15)
"""Of fcntl (asm-generic/fcntl.h): F_SETOWN F_SETSIG F_SETOWN_EX, by which whoever writes to a pipe signals others."""

LOAD_WORD: Final = 0x20
JUMP_IF_EQUAL: Final = 0x15
JUMP_IF_AT_LEAST: Final = 0x35
JUMP_IF_SET: Final = 0x45
RETURN: Final = 0x06
NUMBER_OFFSET: Final = 0
MACHINE_OFFSET: Final = 4
ARGUMENT_OFFSETS: Final = (16, 24)
"""Where struct seccomp_data (linux/seccomp.h) has a call's number, machine and first arguments."""
X32_BIT: Final = 0x40000000
"""x86-64 has each call a second time from here on."""


@dataclass(frozen=True, slots=True)
class Machine:
    """How the kernel names a machine (linux/audit.h), and its numbers of what is forbidden (asm/unistd.h)."""

    audit_arch: int
    clone: int
    clone3: int
    fcntl: int
    prlimit64: int
    forbidden: tuple[int, ...]


MACHINES: Final = {
    "x86_64": Machine(
        audit_arch=0xC000003E,
        clone=56,
        clone3=435,
        fcntl=72,
        prlimit64=302,
        forbidden=(
            *(2, 85, 257, 437, 304, 319),  # open creat openat openat2 open_by_handle_at memfd_create
            *(41, 42, 44, 46, 49, 50, 53),  # socket connect sendto sendmsg bind listen socketpair
            *(57, 58, 59, 322),  # fork vfork execve execveat
            *(62, 200, 234, 129, 297, 101, 16),  # kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo ptrace ioctl
            *(203, 144, 142, 314, 141, 251),  # sched_set… setpriority ioprio_set
            *(310, 311, 424, 434, 438),  # process_vm_readv process_vm_writev pidfd_send_signal pidfd_open pidfd_getfd
            *(76, 82, 83, 84, 86, 87, 88, 90, 92, 94, 133),  # truncate rename mkdir rmdir link … chmod chown mknod
            *(258, 259, 260, 263, 264, 265, 266, 268, 316, 452),  # their …at forms
            *(132, 235, 261, 280, 188, 189, 190, 197, 198, 199, 463, 466),  # utime utimes futimesat utimensat …xattr
            *(29, 30, 31, 64, 65, 66, 68, 69, 240),  # shmget shmat shmctl sem… msg… mq_open
            *(447, 253, 294, 300),  # memfd_secret inotify_init inotify_init1 fanotify_init
            *(321, 425, 426, 323, 298, 248, 249, 250),  # bpf io_uring_… userfaultfd perf_event_open …_key keyctl
            *(161, 165, 166, 272, 308, 175, 313),  # chroot mount umount2 unshare setns init_module finit_module
            *(428, 429, 430, 433, 442),  # open_tree move_mount fsopen fspick mount_setattr
        ),
    ),
    "aarch64": Machine(
        audit_arch=0xC00000B7,
        clone=220,
        clone3=435,
        fcntl=25,
        prlimit64=261,
        forbidden=(
            *(56, 437, 265, 279),  # openat openat2 open_by_handle_at memfd_create
            *(198, 203, 206, 211, 200, 201, 199),  # socket connect sendto sendmsg bind listen socketpair
            *(221, 281),  # execve execveat
            *(129, 130, 131, 138, 240, 117, 29),  # kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo ptrace ioctl
            *(122, 119, 118, 274, 140, 30),  # sched_set… setpriority ioprio_set
            *(270, 271, 424, 434, 438),  # process_vm_readv process_vm_writev pidfd_send_signal pidfd_open pidfd_getfd
            *(45, 33, 34, 35, 36, 37, 38, 53, 54, 276, 452),  # truncate mknodat mkdirat unlinkat … fchmodat fchownat
            *(88, 5, 6, 7, 14, 15, 16, 463, 466),  # utimensat …xattr
            *(194, 196, 195, 190, 193, 191, 186, 189, 180),  # shmget shmat shmctl sem… msg… mq_open
            *(447, 26, 262),  # memfd_secret inotify_init1 fanotify_init
            *(280, 425, 426, 282, 241, 217, 218, 219),  # bpf io_uring_… userfaultfd perf_event_open …_key keyctl
            *(51, 40, 39, 97, 268, 105, 273),  # chroot mount umount2 unshare setns init_module finit_module
            *(428, 429, 430, 433, 442),  # open_tree move_mount fsopen fspick mount_setattr
        ),
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def forbid_system_calls() -> bool:
    """Forbid them to this process, its threads and its children, for ever; False where that is not to be had."""
    machine = MACHINES.get(platform.machine()) if sys.platform == "linux" else None
    if machine is None:
        return False
    instructions = _build_filter(machine)
    program = _Program(len(instructions), b"".join(instructions))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    has_no_new_privileges = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    is_filtering = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0
    return bool(has_no_new_privileges and is_filtering)


def _build_filter(machine: Machine) -> list[bytes]:
    """Build the filter: a call for another machine kills, a forbidden one fails, every other one is allowed.

    Threads may be started, processes may not. What clone3 is to start cannot be seen from here: it is unknown, and
    the C library falls back to clone. Limits may be set of oneself only, and nobody may be made to get signals.
    """
    checks = [
        [_encode(JUMP_IF_AT_LEAST, X32_BIT, if_not=1), DENIED],
        *([_encode(JUMP_IF_EQUAL, number, if_not=1), DENIED] for number in machine.forbidden),
        [_encode(JUMP_IF_EQUAL, machine.clone3, if_not=1), _encode(RETURN, UNKNOWN)],
        _check_argument(machine.clone, 0, [_encode(JUMP_IF_SET, CLONE_THREAD, if_so=1), DENIED]),
        _check_argument(machine.prlimit64, 0, [_encode(JUMP_IF_EQUAL, 0, if_so=1), DENIED]),
        _check_argument(
            machine.fcntl,
            1,
            [each for command in OWNER_COMMANDS for each in (_encode(JUMP_IF_EQUAL, command, if_not=1), DENIED)],
        ),
    ]
    return [
        _encode(LOAD_WORD, MACHINE_OFFSET),
        _encode(JUMP_IF_EQUAL, machine.audit_arch, if_so=1),
        _encode(RETURN, KILL_PROCESS),
        _encode(LOAD_WORD, NUMBER_OFFSET),
        *(instruction for check in checks for instruction in check),
        ALLOWED,
    ]


def _check_argument(number: int, place: int, refusing: list[bytes]) -> list[bytes]:
    """Check an argument of one call by instructions that refuse, or let it through to the end."""
    block = [_encode(LOAD_WORD, ARGUMENT_OFFSETS[place]), *refusing, ALLOWED]
    return [_encode(JUMP_IF_EQUAL, number, if_not=len(block)), *block]


def _encode(code: int, value: int, *, if_so: int = 0, if_not: int = 0) -> bytes:
    """Encode one instruction (struct sock_filter); a jump passes over so many that follow."""
    return struct.pack("=HBBI", code, if_so, if_not, value)


ALLOWED: Final = _encode(RETURN, ALLOW)
DENIED: Final = _encode(RETURN, DENY)
