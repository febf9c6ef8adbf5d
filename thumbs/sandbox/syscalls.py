"""Forbids a child the system calls that decoding never needs, for the case that an image takes it over (seccomp, BPF).

Limits on open files alone leave a hole: who closes a descriptor may open another in its place. A forbidden call fails
with EPERM and does nothing. Where the kernel or the machine knows no filter, the limits stand alone. `child` calls it.
"""

import ctypes
import errno
import platform
import struct
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

LOAD_WORD: Final = 0x20
JUMP_IF_EQUAL: Final = 0x15
JUMP_IF_AT_LEAST: Final = 0x35
JUMP_IF_SET: Final = 0x45
RETURN: Final = 0x06
NUMBER_OFFSET: Final = 0
MACHINE_OFFSET: Final = 4
ARGUMENT_OFFSET: Final = 16
"""Where struct seccomp_data (linux/seccomp.h) has a call's number, machine and first argument."""
X32_BIT: Final = 0x40000000
"""x86-64 has each call a second time from here on."""


@dataclass(frozen=True, slots=True)
class Machine:
    """How the kernel names a machine (linux/audit.h), and its numbers of what is forbidden (asm/unistd.h)."""

    audit_arch: int
    clone: int
    clone3: int
    forbidden: tuple[int, ...]


MACHINES: Final = {
    "x86_64": Machine(
        audit_arch=0xC000003E,
        clone=56,
        clone3=435,
        forbidden=(
            *(2, 85, 257, 437, 304, 319),  # open creat openat openat2 open_by_handle_at memfd_create
            *(41, 42, 44, 46, 49, 50, 53),  # socket connect sendto sendmsg bind listen socketpair
            *(57, 58, 59, 322),  # fork vfork execve execveat
            *(62, 200, 234, 129, 297, 101),  # kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo ptrace
            *(310, 311, 424, 434, 438),  # process_vm_readv process_vm_writev pidfd_send_signal pidfd_open pidfd_getfd
            *(76, 82, 83, 84, 86, 87, 88, 90, 92, 94, 133),  # truncate rename mkdir rmdir link … chmod chown mknod
            *(258, 259, 260, 263, 264, 265, 266, 268, 316),  # their …at forms
            *(29, 64, 68, 240),  # shmget semget msgget mq_open
            *(321, 425, 426, 323, 298, 248, 249, 250),  # bpf io_uring_… userfaultfd perf_event_open …_key keyctl
            *(161, 165, 166, 272, 308, 175, 313, 428, 429, 430),  # chroot mount umount2 unshare setns …_module fsopen …
        ),
    ),
    "aarch64": Machine(
        audit_arch=0xC00000B7,
        clone=220,
        clone3=435,
        forbidden=(
            *(56, 437, 265, 279),  # openat openat2 open_by_handle_at memfd_create
            *(198, 203, 206, 211, 200, 201, 199),  # socket connect sendto sendmsg bind listen socketpair
            *(221, 281),  # execve execveat
            *(129, 130, 131, 138, 240, 117),  # kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo ptrace
            *(270, 271, 424, 434, 438),  # process_vm_readv process_vm_writev pidfd_send_signal pidfd_open pidfd_getfd
            *(45, 33, 34, 35, 36, 37, 38, 53, 54, 276),  # truncate mknodat mkdirat unlinkat … fchmodat fchownat
            *(194, 190, 186, 180),  # shmget semget msgget mq_open
            *(280, 425, 426, 282, 241, 217, 218, 219),  # bpf io_uring_… userfaultfd perf_event_open …_key keyctl
            *(51, 40, 39, 97, 268, 105, 273, 428, 429, 430),  # chroot mount umount2 unshare setns …_module fsopen …
        ),
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def forbid_system_calls() -> bool:
    """Forbid them to this process, its threads and its children, for ever; False where that is not to be had."""
    machine = MACHINES.get(platform.machine())
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
    the C library falls back to clone.
    """
    count = len(machine.forbidden)
    forbidding = [
        _encode(JUMP_IF_EQUAL, number, if_so=count + 4 - place) for place, number in enumerate(machine.forbidden)
    ]
    return [
        _encode(LOAD_WORD, MACHINE_OFFSET),
        _encode(JUMP_IF_EQUAL, machine.audit_arch, if_so=1),
        _encode(RETURN, KILL_PROCESS),
        _encode(LOAD_WORD, NUMBER_OFFSET),
        _encode(JUMP_IF_AT_LEAST, X32_BIT, if_so=count + 5),
        *forbidding,
        _encode(JUMP_IF_EQUAL, machine.clone3, if_so=5),
        _encode(JUMP_IF_EQUAL, machine.clone, if_not=2),
        _encode(LOAD_WORD, ARGUMENT_OFFSET),
        _encode(JUMP_IF_SET, CLONE_THREAD, if_not=1),
        _encode(RETURN, ALLOW),
        _encode(RETURN, DENY),
        _encode(RETURN, UNKNOWN),
    ]


def _encode(code: int, value: int, *, if_so: int = 0, if_not: int = 0) -> bytes:
    """Encode one instruction (struct sock_filter); a jump passes over so many that follow."""
    return struct.pack("=HBBI", code, if_so, if_not, value)
