"""The system calls that a confined program may make, and their numbers.

An allow-list: a call that is not named here fails with EPERM, as a program meets it where it has no permission. The
calls of KILLED have no use but to get out, and end the process (verdict `violation`). No call opens a socket, starts a
process or a program, signals anyone, changes a file's attributes, makes a namespace, or reads or moves what all
processes share and the next program would find moved: load and free memory, socket cookies, the CPU time of others, the
page cache. Landlock decides which files `openat` opens. Numbers: kernel tables of x86_64 and aarch64, compared with
libseccomp's in tests/unit/sandbox/test_seccomp.py.
"""

from typing import NamedTuple


class Condition(NamedTuple):
    """Argument number `arg`, taken as unsigned 64 bits, is one of `values`; with a mask, its low half masked is."""

    arg: int
    values: tuple[int, ...]
    mask: int | None = None


CLONE_THREAD = 0x00010000
F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC, F_GETPIPE_SZ = 0, 1, 2, 3, 1030, 1032
TCGETS, FIONBIO, FIONREAD, FIONCLEX, FIOCLEX = 0x5401, 0x5421, 0x541B, 0x5450, 0x5451
AF_UNIX, SOCK_STREAM, SOCK_FLAGS = 1, 1, 0x80800
"""SOCK_FLAGS: any of SOCK_NONBLOCK and SOCK_CLOEXEC."""
SOL_SOCKET, SO_TYPE, SO_ERROR, SO_SNDBUF, SO_RCVBUF, SO_PROTOCOL, SO_DOMAIN = 1, 3, 4, 7, 8, 38, 39
MADV_HARMLESS = (0, 1, 2, 3, 4, 8, 14, 15)
"""NORMAL to DONTNEED, FREE, HUGEPAGE, NOHUGEPAGE: of the process's own memory."""
FUTEX_PRIVATE, FUTEX_REALTIME = 128, 256
FUTEX_OPERATIONS = (
    *(FUTEX_PRIVATE | clock | operation for operation in range(14) for clock in (0, FUTEX_REALTIME)),
    *(clock | operation for operation in (0, 9) for clock in (0, FUTEX_REALTIME)),
)
"""Any on memory of one's own; on shared memory, such as a library's pages, only to wait: glibc does for a thread."""
OWN_CLOCKS = tuple(range(12))
"""A negative clock is the CPU time of some process, anyone's."""

ALLOWED = """
read write readv writev pread64 lseek close close_range dup dup2 dup3 pipe pipe2 eventfd2
open openat access faccessat faccessat2 stat lstat fstat newfstatat statx readlink readlinkat getdents64 getcwd umask
mmap munmap mprotect mremap brk
rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack pause
alarm setitimer getitimer
poll ppoll select pselect6 epoll_create1 epoll_ctl epoll_wait epoll_pwait
recvfrom shutdown getsockname getpeername
set_robust_list rseq set_tid_address sched_yield getcpu restart_syscall
nanosleep gettimeofday time times getrusage uname getrandom
getpid gettid getuid geteuid getgid getegid getpgrp getgroups getresuid getresgid getrlimit
exit exit_group
""".split()

CONDITIONAL: dict[str, tuple[Condition, ...]] = {
    # F_SETFL, locks and leases leave something behind on what is open; F_SETOWN and F_SETSIG would let the kernel send
    # any signal to any process of the user.
    "fcntl": (Condition(1, (F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC, F_GETPIPE_SZ)),),
    "ioctl": (Condition(1, (TCGETS, FIONBIO, FIONREAD, FIONCLEX, FIOCLEX)),),
    # asyncio needs a pair; a stream pair can't be turned to another address, a datagram pair can.
    "socketpair": (Condition(0, (AF_UNIX,)), Condition(1, (SOCK_STREAM,), mask=0xFFFFFFFF ^ SOCK_FLAGS)),
    "sendto": (Condition(4, (0,)),),
    "getsockopt": (
        Condition(1, (SOL_SOCKET,)),
        Condition(2, (SO_TYPE, SO_ERROR, SO_SNDBUF, SO_RCVBUF, SO_PROTOCOL, SO_DOMAIN)),
    ),
    "madvise": (Condition(2, MADV_HARMLESS),),
    "futex": (Condition(1, FUTEX_OPERATIONS),),
    "clock_gettime": (Condition(0, OWN_CLOCKS),),
    "clock_getres": (Condition(0, OWN_CLOCKS),),
    "clock_nanosleep": (Condition(0, OWN_CLOCKS),),
    "sched_getaffinity": (Condition(0, (0,)),),
    "clone": (Condition(0, (CLONE_THREAD,), mask=CLONE_THREAD),),
    "prlimit64": (Condition(0, (0,)), Condition(2, (0,))),  # read one's own limits
}
"""Allowed when every condition holds, refused otherwise."""

MISSING = ("clone3",)
"""Answered as if the kernel had no such call: glibc then falls back on clone, whose flags a filter can read."""

KILLED = """
ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd bpf io_uring_setup io_uring_enter
io_uring_register unshare setns mount umount2 pivot_root chroot move_mount open_tree fsopen fsmount fsconfig fspick
mount_setattr userfaultfd perf_event_open add_key request_key keyctl init_module finit_module delete_module kexec_load
kexec_file_load reboot swapon swapoff open_by_handle_at fanotify_init fanotify_mark quotactl acct iopl ioperm
lookup_dcookie
""".split()

ZYGOTE_ONLY = "waitid recvmsg sendmsg prctl seccomp capset setsid clone prlimit64".split()
"""What a zygote does beyond: start, hand over and reap processes, and confine them further."""

JUDGE_KEEPS = ("recvmsg", "sendmsg")
"""A judge receives the pipes of each candidate."""

_NUMBERS = """
read 0 63;write 1 64;readv 19 65;writev 20 66;pread64 17 67;close 3 57;close_range 436 436;fstat 5 80;
newfstatat 262 79;stat 4 -;lstat 6 -;statx 332 291;lseek 8 62;open 2 -;openat 257 56;access 21 -;faccessat 269 48;
faccessat2 439 439;readlink 89 -;readlinkat 267 78;getdents64 217 61;getcwd 79 17;mmap 9 222;munmap 11 215;
mprotect 10 226;mremap 25 216;madvise 28 233;brk 12 214;rt_sigaction 13 134;rt_sigprocmask 14 135;rt_sigreturn 15 139;
rt_sigpending 127 136;rt_sigtimedwait 128 137;rt_sigsuspend 130 133;sigaltstack 131 132;pause 34 -;alarm 37 -;
setitimer 38 103;getitimer 36 102;poll 7 -;ppoll 271 73;select 23 -;pselect6 270 72;epoll_create1 291 20;
epoll_ctl 233 21;epoll_wait 232 -;epoll_pwait 281 22;eventfd2 290 19;pipe 22 -;pipe2 293 59;dup 32 23;dup2 33 -;
dup3 292 24;fcntl 72 25;ioctl 16 29;socketpair 53 199;sendto 44 206;recvfrom 45 207;shutdown 48 210;
getsockopt 55 209;getsockname 51 204;getpeername 52 205;clone 56 220;clone3 435 435;futex 202 98;
set_robust_list 273 99;rseq 334 293;set_tid_address 218 96;sched_yield 24 124;sched_getaffinity 204 123;getcpu 309 168;
restart_syscall 219 128;clock_gettime 228 113;clock_getres 229 114;clock_nanosleep 230 115;nanosleep 35 101;
gettimeofday 96 169;time 201 -;times 100 153;getrusage 98 165;uname 63 160;getrandom 318 278;
getpid 39 172;gettid 186 178;getuid 102 174;geteuid 107 175;getgid 104 176;getegid 108 177;
getpgrp 111 -;getgroups 115 158;getresuid 118 148;getresgid 120 150;getrlimit 97 163;prlimit64 302 261;umask 95 166;
exit 60 93;exit_group 231 94;waitid 247 95;recvmsg 47 212;sendmsg 46 211;seccomp 317 277;
prctl 157 167;setsid 112 157;ptrace 101 117;process_vm_readv 310 270;process_vm_writev 311 271;bpf 321 280;
io_uring_setup 425 425;io_uring_enter 426 426;io_uring_register 427 427;unshare 272 97;setns 308 268;mount 165 40;
umount2 166 39;pivot_root 155 41;chroot 161 51;userfaultfd 323 282;perf_event_open 298 241;add_key 248 217;
request_key 249 218;keyctl 250 219;init_module 175 105;finit_module 313 273;delete_module 176 106;kexec_load 246 104;
kexec_file_load 320 294;reboot 169 142;swapon 167 224;swapoff 168 225;open_by_handle_at 304 265;pidfd_getfd 438 438;
fanotify_init 300 262;fanotify_mark 301 263;quotactl 179 60;acct 163 89;iopl 172 -;ioperm 173 -;move_mount 429 429;
open_tree 428 428;fsopen 430 430;fsmount 432 432;fsconfig 431 431;fspick 433 433;mount_setattr 442 442;
process_madvise 440 440;kcmp 312 272;lookup_dcookie 212 18;landlock_create_ruleset 444 444;landlock_add_rule 445 445;
landlock_restrict_self 446 446;capset 126 91;pidfd_send_signal 424 424
"""


def number(name: str, machine: str) -> int | None:
    """The call's number on "x86_64" or "aarch64"; None where that machine lacks it."""
    return _TABLES[machine][name]


def _tables() -> dict[str, dict[str, int | None]]:
    rows = [entry.split() for entry in _NUMBERS.split(";")]
    return {
        machine: {row[0]: None if row[column] == "-" else int(row[column]) for row in rows}
        for column, machine in ((1, "x86_64"), (2, "aarch64"))
    }


_TABLES = _tables()
