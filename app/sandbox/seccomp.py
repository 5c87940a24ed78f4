"""Seccomp filters as classic BPF, generated here so that no library has to be there at run time.

A zygote installs `zygote_filter` once; every process forked from it inherits that and adds the small `child_filter`,
which takes away what only the zygote needed. The kernel applies the stricter answer of the two. Two layers because the
kernel's work to install a filter grows with its length, and a child pays it on every run.
Source: Linux Documentation/userspace-api/seccomp_filter.rst; struct seccomp_data in <linux/seccomp.h>.
"""

import errno
import os
import struct
from collections.abc import Collection, Sequence
from typing import NamedTuple

from app.sandbox.syscalls import (
    ALLOWED,
    CONDITIONAL,
    JUDGE_KEEPS,
    KILLED,
    MISSING,
    ZYGOTE_ONLY,
    Condition,
    number,
)

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_* of <linux/audit.h>."""
MACHINE = os.uname().machine
X32_BIT = 0x40000000
ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
REFUSE = _ERRNO | errno.EPERM
NO_SUCH_CALL = _ERRNO | errno.ENOSYS

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_INSTRUCTION = struct.Struct("<HBBI")
Instruction = tuple[int, int, int, int]
"""Operation, jump if true, jump if false (both in instructions to skip), constant: struct sock_filter."""


class Rule(NamedTuple):
    """`action` for a call when every condition holds; the call is refused otherwise."""

    syscall: str
    action: int
    conditions: tuple[Condition, ...] = ()


def zygote_filter() -> tuple[Rule, ...]:
    """Everything a confined program may do and what its zygote does beyond; the rest is refused."""
    conditional = {name: rules for name, rules in CONDITIONAL.items() if name not in ZYGOTE_ONLY}
    return (
        *(Rule(name, ALLOW) for name in (*ALLOWED, *ZYGOTE_ONLY)),
        *(Rule(name, ALLOW, conditions) for name, conditions in conditional.items()),
        *(Rule(name, NO_SUCH_CALL) for name in MISSING),
        *(Rule(name, KILL_PROCESS) for name in KILLED),
    )


def child_filter(keeps: Collection[str] = ()) -> tuple[Rule, ...]:
    """Take away what only the zygote needed, but for `keeps`; to be compiled with default ALLOW."""
    return tuple(
        Rule(name, ALLOW, CONDITIONAL[name]) if name in CONDITIONAL else Rule(name, REFUSE)
        for name in ZYGOTE_ONLY
        if name not in keeps
    )


def judge_filter() -> tuple[Rule, ...]:
    return child_filter(JUDGE_KEEPS)


def assemble(rules: Sequence[Rule], default: int, machine: str = MACHINE) -> bytes:
    """The filter program, 8 bytes an instruction. A foreign architecture's entry (int 0x80, x32) kills.

    Raises KeyError for a machine other than those of ARCHITECTURES.
    """
    code: list[Instruction] = [
        (_LOAD, 0, 0, 4),
        (_JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, KILL_PROCESS),
        (_LOAD, 0, 0, 0),
        (_JUMP_AT_LEAST, 0, 1, X32_BIT),
        (_RETURN, 0, 0, KILL_PROCESS),
    ]
    for rule in rules:
        call = number(rule.syscall, machine)
        if call is not None:
            block = _block(rule)
            code += [(_JUMP_EQUAL, 0, len(block), call), *block]
    code.append((_RETURN, 0, 0, default))
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in code)


def _block(rule: Rule) -> list[Instruction]:
    """Instructions for a call whose number matched; they always return."""
    block: list[Instruction] = [(_RETURN, 0, 0, rule.action)]
    if rule.conditions:
        block.append((_RETURN, 0, 0, REFUSE))
    for condition in reversed(rule.conditions):
        refuse = len(block) - 1  # distance from the first instruction of `block` to the refusal
        block = _test(condition, refuse) + block
    return block


def _test(condition: Condition, refuse: int) -> list[Instruction]:
    """Fall through when the condition holds; else jump to `refuse` instructions after this test."""
    low = 16 + 8 * condition.arg
    values = condition.values
    compare: list[Instruction] = []
    for index, value in enumerate(values):
        rest = len(values) - 1 - index
        compare.append((_JUMP_EQUAL, rest, 0 if rest else refuse, value))
    if condition.mask is not None:
        return [(_LOAD, 0, 0, low), (_AND, 0, 0, condition.mask), *compare]
    return [(_LOAD, 0, 0, low + 4), (_JUMP_EQUAL, 0, len(values) + 1 + refuse, 0), (_LOAD, 0, 0, low), *compare]
