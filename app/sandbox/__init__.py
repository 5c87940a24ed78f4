"""Run programs that a model wrote, against their tests, so that a program can't forge its verdict.

The way of a program, file by file:

    supervisor.py   starts a candidate and a judge, holds the limits, makes the verdict (local.py: one a core, in
                    threads; apart.py: in those of another process; `actors.judges`: on a cluster)
    process.py      starts the two zygotes, spawns and reaps their children, kills by pidfd (limits.py: the clock)
    tiers.py        what this machine can confine, found by trying (readable_paths.py: what a program may read)
    zygote.py       inside: gives up its rights once, then forks a child a run
    children.py     inside: forks and reaps so that nothing of one child is left for the next
    confine.py      inside: capabilities, Landlock, seccomp, rlimits (syscalls.py, seccomp.py: the filter; mounts.py)
    candidate.py    inside: runs the program, answers calls
    marks.py        marks the assertions of tests (splitting.py: whether program and tests can be kept apart)
    judge.py        inside, in another process: runs the tests (evidence.py: what held; test_source.py: what of
                    the tests the candidate has to evaluate; stub.py: asks the candidate; judge_process.py: the
                    judge as the supervisor sees it)
    wire.py         the frames between the two (values.py, decoder.py, iterators.py, raised.py: what they may hold)
    stdio.py, in_process.py   the two other kinds of tests (script.py: one run of a script)
    catalogue.py    the command `python -m app sandbox`

Known limits
- The kernel is shared: a bug in it is a way out. For programs of people who mean harm take a virtual machine as well.
- A program sees path names and sizes (stat) of what it may not open, below the top folders that hold Python, unless
  bubblewrap is there to hide them, and can time the machine.
- What all processes share can be moved by one program and felt by the next: caches, by timing; numbers that the kernel
  hands out in order; without user namespaces (a container that forbids them) process ids, the times in /proc and /sys
  and the times at which links were followed as well. docs/security.md says what each is worth.
- No subprocess, multiprocessing, sockets (but for a socket pair), temporary files, or signals to itself. Imports: the
  standard library, numpy, sortedcontainers, tzdata.
- A program that knows it is tested can treat the examples in its prompt as special cases: score on hidden tests.
- The judge compares copies. An argument that comes back as the result (`f(x) is x`), two arguments that are one object,
  and lists shared between arguments are separate objects there.
- An ndarray arrives as lists, so it may equal a list where numpy's own comparison raises.
- A class of exceptions that the program defines is caught by its built-in bases only. What a generator changes in the
  arguments while the tests iterate over it does not reach them.
- Tests that let a library keep an exception and look at it later (`Future.exception()`, `gather` with
  return_exceptions) fail the program that raised it.
- Tests whose first call can be sent and a later one not, in a way that their source does not show, fail the program.
- Tests of the tier `in_process` can be forged; they are marked and give no reward.
- The memory limit is on address space, for each process; a machine that lends its cores to N supervisors may need
  2 N times the limit.
- Never run on aarch64; its filter is compared with libseccomp's.
"""
