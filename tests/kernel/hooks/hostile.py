"""Hostile modules: what each does, and how it ends."""

from tests.kernel.hooks.plugins import module

LOOP = "(loop $again (br $again)) (i32.const 0)"
HOSTILE: dict[str, tuple[bytes, str]] = {
    "an endless loop": (module(LOOP), "it ran out of fuel|it ran longer than it may"),
    "memory without end": (
        module("(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable"),
        "it gave up",
    ),
    "deep recursion": (
        module(
            "(call $deep (i32.const 1))",
            more="(func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))",
        ),
        "nested too deep",
    ),
    "an answer outside of its memory": (module("(i32.const -8)"), "outside of its memory"),
    "a huge text": (
        module("(i64.store (i32.const 16) (i64.const 0x7fffffff00000000)) (i32.const 16)", hook="judge_result.1"),
        "more than 500 bytes",
    ),
    "a text outside of its memory": (
        module("(i64.store (i32.const 16) (i64.const 0x00000020fffffff0)) (i32.const 16)", hook="judge_result.1"),
        "outside of its memory",
    ),
    "a text that is none": (
        module(
            "(i64.store (i32.const 16) (i64.const 0x0000000100000020)) (i32.store8 (i32.const 32) (i32.const 255)) (i32.const 16)",
            hook="judge_result.1",
        ),
        "not UTF-8",
    ),
    "a read outside of its memory": (module("(drop (i64.load (i32.const -1))) (i32.const 0)"), "outside of its memory"),
    "a division by zero": (module("(i32.div_u (i32.const 1) (i32.const 0))"), "it broke off"),
}
