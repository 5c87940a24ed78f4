"""The generated BPF answers as the policy says, and as libseccomp's program for the same policy does."""

import importlib
import itertools
import struct
import tempfile
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from app.sandbox import seccomp, syscalls
from app.sandbox.seccomp import ALLOW, ARCHITECTURES, KILL_PROCESS, REFUSE, Rule, assemble
from app.sandbox.syscalls import CONDITIONAL, KILLED, Condition, number

MACHINES = tuple(ARCHITECTURES)
FILTERS: dict[str, tuple[tuple[Rule, ...], int]] = {
    "zygote": (seccomp.zygote_filter(), REFUSE),
    "child": (seccomp.child_filter(), ALLOW),
    "judge": (seccomp.judge_filter(), ALLOW),
}
ALL_ONES = (1 << 64) - 1
X32_BIT = 0x40000000
NUM_CALLS = 601
MAX_PROGRAM = 4096
"""BPF_MAXINSNS."""
Program = list[tuple[int, int, int, int]]
Arguments = tuple[int, ...]
NO_ARGUMENTS = (0,) * 6
each_filter = pytest.mark.parametrize("role", FILTERS)
each_machine = pytest.mark.parametrize("machine", MACHINES)


def answer(program: Program, architecture: int, call: int, arguments: Arguments = NO_ARGUMENTS) -> int:
    """What classic BPF over struct seccomp_data returns."""
    data = struct.pack("<IIQ6Q", call, architecture, 0, *arguments)
    accumulator = at = 0
    while True:
        operation, if_true, if_false, constant = program[at]
        at += 1
        match operation:
            case 0x20:  # BPF_LD | BPF_W | BPF_ABS
                assert constant % 4 == 0
                (accumulator,) = struct.unpack_from("<I", data, constant)
            case 0x54:  # BPF_ALU | BPF_AND | BPF_K
                accumulator &= constant
            case 0x05:  # BPF_JMP | BPF_JA
                at += constant
            case 0x15:  # BPF_JMP | BPF_JEQ | BPF_K
                at += if_true if accumulator == constant else if_false
            case 0x25:  # BPF_JMP | BPF_JGT | BPF_K
                at += if_true if accumulator > constant else if_false
            case 0x35:  # BPF_JMP | BPF_JGE | BPF_K
                at += if_true if accumulator >= constant else if_false
            case 0x06:  # BPF_RET | BPF_K
                return constant
            case _:
                raise AssertionError(f"operation {operation:#x} is not interpreted here")


def parse(code: bytes) -> Program:
    return list(struct.iter_unpack("<HBBI", code))


def ours(role: str, machine: str) -> Program:
    rules, default = FILTERS[role]
    return parse(assemble(rules, default, machine))


def argument_vectors(conditions: tuple[Condition, ...]) -> Iterator[Arguments]:
    """Each allowed value, its neighbours, with a high half, with every unmasked bit; zero and all ones."""
    choices: dict[int, set[int]] = {}
    for condition in conditions:
        values = choices.setdefault(condition.arg, {0, ALL_ONES, 1 << 32})
        for value in condition.values:
            near = {value, value + 1, (value - 1) & ALL_ONES, value | 1 << 32, value | 1 << 63}
            values |= near | {value | 1 << bit for bit in range(32)}
    for combination in itertools.product(*choices.values()):
        vector = dict(zip(choices, combination, strict=True))
        yield tuple(vector.get(arg, 0) for arg in range(6))


def holds(condition: Condition, arguments: Arguments) -> bool:
    value = arguments[condition.arg]
    return (value if condition.mask is None else value & 0xFFFFFFFF & condition.mask) in condition.values


def questions(machine: str) -> Iterator[tuple[int, Arguments]]:
    """Every call without arguments, and the conditional ones with every interesting vector."""
    conditional = {number(name, machine): conditions for name, conditions in CONDITIONAL.items()}
    for call in range(NUM_CALLS):
        yield call, NO_ARGUMENTS
        yield call, (ALL_ONES,) * 6
        for vector in argument_vectors(conditional.get(call, ())):
            yield call, vector


@pytest.fixture(scope="session")
def pyseccomp() -> ModuleType:
    try:
        return importlib.import_module("pyseccomp")
    except (ImportError, RuntimeError) as error:  # RuntimeError: the package is there, libseccomp.so.2 is not
        pytest.skip(f"nothing to compare with: {error}")


@pytest.fixture(scope="session")
def theirs(pyseccomp: ModuleType) -> Callable[[str, str], Program]:
    """The same policies compiled by libseccomp."""

    def allowing(conditions: tuple[Condition, ...]) -> Iterator[list[object]]:
        choices = [[(condition, value) for value in condition.values] for condition in conditions]
        for combination in itertools.product(*choices):
            yield [
                pyseccomp.Arg(condition.arg, pyseccomp.EQ, value)
                if condition.mask is None
                else pyseccomp.Arg(condition.arg, pyseccomp.MASKED_EQ, condition.mask, value)
                for condition, value in combination
            ]

    def refusing(conditions: tuple[Condition, ...]) -> Iterator[list[object]]:
        # libseccomp takes no rule whose action is the default, so "allow if, else refuse" under a default of ALLOW is
        # written as a refusal for each condition that fails. It has no masked inequality: masks of one bit only.
        for condition in conditions:
            (value,) = condition.values
            if condition.mask is None:
                yield [pyseccomp.Arg(condition.arg, pyseccomp.NE, value)]
            else:
                assert condition.mask == value and condition.mask.bit_count() == 1
                yield [pyseccomp.Arg(condition.arg, pyseccomp.MASKED_EQ, condition.mask, 0)]

    def compile_(role: str, machine: str) -> Program:
        rules, default = FILTERS[role]
        program = pyseccomp.SyscallFilter(default)
        if pyseccomp.system_arch() != ARCHITECTURES[machine]:
            program.remove_arch(pyseccomp.system_arch())
            program.add_arch(ARCHITECTURES[machine])
        program.set_attr(pyseccomp.Attr.ACT_BADARCH, KILL_PROCESS)
        for rule in rules:
            if number(rule.syscall, machine) is None:
                continue
            call = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, rule.syscall)
            negated = rule.action == default
            action = REFUSE if negated else rule.action
            for arguments in refusing(rule.conditions) if negated else allowing(rule.conditions):
                program.add_rule(action, call, *arguments)
        with tempfile.TemporaryFile() as file:
            program.export_bpf(file)
            file.seek(0)
            return parse(file.read())

    return compile_


@each_machine
@each_filter
def test_libseccomp_gives_the_same_answers_for_the_same_policy(
    role: str, machine: str, theirs: Callable[[str, str], Program]
) -> None:
    our_program, their_program, architecture = ours(role, machine), theirs(role, machine), ARCHITECTURES[machine]
    for call, arguments in questions(machine):
        answers = [answer(program, architecture, call, arguments) for program in (our_program, their_program)]
        assert answers[0] == answers[1], (call, arguments)


@each_machine
@each_filter
def test_another_architecture_is_killed_whatever_it_calls(
    role: str, machine: str, theirs: Callable[[str, str], Program]
) -> None:
    i386, x32 = 0x40000003, 0x4000003E
    others = {i386, x32, 0, ALL_ONES >> 32, *ARCHITECTURES.values()} - {ARCHITECTURES[machine]}
    for program in (ours(role, machine), theirs(role, machine)):
        assert {answer(program, other, call) for other in others for call in range(NUM_CALLS)} == {KILL_PROCESS}


@each_filter
def test_x32_calls_are_killed(role: str, theirs: Callable[[str, str], Program]) -> None:
    # On aarch64 libseccomp has no such range and answers by its default. On x86_64 it lets -1, which is no call and
    # which a tracer sets to skip one, through to the default; ours kills it.
    calls = [X32_BIT, *(X32_BIT + call for call in range(NUM_CALLS)), 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE]
    for program in (ours(role, "x86_64"), theirs(role, "x86_64")):
        assert {answer(program, ARCHITECTURES["x86_64"], call) for call in calls} == {KILL_PROCESS}
    for machine in MACHINES:
        assert answer(ours(role, machine), ARCHITECTURES[machine], 0xFFFFFFFF) == KILL_PROCESS


@each_machine
@each_filter
def test_every_jump_stays_inside_the_program_and_every_path_ends_in_an_answer(role: str, machine: str) -> None:
    program = ours(role, machine)
    assert len(program) <= MAX_PROGRAM
    for at, (operation, if_true, if_false, _) in enumerate(program):
        assert operation in (0x20, 0x15, 0x35, 0x54, 0x06)
        if operation in (0x15, 0x35):
            assert at + 1 + max(if_true, if_false) < len(program)
        elif operation != 0x06:
            assert at + 1 < len(program) and if_true == if_false == 0
    assert program[-1][0] == 0x06


@each_machine
def test_the_numbers_are_those_of_libseccomp(machine: str, pyseccomp: ModuleType) -> None:
    for name, call in syscalls._TABLES[machine].items():
        resolved = pyseccomp.resolve_syscall(ARCHITECTURES[machine], name)
        assert resolved == call if call is not None else resolved < 0, name
        assert resolved != -1, f"{name} is no system call of any machine"


def effective(machine: str, role: str = "child") -> Callable[[int, Arguments], int]:
    """The answer of a zygote's filter and its child's together: the kernel takes the stricter."""
    layers = ours("zygote", machine), ours(role, machine)
    severity = {KILL_PROCESS: 3, REFUSE: 2, seccomp.NO_SUCH_CALL: 2, ALLOW: 1}

    def stricter(call: int, arguments: Arguments = NO_ARGUMENTS) -> int:
        answers = [answer(program, ARCHITECTURES[machine], call, arguments) for program in layers]
        return max(answers, key=severity.__getitem__)

    return stricter


NEVER = {  # numbers on x86_64 and aarch64; those that the sandbox does not name are from the kernel's tables
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "sendmsg": (46, 211), "sendmmsg": (307, 269), "recvmsg": (47, 212), "execve": (59, 221),
    "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "kill": (62, 129), "tgkill": (234, 131),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "prctl": (157, 167), "seccomp": (317, 277), "memfd_create": (319, 279),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None), "utimensat": (280, 88),
    "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "mknod": (133, None),
    "mknodat": (259, 33), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "unlink": (87, None), "unlinkat": (263, 35), "truncate": (76, 45),
    "ftruncate": (77, 46), "fallocate": (285, 47), "setxattr": (188, 5), "shmget": (29, 194), "setrlimit": (160, 164),
    "clone3": (435, 435), "setsid": (112, 157), "setpgid": (109, 154), "setuid": (105, 146), "capset": (126, 91),
    "wait4": (61, 260), "waitid": (247, 95), "inotify_init1": (294, 26), "mq_open": (240, 180),
    "landlock_restrict_self": (446, 446), "io_submit": (209, 2), "splice": (275, 76), "mlock": (149, 228),
    "personality": (135, 92), "sysinfo": (99, 179), "getppid": (110, 173), "flock": (73, 32), "fadvise64": (221, 223),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setaffinity": (203, 122),
    "timer_create": (222, 107), "shmat": (30, 196), "semget": (64, 190), "msgget": (68, 186), "mincore": (27, 232),
    "chdir": (80, 49), "fchdir": (81, 50), "getpriority": (140, 141), "clock_settime": (227, 112),
}  # fmt: skip


@each_machine
@pytest.mark.parametrize("name", NEVER)
def test_a_candidate_can_never_make_this_call(name: str, machine: str) -> None:
    call = NEVER[name][MACHINES.index(machine)]
    if call is not None:
        policy = effective(machine)
        assert ALLOW not in {policy(call, vector) for vector in (NO_ARGUMENTS, (1,) * 6, (ALL_ONES,) * 6)}


def test_the_numbers_of_the_forbidden_calls_are_those_of_libseccomp(pyseccomp: ModuleType) -> None:
    for name, calls in NEVER.items():
        for machine, call in zip(MACHINES, calls, strict=True):
            resolved = pyseccomp.resolve_syscall(ARCHITECTURES[machine], name)
            assert resolved == call if call is not None else resolved < -1, (name, machine)


@each_machine
def test_a_conditional_call_is_allowed_exactly_when_every_condition_holds(machine: str) -> None:
    policy = effective(machine)
    for name, conditions in CONDITIONAL.items():
        call = number(name, machine)
        assert call is not None
        answers = set()
        for vector in argument_vectors(conditions):
            expected = ALLOW if all(holds(condition, vector) for condition in conditions) else REFUSE
            assert policy(call, vector) == expected, (name, vector)
            answers.add(expected)
        assert answers == {ALLOW, REFUSE}, name


DANGEROUS: dict[str, tuple[str, tuple[int, ...]]] = {
    "fork by clone with SIGCHLD": ("clone", (17,)),
    "a new user namespace": ("clone", (0x10000000,)),
    "fcntl F_SETFL": ("fcntl", (0, 4, 0x400)),
    "fcntl F_SETLK": ("fcntl", (0, 6, 0x7FFF00000000)),
    "fcntl F_OFD_SETLK": ("fcntl", (0, 37, 0x7FFF00000000)),
    "fcntl F_SETLEASE": ("fcntl", (0, 1024, 1)),
    "fcntl F_SETPIPE_SZ": ("fcntl", (4, 1031, 4096)),
    "fcntl F_ADD_SEALS": ("fcntl", (0, 1033, 1)),
    "fcntl F_SETOWN": ("fcntl", (0, 8, 1)),
    "fcntl F_SETSIG": ("fcntl", (0, 10, 9)),
    "fcntl F_SETOWN_EX": ("fcntl", (0, 15, 1)),
    "fcntl F_NOTIFY": ("fcntl", (0, 1026, 1)),
    "ioctl TIOCSTI": ("ioctl", (0, 0x5412, 1)),
    "ioctl TIOCLINUX": ("ioctl", (0, 0x541C, 1)),
    "ioctl TIOCSTI with a high half": ("ioctl", (0, 0x5412 | 1 << 32, 1)),
    "ioctl FIOASYNC": ("ioctl", (0, 0x5452, 1)),
    "a datagram pair": ("socketpair", (1, 2, 0)),
    "a datagram pair with flags": ("socketpair", (1, 2 | 0x80800, 0)),
    "a sequenced pair": ("socketpair", (1, 5, 0)),
    "a pair of internet sockets": ("socketpair", (2, 1, 0)),
    "sendto an address": ("sendto", (3, 1, 1, 0, 0x7FFF00000000, 16)),
    "sendto a low address": ("sendto", (3, 1, 1, 0, 1, 16)),
    "a new limit": ("prlimit64", (0, 0, 1, 0)),
    "a new limit at a high address": ("prlimit64", (0, 0, 0x7FFF00000000, 0)),
    "the limits of another process": ("prlimit64", (1, 0, 0, 1)),
    "the cores of another process": ("sched_getaffinity", (1, 8, 0x7FFF00000000)),
    "the CPU time of another process": ("clock_gettime", ((~1 << 3 | 2) & 0xFFFFFFFF, 0x7FFF00000000)),
    "whether a process is there, by its clock": ("clock_getres", ((~1 << 3 | 2) & ALL_ONES, 0)),
    "the count of all sockets' cookies": ("getsockopt", (3, 1, 57, 0x7FFF00000000, 0x7FFF00000000)),
    "the network's options of a socket": ("getsockopt", (3, 6, 4, 0x7FFF00000000, 0x7FFF00000000)),
    "to throw a library out of the page cache": ("madvise", (0x7FFF00000000, 4096, 21)),
    "pages merged with those of other processes": ("madvise", (0x7FFF00000000, 4096, 12)),
    "to wake who waits on a page of a library": ("futex", (0x7FFF00000000, 1, 1)),
}


@each_machine
@pytest.mark.parametrize("what", DANGEROUS)
def test_these_arguments_are_refused(what: str, machine: str) -> None:
    name, arguments = DANGEROUS[what]
    call = number(name, machine)
    assert call is not None
    assert effective(machine)(call, (*arguments, *NO_ARGUMENTS)[:6]) == REFUSE


HOSTILE = """
ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp bpf io_uring_setup io_uring_enter io_uring_register unshare
setns mount umount2 pivot_root chroot open_tree fsopen userfaultfd perf_event_open add_key request_key keyctl
init_module finit_module kexec_load reboot open_by_handle_at
""".split()


@each_machine
@pytest.mark.parametrize("role", ["child", "judge"])
def test_the_hostile_calls_kill_whatever_their_arguments(role: str, machine: str) -> None:
    policy = effective(machine, role)
    for name in {*HOSTILE, *KILLED}:
        call = number(name, machine)
        if call is not None:
            assert policy(call, NO_ARGUMENTS) == policy(call, (ALL_ONES,) * 6) == KILL_PROCESS, name


@each_machine
def test_a_judge_may_receive_descriptors_and_is_otherwise_held_like_a_candidate(machine: str) -> None:
    candidate, judge = effective(machine), effective(machine, "judge")
    differing = {call for call, arguments in questions(machine) if candidate(call, arguments) != judge(call, arguments)}
    assert differing == {number(name, machine) for name in ("recvmsg", "sendmsg")}
