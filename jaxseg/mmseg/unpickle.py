"""Reads a pickle as data: no class is imported, nothing is called.

What a pickle names or calls becomes a `Record`, whatever it is. Only the caller gives the records that it knows a
meaning. A hostile pickle can thus do no more than cost time and memory, and both are bounded: every operation is
counted, and what Python itself is weak at (hashing of nested tuples and of chosen integers) is refused.
"""

import pickletools
from collections.abc import Callable
from typing import IO, Any

MAX_OPERATIONS = 4_000_000
MAX_KEY_LENGTH = 1 << 16
MAX_TUPLE_KEYS = 10_000


class Damage(ValueError):
    """What is wrong with a file, in words that follow its name."""


class Record:
    """Something that a pickle names or calls, as inert data.

    Attributes:
        module: Where the pickle says the class or function is.
        name: Its name there.
        args: Of the call; None if it is named only.
        kwargs: Of the call.
        state: What the object's attributes were to be set to; None without.
        entries: What was to be appended to the object.
        items: Keys and values that were to be set in the object.
    """

    __slots__ = ("args", "entries", "items", "kwargs", "module", "name", "state")

    def __init__(self, module: str, name: str, args: Any = None, kwargs: Any = None):
        self.module, self.name, self.args, self.kwargs = module, name, args, kwargs
        self.state: Any = None
        self.entries: list[Any] = []
        self.items: list[tuple[Any, Any]] = []

    def __repr__(self) -> str:
        # Without what it holds: that may be endless.
        return f"<Record {self.module}.{self.name}>"


def unpickle(file: IO[bytes], persistent_load: Callable[[Any], Any]) -> Any:
    """The object tree of the pickle at the file's position, which moves to the pickle's end.

    Args:
        file: Its `read` and `readline` must not go beyond the pickle's bounds.
        persistent_load: Gives the node for a persistent id.

    Returns:
        None, bools, numbers, strings, bytes, lists, tuples, dicts, sets, records, and what persistent_load gives.

    Raises:
        Damage: The pickle is wrong, or is made to exhaust its reader.
        ValueError: It ends early.
    """
    machine = _Machine(persistent_load)
    for count, (opcode, argument, position) in enumerate(pickletools.genops(file)):
        if count == MAX_OPERATIONS:
            raise Damage(f"its pickle has over {MAX_OPERATIONS} operations")
        try:
            OPERATIONS[opcode.name](machine, argument)
        except (IndexError, KeyError):
            raise Damage(f"its pickle is damaged ({opcode.name} at byte {position})") from None
    return machine.result


def check_key(key: Any) -> None:
    """Refuses what is slow to hash or to compare as a key of a dict or a member of a set.

    Tuples hash all that they hold, again each time; and the hashes of large integers can be made to collide.

    Raises:
        Damage: It is none of None, bool, float, record, integer below 2^60, and string below 64 KiB.
    """
    if type(key) in (str, bytes) and len(key) <= MAX_KEY_LENGTH:
        return
    if type(key) is int and key.bit_length() <= 60:
        return
    if key is None or type(key) in (bool, float, Record):
        return
    raise Damage(f"its pickle has a {type(key).__name__} as a key that no checkpoint has")


class _Machine:
    """The stack machine that a pickle is a program of. One method for each operation that is more than a push."""

    def __init__(self, persistent_load: Callable[[Any], Any]):
        self.persistent_load = persistent_load
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.tuple_keys = 0
        self.result: Any = None

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def nothing(self, _: Any) -> None:
        """A hint for other readers."""

    def refuse(self, _: Any) -> None:
        raise Damage("its pickle refers to what is not in the file")

    def stop(self, _: Any) -> None:
        self.result = self.stack.pop()

    def mark(self, _: Any) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def pop_mark(self, _: Any) -> None:
        self.since_mark()

    def duplicate(self, _: Any) -> None:
        self.push(self.stack[-1])

    def put(self, index: int) -> None:
        # The memo is a dict, so a high index costs nothing; but see check_key about large integers.
        if not 0 <= index < 1 << 32:
            raise Damage("its pickle is damaged (memo index)")
        self.memo[index] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: int) -> None:
        self.push(self.memo[index])

    def tuple_of(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def append(self, _: Any) -> None:
        self.extend([self.stack.pop()])

    def extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is Record:
            target.entries.extend(values)
        elif type(target) is list:
            target.extend(values)
        else:
            raise Damage(f"its pickle is damaged (appends to a {type(target).__name__})")

    def add(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is set:
            target.update(self.keys(values))
        else:
            self.extend(values)

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def set_items(self, flat: list[Any]) -> None:
        target = self.stack[-1]
        if len(flat) % 2:
            raise Damage("its pickle is damaged (a key without a value)")
        if type(target) is Record:
            target.items.extend(zip(flat[::2], flat[1::2], strict=True))
        elif type(target) is dict:
            target.update(zip(self.keys(flat[::2]), flat[1::2], strict=True))
        else:
            raise Damage(f"its pickle is damaged (sets items of a {type(target).__name__})")

    def keys(self, values: list[Any]) -> list[Any]:
        for value in values:
            if type(value) is not tuple:
                check_key(value)
                continue
            self.tuple_keys += 1
            if len(value) > 16 or self.tuple_keys > MAX_TUPLE_KEYS:
                raise Damage("its pickle has tuples as keys that no checkpoint has")
            for member in value:
                check_key(member)
        return values

    def dict_since_mark(self, _: Any) -> None:
        flat = self.since_mark()
        self.push({})
        self.set_items(flat)

    def frozenset_since_mark(self, _: Any) -> None:
        self.push(frozenset(self.keys(self.since_mark())))

    def long(self, value: int) -> None:
        if value.bit_length() > 4096:
            raise Damage("its pickle has an integer that no checkpoint has")
        self.push(value)

    def named(self, full_name: str) -> None:
        # pickletools joins module and name by a space.
        module, _, name = full_name.partition(" ")
        self.push(Record(module, name))

    def named_by_stack(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (type(module) is str and type(name) is str):
            raise Damage("its pickle is damaged (the name of a class is not a string)")
        self.push(Record(module, name))

    def instance(self, full_name: str) -> None:
        args = tuple(self.since_mark())
        self.named(full_name)
        self.call(self.stack.pop(), args)

    def instance_by_stack(self, _: Any) -> None:
        callee, *args = self.since_mark() or [None]
        self.call(callee, tuple(args))

    def reduce(self, _: Any) -> None:
        args, callee = self.stack.pop(), self.stack.pop()
        self.call(callee, args)

    def new_with_keywords(self, _: Any) -> None:
        kwargs, args, callee = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.call(callee, args, kwargs)

    def call(self, callee: Any, args: Any, kwargs: Any = None) -> None:
        if type(args) is not tuple:
            raise Damage("its pickle is damaged (arguments are not a tuple)")
        if type(callee) is Record and callee.args is None:
            self.push(Record(callee.module, callee.name, args, kwargs))
        else:
            # The result of a call, called itself. As all records it is only written down.
            self.push(Record("", "call", (callee, *args), kwargs))

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is not Record:
            raise Damage(f"its pickle is damaged (sets the state of a {type(target).__name__})")
        target.state = state

    def persistent(self, saved_id: Any) -> None:
        self.push(self.persistent_load(saved_id))


OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "READONLY_BUFFER"), _Machine.nothing),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4", "NEXT_BUFFER"), _Machine.refuse),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"), _Machine.push),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _Machine.push),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _Machine.push),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _Machine.push),
    **dict.fromkeys(("INT", "LONG", "LONG1", "LONG4"), _Machine.long),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.reduce),
    "BYTEARRAY8": lambda machine, value: machine.push(bytes(value)),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "DICT": _Machine.dict_since_mark,
    "FROZENSET": _Machine.frozenset_since_mark,
    "APPEND": _Machine.append,
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.add(machine.since_mark()),
    "SETITEM": _Machine.set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "GLOBAL": _Machine.named,
    "STACK_GLOBAL": _Machine.named_by_stack,
    "INST": _Machine.instance,
    "OBJ": _Machine.instance_by_stack,
    "NEWOBJ_EX": _Machine.new_with_keywords,
    "BUILD": _Machine.build,
    "PERSID": _Machine.persistent,
    "BINPERSID": lambda machine, _: machine.persistent(machine.stack.pop()),
    "MEMOIZE": _Machine.memoize,
    "DUP": _Machine.duplicate,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "MARK": _Machine.mark,
    "STOP": _Machine.stop,
}
